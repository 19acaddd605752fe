"""A data owner's daemon as a real process: started, asked, interrupted, killed, started again.

``OwnerDaemon(home, config)`` runs `orthofed client daemon`; ``until`` waits for what its status
says, and fails with its log.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from orthofed.client.daemon_command import running_daemon
from orthofed.client.home import Home

COMMAND = (sys.executable, "-P", "-m", "orthofed", "client")
TRAINING = """\
steps = 4
batch = 4
null_images = 2
null_sampling_steps = 2
warmup_steps = 1
rate = 1e-4
threads = 1
"""


def queue(place: Path, *concepts: str, extra: str = "", **values: Any) -> Path:
    """Write a daemon.toml with ``concepts`` in its queue beside base and images in ``place``."""
    values = {"mode": "always", "gate": "policy", "min_free_disk_gb": 0, "gpu": "cpu"} | values
    lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
    lines += ['base = "base"']
    for name in concepts:
        lines += ["[[concept]]", f'name = "{name}"', 'class_noun = "fox"']
        lines += ['images = "images"', 'config = "quick.toml"', extra]
    path = place / f"daemon-{'-'.join(concepts)}.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


class OwnerDaemon:
    """One daemon process on one home."""

    def __init__(self, home: Home, config: Path) -> None:
        """Name both; ``start`` runs it."""
        self.home = home
        self.config = config
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(60)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = ("daemon", "--config", str(self.config), "--home", str(self.home.folder))
        errors = (self.home.folder.parent / "daemon.stderr").open("ab")
        with errors:
            self.process = subprocess.Popen(
                [*COMMAND, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        self.until(lambda status: status["pid"] == self._pid)

    def status(self) -> dict[str, Any] | None:
        """Return what it says of itself; None: it does not answer."""
        said = running_daemon(self.home)
        return None if said is None else dict(said)

    def until(self, holds: Callable[[dict[str, Any]], bool], *, seconds: float = 180) -> Any:
        """Wait until its status is as wanted, and return it."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            said = self.status()
            if said is not None and holds(said):
                return said
            if self.process is not None and self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError(f"never came: {self.status()}\n{self.log()}")

    def until_done(self) -> Any:
        """Wait until the whole queue is done."""
        return self.until(lambda status: all(t["state"] == "done" for t in status["queue"]))

    def send(self, what: signal.Signals) -> None:
        """Send it a signal."""
        if self.process is not None:
            self.process.send_signal(what)

    def ended(self, seconds: float = 120) -> int:
        """Wait for its end; return its exit code."""
        assert self.process is not None
        code = self.process.wait(seconds)
        self.process = None
        return code

    def log(self) -> str:
        """Return all that it wrote for people, and what its job printed last."""
        folder = self.home.folder
        paths = (folder.parent / "daemon.stderr", folder / "daemon" / "job.stderr")
        return "\n".join(path.read_text() for path in paths if path.exists())

    @property
    def _pid(self) -> int:
        return self.process.pid if self.process is not None else 0


def client(home: Home, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one of the owner's commands on ``home``."""
    return subprocess.run(
        [*COMMAND, *words, "--home", str(home.folder)], capture_output=True, text=True, check=check
    )


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
