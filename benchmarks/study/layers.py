"""Crosstalk of all concepts of a study in one model, layer by layer, and by kind of layer.

    cd benchmarks && python -m study.layers results/study-cpu-1.json --work FOLDER \
        --methods haar_draw hadamard_null10_slow --out results/study-layers-cpu-1.json

Both figures are crosstalk.py's, at lambda 1, which neither of them depends on. A kind is a text
encoder's attention, or self-attention or cross-attention of the UNet, inputs (q, k, v) apart from
outputs; its figure is the mean over its layers. Source: method.md 6.1, 8; the paper's Fig. 9.
"""

import statistics
from collections.abc import Mapping
from typing import Any

from .again import Trained, look
from .crosstalk import functional_by_layer, weights_by_layer


def _row(trained: Trained) -> dict[str, Any]:
    """Return both figures of one method, by kind and by layer."""
    parts = [*trained.parts.values()]
    variants, inputs = [p.variant for p in parts], [trained.bench.inputs(p) for p in parts]
    by_layer = {
        "functional": functional_by_layer(variants, inputs),
        "weights": weights_by_layer(variants),
    }
    return {
        figure: {"kinds": _by_kind(each), "layers": {k: round(v, 4) for k, v in each.items()}}
        for figure, each in by_layer.items()
    }


def _by_kind(by_layer: Mapping[str, float]) -> dict[str, float]:
    kinds = dict[str, list[float]]()
    for path, value in by_layer.items():
        kinds.setdefault(_kind_of(path), []).append(value)
    return {kind: round(statistics.fmean(some), 4) for kind, some in kinds.items()}


def _kind_of(path: str) -> str:
    """Return which kind of layer a path is of: ``unet attn2 out``, ``text_encoder in``."""
    component, *_ = path.split(".")
    side = "out" if ".to_out." in path or path.endswith("out_proj") else "in"
    attention = [part for part in path.split(".") if part in {"attn1", "attn2"}]
    return " ".join([component, *attention, side])


if __name__ == "__main__":
    look("layers", "where concepts meet", _row)
