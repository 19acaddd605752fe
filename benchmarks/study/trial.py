"""One set of concepts under one method: what is trained, merged and judged."""

import random
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trial:
    """``factor`` is on the method's rates; ``names`` are merged, in the order of the concepts.

    ``seed`` is that of the trainings: what a LoRA starts from, the order of images, their noise.
    """

    method: str
    factor: float
    names: tuple[str, ...]
    lambda_: float = 1.0
    seed: int = 0

    @property
    def cell(self) -> str:
        """Return "SIZE@LAMBDA"; a size of 1 is the concept alone."""
        return f"{len(self.names)}@{self.lambda_:g}"


def sets_of(names: tuple[str, ...], size: int, count: int, *, seed: int) -> list[tuple[str, ...]]:
    """Return ``count`` sets drawn by chance; those of a smaller count are among those of a larger.

    There is one set of all names, and at least that.
    """
    drawn: set[tuple[str, ...]] = set()
    source = random.Random(f"{seed}/{size}")  # noqa: S311  # the same sets for everybody
    while len(drawn) < (count if size < len(names) else 1):
        drawn.add(tuple(sorted(source.sample(names, size), key=names.index)))
    return sorted(drawn)


def is_among(trial: Trial, names: tuple[str, ...], sizes: Mapping[int, int], *, seed: int) -> bool:
    """Tell whether a trial is of one concept, or of a set that ``sizes`` asks for.

    ``sizes``: how many sets of each size; of a size that is not there all.
    """
    size = len(trial.names)
    count = sizes.get(size)
    return size == 1 or count is None or trial.names in sets_of(names, size, count, seed=seed)
