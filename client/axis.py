"""One axis of a plot: what changes along it, and to which values.

    lambda=0,0.5,1    the weight of every concept's residual
    prompt            the prompts given, one after the other
    seed=3,9          or the seeds given
    concept=anna-k7   what stands for {} in prompts and regions; without values all of the release
    model=base,single,merged    single: each concept that the prompts name, alone
    guidance=, steps=, apart=   as the options of these names

Pure: what a release holds comes in. As AUTOMATIC1111's X/Y/Z plot, for those who know it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..core.errors import InputError
from ..core.merge import MAX_LAMBDA

NUMBERS: Final[Mapping[str, tuple[float, float]]] = {
    "lambda": (0, MAX_LAMBDA / 1024),
    "guidance": (0, 100),
    "apart": (0, 1),
    "seed": (0, 2**63 - 1),
    "steps": (1, 1000),
}
"""Axes of numbers, with the least and the greatest."""
WHOLE: Final = ("seed", "steps")
AXES: Final = (*NUMBERS, "prompt", "concept", "model")
MAX_VALUES: Final = 64


@dataclass(frozen=True, slots=True)
class Axis:
    """What changes, one of `AXES`, and to what; numbers have been read and are in bounds."""

    kind: str
    values: tuple[str, ...]

    @staticmethod
    def parse(text: str, given: Mapping[str, Sequence[str]]) -> "Axis":
        """Return the axis that ``text`` names; without values it has those ``given`` for its kind.

        Raises InputError: no such axis, no value, too many, or one out of bounds.

        >>> Axis.parse("lambda=0, 0.5,1", {})
        Axis(kind='lambda', values=('0', '0.5', '1'))
        >>> Axis.parse("seed", {"seed": ["3", "9"]}).values
        ('3', '9')
        """
        kind, written, rest = (part.strip() for part in text.partition("="))
        if kind not in AXES:
            raise _wrong(f"{text[:60]!r} is no axis", f"an axis is one of {', '.join(AXES)}")
        named = tuple(value for part in rest.split(",") if (value := part.strip()))
        values = named if written else tuple(given.get(kind, ()))
        if kind == "prompt" and written:
            raise _wrong(
                "prompts after --x or --y", "a prompt may hold commas, so each has --prompt"
            )
        if not 1 <= len(values) <= MAX_VALUES:
            what = f"the axis {kind} has {len(values)} values"
            raise _wrong(what, f"it needs 1 to {MAX_VALUES}, such as {kind}=A,B")
        for value in values if kind in NUMBERS else ():
            _check(kind, value)
        return Axis(kind, values)


def _check(kind: str, value: str) -> None:
    low, high = NUMBERS[kind]
    try:
        number = int(value) if kind in WHOLE else float(value)
    except ValueError:
        number = float("nan")
    if not low <= number <= high:  # also not a number
        raise _wrong(f"{kind} {value[:40]!r}", f"it is a number from {low:g} to {high:g}")


def _wrong(what: str, why: str) -> InputError:
    return InputError(
        what, why=why, fix="write it as --x lambda=0,0.5,1 --y prompt", code="bad-axis"
    )
