"""The saves of a running training: whole, believed only by their hash, two generations deep.

    train-<step>-<run>.safetensors    A, token vectors, the optimiser's state and average of each
    train-<step>-<run>.json           step, losses, the optimiser's numbers, its run, SHA-256

Laws: each file appears whole (home.py, F1), the JSON last, so a kill inside a save leaves the
older generation to believe in; a save made for other settings, images, spec or slot is not
believed, and never takes the place of one of this run, nor one of this run its place: <run> is a
digest of the identity, so the very same step has a file of each (earlier versions wrote none, and
are read). Draws are functions of the step (draws.py), so the step stands for every generator and
for the sampler's place. No pickle. Source: reliability.md 5.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from .home import write_whole

_GENERATIONS = 2


@dataclass(frozen=True, slots=True)
class TrainingState:
    """All that the next step reads: the step that comes next and the tensors by name."""

    step: int
    tensors: Mapping[str, np.ndarray]
    losses: tuple[float, ...]
    numbers: Mapping[str, Any] = field(default_factory=dict)  # of the optimiser: plain JSON values


@dataclass(frozen=True, slots=True)
class TrainingSaves:
    """The saves in one folder that belong to the run called ``identity``."""

    folder: Path
    identity: str  # a digest of everything that decides the run's bits

    def write(self, state: TrainingState) -> None:
        """Save ``state``; keep it, the generation before it, and as many of other runs."""
        data = save(dict(state.tensors))
        name = f"train-{state.step:08d}-{hashlib.sha256(self.identity.encode()).hexdigest()[:8]}"
        write_whole(self.folder / f"{name}.safetensors", data)
        record = {
            "identity": self.identity,
            "losses": state.losses,
            "numbers": dict(state.numbers),
            "sha256": hashlib.sha256(data).hexdigest(),
            "step": state.step,
        }
        written = self.folder / f"{name}.json"
        write_whole(written, json.dumps(record).encode())
        for old in self._superseded(written):
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)

    def newest(self) -> TrainingState | None:
        """Return the newest state that is whole and belongs to this run, or None."""
        states = (self._read(record) for record in self._records())
        return next((state for state in states if state is not None), None)

    def clear(self) -> None:
        """Delete every save: the contribution is packed and the receipt is kept."""
        for path in self.folder.glob("train-*"):
            path.unlink()

    def _records(self) -> Sequence[Path]:
        return sorted(self.folder.glob("train-*.json"), reverse=True)

    def _superseded(self, written: Path) -> Sequence[Path]:
        """Return the records that nobody needs any more, now that ``written`` is there.

        Of this run what is ahead of it goes too: the run would have gone on from there, had it been
        whole. Other runs keep their last two saves, all together: settings are changed back.
        """
        records = self._records()
        mine = [path for path in records if self._is_mine(path)]
        kept = [path for path in mine if path <= written][:_GENERATIONS]
        others = [path for path in records if path not in mine]
        others.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        return [path for path in records if path not in (*kept, *others[:_GENERATIONS])]

    def _is_mine(self, path: Path) -> bool:
        try:
            return json.loads(path.read_bytes())["identity"] == self.identity
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _read(self, path: Path) -> TrainingState | None:
        try:
            record = json.loads(path.read_bytes())
            data = path.with_suffix(".safetensors").read_bytes()
            whole = hashlib.sha256(data).hexdigest() == record["sha256"]
            if not whole or record["identity"] != self.identity:
                return None
            return TrainingState(
                record["step"], load(data), tuple(record["losses"]), record["numbers"]
            )
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return None  # a damaged generation: the caller goes on with the older one
