"""What a command of the owner's says on its way: names with plain values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Happened:
    """One step of the way: a name and its plain values, ready to be a JSON object."""

    name: str
    values: Mapping[str, object]


Report = Callable[[Happened], None]
"""Whom it is told to."""
