"""The acceptance figures of one concept: made once, kept at home, with what they need fetched.

    home/runs/<concept>/scores.json    loss_base, loss_single; gain_trained, gain_held_out,
                                       memorisation; beside a release loss_merged, retention

Scoring compares the packed contribution with the newest release, of which it fetches info.json, the
vectors and the stacked LoRA, verified, into a folder that goes again. Left to others: the losses
(acceptance.py).
"""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..core.errors import Refused
from ..core.release import ReleaseManifest
from .channel import Channel
from .home import write_whole
from .origin import WireOrigin
from .pull import Pull
from .seen_heads import SeenHeads

if TYPE_CHECKING:
    from .acceptance import Acceptance

SCORES: Final = "scores.json"
_NEWEST: Final = "newest"


@dataclass(frozen=True, slots=True)
class OwnerScores:
    """The figures in one concept's folder; ``seen``: what this client remembers of ledgers."""

    folder: Path
    seen: SeenHeads

    def kept(self) -> dict[str, float]:
        """Return the figures that were made before, or none."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return json.loads((self.folder / SCORES).read_bytes())
        return {}

    def forget(self) -> None:
        """Drop figures that were made for other bytes."""
        (self.folder / SCORES).unlink(missing_ok=True)

    def make(
        self, channel: Channel, log: str, accept: Callable[[Path | None], "Acceptance"]
    ) -> dict[str, float]:
        """Return new figures and keep them; ``accept`` is given the newest release's folder."""
        losses = accept(self._newest(channel, log))
        scores = {
            "loss_base": losses.loss_base,
            "loss_single": losses.loss_single,
            "gain_trained": losses.memorisation.gain_trained,
            "gain_held_out": losses.memorisation.gain_held_out,
            "memorisation": losses.memorisation.score,
        }
        if losses.loss_merged is not None and losses.retention is not None:
            scores |= {"loss_merged": losses.loss_merged, "retention": losses.retention}
        write_whole(self.folder / SCORES, json.dumps(scores).encode())
        shutil.rmtree(self.folder / _NEWEST, ignore_errors=True)
        return scores

    def _newest(self, channel: Channel, log: str) -> Path | None:
        """Fetch what scoring needs of the newest release, or None before the first."""
        folder = self.folder / _NEWEST
        try:
            fetch_scored(channel, log, folder, self.seen)
        except Refused as error:
            if error.code != "no-such-release":
                raise
            return None
        return folder


def fetch_scored(
    channel: Channel, log: str, folder: Path, seen: SeenHeads, n: int = 0, *, leaf: int = -1
) -> ReleaseManifest:
    """Fetch into ``folder`` what scoring needs of release ``n``, 0 for the newest, trusted.

    ``leaf``: also the blob of this contribution, if the release holds it. Returns its manifest.

    Raises Refused: there is no such release. Raises VerificationFailed: it is not the federation's.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier try, perhaps of an older release
    pull = Pull(WireOrigin(channel), log, folder, seen)
    release = pull.begin(n).release
    pull.fetch(release, [e for e in release.manifest.files if _is_scored(e.name)])
    if leaf >= 0:
        pull.fetch_contributions(release, {leaf})
    return release.manifest


def _is_scored(name: str) -> bool:
    """Whether scoring reads this file of a release: variant.py names them."""
    folder = name.partition("/")[0]
    return name == "info.json" or (
        folder in ("embeddings", "layerwise", "lora") and not name.endswith("-a1111.safetensors")
    )
