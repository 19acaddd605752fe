"""One set of concepts under one method: what is trained, merged and judged."""

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
