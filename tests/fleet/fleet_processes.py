"""Both supervisors as real processes, on ports of the machine's choice, with real Flower below.

``Operator(...)`` runs ``orthofed coordinator fleet``, ``Courier(...)`` runs ``orthofed client
fleet``; both find Flower's processes by their parent, so that a test can kill or stop one of them.
All of it runs as one account, which only tests may (``--same-account``).
"""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import pytest

NEEDS_FLOWER = pytest.mark.skipif(
    importlib.util.find_spec("flwr") is None, reason="flwr is an extra, and not here"
)
_COMMAND = (sys.executable, "-P", "-m", "orthofed")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def until(
    holds: Callable[[], object],
    what: str,
    *,
    seconds: float,
    log: Callable[[], str] = lambda: "",
) -> float:
    """Wait until something holds; return how many seconds it took. A failure shows ``log``."""
    begin_s = time.monotonic()
    while not holds():
        passed_s = time.monotonic() - begin_s
        assert passed_s < seconds, f"not within {seconds} s: {what}\n{log()}"
        time.sleep(0.25)
    return time.monotonic() - begin_s


def _child(parent: int, pattern: str) -> int:
    pids = subprocess.run(
        ["/usr/bin/pgrep", "-P", str(parent), "-f", pattern],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    return int(pids[0]) if pids else 0


class _Supervisor:
    """One supervisor process; a context manager that ends it as systemd does."""

    def __init__(
        self, folder: Path, *words: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self._words = (*words, "--same-account", "--log", "json", "--json")
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()

    def command(self) -> list[str]:
        """Return what is started."""
        return [*_COMMAND, *self._words]

    def start(self) -> None:
        """Start it."""
        with self._file.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self._environment,
            )

    @property
    def _file(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.stderr")

    @property
    def pid(self) -> int:
        """The supervisor, which must run."""
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        return self._process.pid

    def stop(self, *, seconds: float = 90) -> int:
        """End it by SIGTERM and return its exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(seconds)
        self._process = None
        return code

    def pause(self) -> None:
        """Stop the supervisor alone, so that nobody helps."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it by SIGKILL, if it runs; the kernel ends the rest."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def log(self) -> str:
        """Return all that it and its processes said, the newest last."""
        texts = [self._file.read_text("utf-8", "replace")]
        texts += [path.read_text("utf-8", "replace") for path in self.folder.glob("*.log")]
        return "\n".join(texts)

    def child(self, name: str) -> int:
        """Return the Flower process of that name; 0 if there is none now."""
        return _child(self.pid, f"/flower-{name}( |$)")

    def send(self, what: signal.Signals, *names: str) -> None:
        """Send a signal to Flower processes, which must be there."""
        for name in names:
            pid = self.child(name)
            assert pid, f"no {name}"
            os.kill(pid, what)


class Operator(_Supervisor):
    """The operator's side: SuperLink, SuperExec, the run."""

    def __init__(
        self, folder: Path, *, bridge: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.port = free_port()
        words = ("--bridge", str(bridge), "--port", str(self.port))
        words = ("coordinator", "fleet", str(folder), *words)
        super().__init__(folder, *words, environment=environment)

    @property
    def superlink(self) -> str:
        """Where nodes connect: here without the proxy."""
        return f"127.0.0.1:{self.port}"

    @property
    def roots(self) -> Path:
        """The fleet's authority."""
        return self.folder / "tls" / "tls-ca.pem"

    def until_it_turns(self, *, seconds: float = 90) -> float:
        """Wait until the bridge turns; return how long that took."""
        beat = self.folder / "bridge.beat"
        since_s = time.time()
        return until(
            lambda: beat.exists() and beat.stat().st_mtime > since_s,
            "a bridge that turns",
            seconds=seconds,
            log=self.log,
        )

    def bridge(self) -> int:
        """Return the process in which the bridge turns; 0 if there is none now."""
        executor = self.child("superexec")
        return _child(executor, "flwr-serverapp") if executor else 0

    def count(self, event: str) -> int:
        """Return how often the supervisor told something, such as start-run: a JSON object each."""
        lines = self._file.read_text("utf-8").splitlines()
        return [json.loads(line).get("event") for line in lines].count(event)


class Courier(_Supervisor):
    """One data owner's side: SuperNode, SuperExec, couriers."""

    def __init__(self, folder: Path, operator: Operator, *, superlink: str, orders: Path) -> None:
        self.port = free_port()
        words = ("--superlink", superlink, "--roots", str(operator.roots))
        words += ("--orders", str(orders), "--port", str(self.port))
        super().__init__(folder, "client", "fleet", str(folder), *words)

    @property
    def public_key(self) -> Path:
        """The node's public key, once it is made."""
        return self.folder / "node.pub"

    def couriers(self) -> int:
        """Return how many couriers were started so far."""
        log = self.folder / "superexec.log"
        return log.read_text("utf-8", "replace").count("Start `flwr-clientapp`")
