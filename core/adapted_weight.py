"""The weights of a base model that a merge changes, each as ``checkpoint/`` and ``full/`` hold it.

Law (formats.md 5.6): cast(float64(W) + dW), one rounding to the weight's own type; so both files
have the same numbers. Cost: one tensor; the arithmetic is core/merged_weight.py's.
"""

from .base_files import BaseFiles, Place
from .merged_weight import merged_weight
from .merging import Merge
from .spec import Layer


def adapted_layers(base: BaseFiles, merge: Merge) -> dict[tuple[str, str], Layer]:
    """Return the adapted layers by (file, tensor name).

    Raises InputError: the base lacks one.
    """
    found: dict[tuple[str, str], Layer] = {}
    for layer in merge.spec.layers:
        place = base.place(layer)
        found[(place.file.name, place.info.name)] = layer
    return found


def adapted_weight(place: Place, layer: Layer, merge: Merge) -> memoryview:
    """Return float64(W) + dW, rounded once, as the bytes of a file."""
    spec = merge.spec
    values = merged_weight(
        place.matrix(),
        merge.terms(layer),
        family=spec.basis,
        dtype=place.dtype,
        window=(spec.exponent_low, spec.exponent_high),
    )
    return values.data.cast("B")
