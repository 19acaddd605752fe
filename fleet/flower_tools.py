"""Flower's console commands: where they are, their environment, and one call with JSON back.

Laws: flwr is never imported here, only started; a process gets an environment from nothing, with
every switch that stops it from calling home (flower.md 5: each start reports otherwise), and a
private FLWR_HOME. Without flwr the error names the line that installs it (F15).
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import OrthoFedError
from .leash import leashed

_COMMAND_S = 40.0
_NEEDED = ("flwr", "flower-superlink", "flower-superexec", "flower-supernode")
NO_ANSWER = "no answer"
SWITCHES = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True, slots=True)
class FlowerTools:
    """Flower's commands with a private home for what they write."""

    bin: Path
    home: Path

    @staticmethod
    def found(home: Path) -> "FlowerTools":
        """Return the commands beside this Python's own.

        Raises OrthoFedError (flower-missing): they are not installed.
        """
        folder = Path(sys.executable).parent
        missing = [name for name in _NEEDED if not (folder / name).is_file()]
        if missing:
            raise OrthoFedError(
                f"{', '.join(missing)} not found in {folder}",
                why="the fleet runs on Flower, which is an extra of its own",
                fix='run pip install "orthofed[flower]" in this environment',
                code="flower-missing",
            )
        return FlowerTools(folder, home)

    def environment(self) -> dict[str, str]:
        """Return the whole environment of a Flower process; nothing of ours is handed down."""
        return {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "HOME": str(self.home),
            "FLWR_HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "PYTHONSAFEPATH": "1",
            **SWITCHES,
        }

    def path(self, name: str) -> str:
        """Return the absolute path of one command."""
        return str(self.bin / name)

    def ask(self, *arguments: str) -> dict[str, Any]:
        """Run one ``flwr`` command with ``--format json`` and return what it says.

        ``success`` is true, or false with an ``error-message``: refused, or no answer in time.
        Cost: 2 to 3 s of a core (flower.md 3).
        """
        return answer_of(
            [self.path("flwr"), *arguments, "--format", "json"],
            environment=self.environment(),
            folder=self.home,
        )


def answer_of(
    argv: Sequence[str], *, environment: Mapping[str, str], folder: Path
) -> dict[str, Any]:
    """Return the JSON object that a command printed; that it failed if it printed no such thing."""
    failed = {"success": False, "error-message": NO_ANSWER}
    try:
        done = subprocess.run(  # noqa: S603  # our own command line
            leashed(argv),
            capture_output=True,
            cwd=folder,
            env=dict(environment),
            timeout=_COMMAND_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        found = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return failed
    return found if isinstance(found, dict) else failed
