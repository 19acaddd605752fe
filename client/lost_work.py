"""Work of one concept that came to nothing: set aside, and taken back where it serves again.

    home/runs/<concept>/lost-<fence>-<slot>-<random>/    blob, manifest, scores, training saves

Laws: nothing of the owner's work is deleted; a training goes on from the saves that were lost with
the very slot that is leased again, since its block is the same (reliability.md 5: another slot's is
not); a save that was made for other settings or images is not believed (checkpoint.py).
"""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .owner_scores import SCORES
from .state import BLOB, MANIFEST, RECIPIENTS, SEALED, WRAPS

SAVES: Final = "training"
"""The folder of the training saves."""


@dataclass(frozen=True, slots=True)
class LostWork:
    """What lies aside in the folder of one concept."""

    folder: Path

    def set_aside(self, slot: int, fence: int) -> None:
        """Move what was made under this lease into a folder of its own."""
        aside = self.folder / f"lost-{fence}-{slot}-{secrets.token_hex(2)}"
        aside.mkdir(parents=True)
        for name in (BLOB, SEALED, WRAPS, RECIPIENTS, MANIFEST, SCORES, SAVES):
            if (self.folder / name).exists():
                (self.folder / name).rename(aside / name)

    def take_back(self, slot: int) -> None:
        """Put the newest training saves of ``slot`` back in their place, if that is empty."""
        lost = [path for path in self.folder.glob(f"lost-*-{slot}-*/{SAVES}") if path.is_dir()]
        if lost and not (self.folder / SAVES).exists():
            max(lost, key=lambda path: path.stat().st_mtime_ns).rename(self.folder / SAVES)
