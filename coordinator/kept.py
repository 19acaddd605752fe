"""What concepts kept of what they had learnt, by how many were in one model: for `orthofed plan`.

Measured once, on the base that ships: twelve drawn people of one style, as `orthofed client train`
teaches them (docs/study.md). Of another base it is the shape, no promise. Source of the numbers:
benchmarks/study/summary.json, with which a test compares them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_DEFAULT: Final = 50
"""null_weight of `orthofed client train`, whose settings this role does not import."""


@dataclass(frozen=True, slots=True)
class Kept:
    """``retention``: by the number of concepts, in the mean; 1 is all that they learnt alone.

    ``method``: the study's name of it. ``null_weight``: the setting of that name that all
    were taught with, 50 by default.
    """

    how: str
    method: str
    lambda_: float
    retention: Mapping[int, float]
    null_weight: int = _DEFAULT

    @property
    def title(self) -> str:
        """Return what the row is called."""
        more = f", null_weight {self.null_weight}" if self.null_weight != _DEFAULT else ""
        return f"{self.how} at {self.lambda_:g}{more}"


KEPT: Final = (
    Kept("summed", "hadamard_null50_slow", 1.0, {3: 1.00, 6: 0.99, 12: 0.98}),
    Kept("summed", "hadamard_null50_slow", 0.6, {3: 0.95, 6: 0.97, 12: 0.97}),
    Kept("summed", "hadamard_null10_slow", 1.0, {3: 0.97, 6: 0.86, 12: 0.70}, null_weight=10),
)


def kept_as_dicts() -> list[dict[str, object]]:
    """Return what ``--json`` prints."""
    return [
        {
            "how": row.how,
            "lambda": row.lambda_,
            "null_weight": row.null_weight,
            "retention": {str(n): share for n, share in row.retention.items()},
        }
        for row in KEPT
    ]


def kept_lines() -> list[str]:
    """Return what is printed for people."""
    wide = max(len(row.title) for row in KEPT)
    return [
        "of what a concept learns, company leaves (measured on the base that ships, twelve people",
        "of one style; of another base it is the shape), by the number of concepts in one model:",
        " " * wide + "".join(f"{n:>6}" for n in KEPT[0].retention),
        *(
            f"{row.title:<{wide}}" + "".join(f"{share:>6.2f}" for share in row.retention.values())
            for row in KEPT
        ),
    ]
