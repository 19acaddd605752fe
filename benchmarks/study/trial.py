"""One set of concepts under one method: what is trained, merged and judged."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trial:
    """``factor`` is on the method's rates; ``names`` are merged, in the order of the concepts."""

    method: str
    factor: float
    names: tuple[str, ...]
    lambda_: float = 1.0
