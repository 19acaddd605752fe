"""One line of `orthofed doctor FILE`: what was looked at, whether it is well, and what to do."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class FileCheck:
    """``fix`` is one imperative sentence, empty where there is nothing to do.

    ``what`` may quote the file; it is escaped and cut (core/shown.py) where it was made.
    """

    level: Level
    name: str
    what: str
    fix: str = ""
