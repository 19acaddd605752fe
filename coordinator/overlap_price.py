"""What concepts beyond the disjoint slots would cost the others, width by width.

Each number is an energy beside a concept's own: 0.06 of another concept is heard in the directions
of this one. Expected by formula, and measured on the blocks of one seed, in one layer of each
width: a founded federation has another seed, and much the same numbers. Source: core/overlap.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core.layer import Layer
from ..core.overlap import Measured, Price, measured, price, stages
from ..core.spec import BaseModel, Encoder, FederationSpec

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class WidthPrice:
    """The price at one width, which holds ``disjoint`` slots of ``rank`` without overlap.

    ``share``: r / m, what is heard of one concept of another basis. ``measured``: None where all
    slots are of one basis.
    """

    width: int
    rank: int
    disjoint: int
    share: float
    measured: Measured | None
    stages: tuple[Price, ...]


@dataclass(frozen=True, slots=True)
class OverlapPrice:
    """The price of ``slots`` of which the first ``disjoint`` share nothing in any layer."""

    slots: int
    disjoint: int
    widths: tuple[WidthPrice, ...]

    @classmethod
    def of(cls, layers: Sequence[Layer], ranks: Mapping[int, int], *, slots: int) -> "OverlapPrice":
        """Return the price of ``slots``, more than are disjoint in the narrowest layers."""
        shown = {layer.width: layer for layer in reversed(layers)}
        disjoint = min(width // rank for width, rank in ranks.items())
        spec = FederationSpec(
            name="planned",
            base=BaseModel("other", "planned", "local", "0" * 64, "LicenseRef-unknown"),
            basis="hadamard",
            seed=bytes(32),
            ranks=tuple(sorted(ranks.items())),
            layers=tuple(sorted(shown.values())),
            encoders=(Encoder("text_encoder", 1),),
            capacity=slots,
            epochs=-(-slots // disjoint),
        )
        return cls(
            slots,
            disjoint,
            tuple(
                WidthPrice(
                    width,
                    rank,
                    width // rank,
                    rank / width,
                    measured(spec, shown[width]),
                    tuple(
                        price(n, slots=slots, rank=rank, width=width)
                        for n in stages(width // rank, slots)
                    ),
                )
                for width, rank in spec.ranks
            ),
        )

    def as_dict(self) -> dict[str, object]:
        """Return what ``--json`` prints."""
        return {
            "disjoint_slots": self.disjoint,
            "widths": [
                {
                    "width": each.width,
                    "rank": each.rank,
                    "disjoint_slots": each.disjoint,
                    "expected": round(each.share, 6) if each.measured else 0.0,
                    "measured": round(each.measured.mean, 6) if each.measured else 0.0,
                    "largest": round(each.measured.largest, 6) if each.measured else 0.0,
                    "stages": [
                        {
                            "concepts": at.concepts,
                            "next_adds": round(at.next_adds, 6),
                            "heard": round(at.heard, 6),
                            "least": round(at.least, 6),
                            "drawn": round(at.drawn, 6),
                        }
                        for at in each.stages
                    ],
                }
                for each in self.widths
            ],
        }

    def lines(self) -> list[str]:
        """Return what is printed for people: a row a width, then a row a number of concepts."""
        pairs = [
            f"{each.width:>6} {each.disjoint:>9}"
            + (
                f" {each.share:>9.2%} {each.measured.mean:>9.2%} {each.measured.largest:>8.2%}"
                if each.measured
                else f" {'0':>9} {'0':>9} {'0':>8}"
            )
            for each in self.widths
        ]
        rows = [
            f"{each.width:>6} {at.concepts:>9} {_percent(at.next_adds):>10} {at.heard:>6.2f}"
            f" {at.least:>6.2f} {at.drawn:>6.2f}"
            for each in self.widths
            if each.measured
            for at in (*each.stages[: _SHOWN - 1], *each.stages[_SHOWN - 1 :][-1:])
        ]
        return [
            f"overlap: of {self.slots} slots the first {self.disjoint} share nothing",
            "of two that do, one hears of the other:",
            " width  disjoint  expected  measured  largest",
            *pairs,
            "and of all others together, in the mean over the concepts so far:",
            " width  concepts  next adds  heard  least  drawn",
            *rows,
            "next adds: one concept more, to each that it overlaps with; least: no choice of",
            "blocks does better; drawn: columns drawn by chance, as in the paper",
        ]


def after(ranks: Mapping[int, int]) -> str:
    """Return in one line what comes after the last disjoint slot."""
    disjoint = min(width // rank for width, rank in ranks.items())
    full = [(m, r) for m, r in sorted(ranks.items()) if m // r < 2 * disjoint]
    shares = sorted({r / m for m, r in full})
    shared = " to ".join(f"{share:.1%}" for share in dict.fromkeys((shares[0], shares[-1])))
    widths = ", ".join(str(m) for m, _ in full)
    where = f", at width {widths} alone" if len(full) < len(ranks) else ""
    return (
        f"then    {2 * disjoint:<7}  with --overlap 2: each further one shares {shared} of its"
        f" directions with each of the {disjoint}{where}"
    )


def _percent(share: float) -> str:
    return f"{share:.2%}" if share else "0"
