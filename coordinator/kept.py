"""What concepts kept of what they had learnt, by how many were in one model: for `orthofed plan`.

Measured once, on the base that ships: twelve people of one style and twelve of another, as
`orthofed client train` teaches them (docs/study.md). Of another base it is the shape, no promise.
Source of the numbers: the two summaries in benchmarks/study, with which a test compares them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Style = Literal["well known", "little known"]


@dataclass(frozen=True, slots=True)
class Kept:
    """``retention``: by the number of concepts, in the mean; 1 is all that they learnt alone.

    ``style``: how well the base draws what the concepts are. ``method``: the study's name of it.
    """

    style: Style
    how: str
    method: str
    lambda_: float
    retention: Mapping[int, float]

    @property
    def title(self) -> str:
        """Return what the row is called."""
        return f"a {self.style} style, {self.how} at {self.lambda_:g}"


_SUMMED, _FUSED = "hadamard_null50_slow", "hadamard_null50_slow_refit"
KEPT: Final = (
    Kept("well known", "summed", _SUMMED, 1.0, {3: 1.00, 6: 0.99, 12: 0.98}),
    Kept("well known", "summed", _SUMMED, 0.6, {3: 0.95, 6: 0.97, 12: 0.97}),
    Kept("well known", "fused", _FUSED, 1.0, {3: 0.97, 6: 0.96, 12: 0.94}),
    Kept("little known", "summed", _SUMMED, 1.0, {3: 0.91, 6: 0.75, 12: 0.01}),
    Kept("little known", "summed", _SUMMED, 0.6, {3: 0.82, 6: 0.77, 12: 0.59}),
    Kept("little known", "fused", _FUSED, 1.0, {3: 0.89, 6: 0.84, 12: 0.79}),
)


def kept_as_dicts() -> list[dict[str, object]]:
    """Return what ``--json`` prints."""
    return [
        {
            "style": row.style,
            "how": row.how,
            "lambda": row.lambda_,
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
