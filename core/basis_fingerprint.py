"""The fingerprint of one slot's block over all layers: what a contribution says it was trained on.

Law (T11): it depends on the spec's basis, seed, layers and ranks and on the slot alone, so both
sides derive it and compare. Source: security.md 4.5. Cost: one layer's block in memory at a time.
"""

from .basis import integer_block
from .contribution import block_fingerprint
from .fields import NO_ID
from .spec import FederationSpec


def basis_fingerprint(spec: FederationSpec, slot: int) -> str:
    """Return the fingerprint of a slot's block in every layer; zeros for inexact families.

    Raises SpecError: the spec has no such slot.
    """
    if spec.basis != "hadamard":
        return NO_ID
    return block_fingerprint(
        integer_block(
            spec.basis,
            seed=spec.seed,
            layer=layer.path,
            width=layer.width,
            rank=spec.layer_rank(layer),
            slot=slot,
        )
        for layer in spec.layers
    )
