"""What concepts kept of what they had learnt, by how many were in one model: for `orthofed plan`.

Measured once, on the base that ships: twelve people of one style and twelve of another, as
`orthofed client train` teaches them (docs/study.md). Of another base it is the shape, no promise.
Source of the numbers: the two summaries in benchmarks/study, with which a test compares them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Style = Literal["well known", "little known"]


_DEFAULT: Final = 10
"""null_weight of `orthofed client train`, whose settings this role does not import."""


@dataclass(frozen=True, slots=True)
class Kept:
    """``retention``: by the number of concepts, in the mean; 1 is all that they learnt alone.

    ``style``: how well the base draws what the concepts are. ``method``: the study's name of it.
    ``null_weight``: the setting of that name that all were taught with, 10 by default.
    ``layerwise``: in a federation of layer-wise tokens, at a third of the default rates of A
    (docs/training.md).
    """

    style: Style
    how: str
    method: str
    lambda_: float
    retention: Mapping[int, float]
    null_weight: int = _DEFAULT
    layerwise: bool = False

    @property
    def title(self) -> str:
        """Return what the row is called."""
        more = f", null_weight {self.null_weight}" if self.null_weight != _DEFAULT else ""
        more += ", layer-wise tokens" if self.layerwise else ""
        return f"a {self.style} style, {self.how} at {self.lambda_:g}{more}"


_SUMMED, _FUSED = "hadamard_null10_slow", "hadamard_null10_slow_refit"
_QUIETER, _LAYERWISE = "hadamard_null50_slow", "hadamard_layered_null10_slow"
KEPT: Final = (
    Kept("well known", "summed", _SUMMED, 1.0, {3: 0.97, 6: 0.86, 12: 0.70}),
    Kept("well known", "summed", _SUMMED, 0.6, {3: 0.93, 6: 0.91, 12: 0.88}),
    Kept("well known", "fused", _FUSED, 1.0, {3: 0.94, 6: 0.92, 12: 0.90}),
    Kept("well known", "summed", _QUIETER, 1.0, {3: 1.00, 6: 0.99, 12: 0.98}, 50),
    Kept("well known", "summed", _LAYERWISE, 0.6, {3: 0.97, 6: 0.97, 12: 0.96}, layerwise=True),
    Kept("little known", "summed", _SUMMED, 1.0, {3: 0.85, 6: 0.57, 12: -0.71}),
    Kept("little known", "summed", _SUMMED, 0.6, {3: 0.79, 6: 0.71, 12: 0.37}),
    Kept("little known", "fused", _FUSED, 1.0, {3: 0.84, 6: 0.77, 12: 0.72}),
    Kept("little known", "summed", _QUIETER, 1.0, {3: 0.91, 6: 0.75, 12: 0.01}, 50),
    Kept("little known", "summed", _LAYERWISE, 0.6, {3: 0.94, 6: 0.92, 12: 0.85}, layerwise=True),
)


def kept_as_dicts() -> list[dict[str, object]]:
    """Return what ``--json`` prints."""
    return [
        {
            "style": row.style,
            "how": row.how,
            "lambda": row.lambda_,
            "null_weight": row.null_weight,
            "layerwise_tokens": row.layerwise,
            "retention": {str(n): share for n, share in row.retention.items()},
        }
        for row in KEPT
    ]


def kept_lines() -> list[str]:
    """Return what is printed for people."""
    wide = max(len(row.title) for row in KEPT)
    return [
        "of what a concept learns, company leaves (twelve people of a style that the base which",
        "ships draws well, and of one that it draws less well; of another base it is the shape),",
        "by the number of concepts in one model:",
        " " * wide + "".join(f"{n:>6}" for n in KEPT[0].retention),
        *(
            f"{row.title:<{wide}}" + "".join(f"{share:>6.2f}" for share in row.retention.values())
            for row in KEPT
        ),
    ]
