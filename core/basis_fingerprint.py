"""The fingerprint of one slot's block over all layers: what a contribution says it was trained on.

Law (T11): it depends on the spec's basis, seed, layers and ranks and on the slot alone, so both
sides derive it and compare. Source: security.md 4.5. Cost: 32 layers' blocks in memory at a time.
"""

from .contribution import block_fingerprint
from .fields import NO_ID
from .hadamard import HadamardColumns, integers_together
from .spec import FederationSpec
from .spec_blocks import slot_block


def basis_fingerprint(spec: FederationSpec, slot: int) -> str:
    """Return the fingerprint of a slot's block in every layer; zeros for inexact families.

    Raises SpecError: the spec has no such slot.
    """
    if spec.basis != "hadamard":
        return NO_ID
    blocks = (slot_block(spec, layer, slot) for layer in spec.layers)
    exact = [block for block in blocks if isinstance(block, HadamardColumns)]
    return block_fingerprint(integers_together(exact))
