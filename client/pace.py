"""Stops a training that crawls, and says why it probably does.

    20 steps in a row, each over slow_factor x the seconds that the dry run measured

A GPU whose memory is full does not fail on some systems: the driver moves what does not fit to the
main memory, and a step takes fifty times as long, without a word. Nothing here reads a clock. The
measured figure is kept beside the saves with a mark of machine, versions and settings; under
another mark it says nothing. It is no part of the run's identity. Steps under half a second never
count: so few seconds are lost to them that a busy machine is no reason to stop. Source: product.md
5, "Will-it-fit probe".
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import diffusers
import torch

from ..core.errors import OrthoFedError
from .home import write_whole
from .out_of_memory import smaller
from .placement import name_of
from .training_settings import TrainingSettings

_PATIENCE: Final = 20
_HARMLESS_S: Final = 0.5


@dataclass(slots=True)
class Pace:
    """Counts slow steps in a row."""

    probed_s: float  # of a step, in the dry run
    settings: TrainingSettings
    device: torch.device
    slow: int = 0

    def look(self, seconds: float) -> None:
        """Note that a step took ``seconds``. Call it between steps, where the state is whole.

        Raises OrthoFedError: it is the twentieth slow one in a row; the caller saves the run.
        """
        bound_s = max(_HARMLESS_S, self.settings.slow_factor * self.probed_s)
        is_slow = self.settings.slow_factor > 0 and seconds > bound_s
        self.slow = self.slow + 1 if is_slow else 0
        if self.slow < _PATIENCE:
            return
        on_gpu = self.device.type != "cpu"
        raise OrthoFedError(
            f"{_PATIENCE} steps in a row took over {bound_s:.3g} s, the last one {seconds:.3g} s; "
            f"{self.probed_s:.3g} s was measured before",
            why=(
                "the GPU's memory has probably spilled into the main memory, or others use it"
                if on_gpu
                else "memory has probably gone to swap, or other programs take the processor"
            )
            + "; everything so far is saved",
            fix=f"close other programs{' that use the GPU' if on_gpu else ''}; or "
            f"{'; or '.join(smaller(self.settings))}; or set slow_factor = 0 to go on at any pace; "
            "then run the same command again",
            code="crawling",
        )


@dataclass(frozen=True, slots=True)
class KeptPace:
    """The measured seconds of a step, kept for the processes that go on with the same training."""

    path: Path
    mark: str

    @staticmethod
    def beside(saves: Path, settings: TrainingSettings, device: torch.device) -> "KeptPace":
        """Return where the figure lies, for this machine, these versions and settings."""
        parts = [settings.as_dict(), name_of(device), torch.__version__, diffusers.__version__]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return KeptPace(saves / "pace.json", digest)

    def write(self, seconds: float) -> None:
        """Keep the figure."""
        write_whole(self.path, json.dumps({"mark": self.mark, "step_s": seconds}).encode())

    def read(self) -> float | None:
        """Return the figure, or None where there is none that still says something."""
        try:
            said = json.loads(self.path.read_bytes())
            return float(said["step_s"]) if said["mark"] == self.mark else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
