"""Coordinators out of the fork server: start, kill and reap in a tenth of the usual time.

``Nursery(environment)`` holds one fork server; ``serve(folder)`` gives a running coordinator with
its address, ``answer(folder)`` one that is called over a Unix socket, on one thread, for a tracer.
``small_base`` and ``found`` make federations whose contributions are as large as a test wants.
"""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.folder import Settings
from orthofed.coordinator.founding import Choices, found
from orthofed.core.invite import Invite
from orthofed.core.spec import Limits
from orthofed.core.tensorfile import header_bytes
from orthofed.proto import failure, methods

from .lenient import ANYTHING
from .member import Wire
from .serving import FastFs

SCRIPT = Path(__file__).with_name("fork_server.py")


class Nursery:
    """One fork server, and a folder for sockets and logs."""

    def __init__(
        self, environment: dict[str, str] | None = None, *, prefix: tuple[str, ...] = ()
    ) -> None:
        """Start it; ``environment`` may put a patched package first (seeded.py).

        ``prefix``: a command that runs it somewhere else (small_disk.py).
        """
        self._scratch = tempfile.TemporaryDirectory(prefix="of-")
        self.folder = Path(self._scratch.name)
        self.log = self.folder / "log"
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-P", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**(environment or os.environ), "OPENBLAS_NUM_THREADS": "1"},
        )
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        with self._process as process:
            process.communicate()
        self._scratch.cleanup()

    def ask(self, **what: Any) -> dict[str, Any]:
        """Ask the fork server one thing."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, do: str, folder: Path, listen: str) -> "Child":
        """Fork one coordinator on the folder and wait until it is ready or dead."""
        told = self.ask(do=do, folder=str(folder), listen=listen, log=str(self.log))
        return Child(self, told["pid"], told.get("address", ""), told.get("code"))

    def serve(self, folder: Path, listen: str = "127.0.0.1:0") -> "Child":
        """Serve over gRPC and TLS; the address is the child's."""
        child = self.start("serve", folder, listen)
        assert child.code is None, self.log.read_text()
        return child

    def answer(
        self, folder: Path, *, before_open: Callable[["Child"], None] = lambda _: None
    ) -> "Answering":
        """Answer on one thread; ``before_open`` may attach a tracer."""
        self._number += 1
        name = str(self.folder / f"s{self._number}")
        child = self.start("answer", folder, name)
        before_open(child)
        return Answering(child, name)


class Child:
    """One forked coordinator; ``code`` is how it ended."""

    def __init__(self, nursery: Nursery, pid: int, address: str, code: int | None) -> None:
        self._nursery = nursery
        self.pid = pid
        self.address = address
        self.code = code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.end(signal.SIGKILL)

    def end(self, how: signal.Signals) -> int:
        """Send the signal and reap; return the exit code, negative for a signal."""
        if self.code is None:
            os.kill(self.pid, how)
            self.reap()
        assert self.code is not None
        return self.code

    def reap(self) -> int:
        """Wait for its end; return the exit code."""
        if self.code is None:
            self.code = self._nursery.ask(do="wait", pid=self.pid)["code"]
        assert self.code is not None
        return self.code


class Died(Exception):
    """The coordinator ended while it was asked."""


class Answering(Wire):
    """A coordinator on a socket of ours; also the connection that a Member sends through."""

    def __init__(self, child: Child, name: str) -> None:
        self.child = child
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(name)
        self._reading = self._socket.makefile("rb")
        self.clock_offset_s = 0
        self.last_trailers = {}
        self.invite: Any = None
        self.ask("open")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.child.end(signal.SIGKILL)
        self._reading.close()
        self._socket.close()

    def close(self) -> None:
        """Let it close the folder and end; return when it has."""
        self.ask("close")
        assert self.child.reap() == 0

    def joining(self, invite: str) -> Self:
        """Be the connection of the member whom this invite lets in."""
        self.invite = Invite.from_text(invite)
        return self

    def ask(self, op: str, **more: Any) -> Any:
        """Ask one thing; raises Died, or what the coordinator meant."""
        try:
            self._socket.sendall(json.dumps({"op": op, **more}).encode() + b"\n")
            line = self._reading.readline()
        except OSError as error:
            raise Died from error
        if not line.endswith(b"\n"):
            raise Died
        told = json.loads(line)
        if "error" in told:
            raise failure.error_from(*told["error"])
        return told["ok"]

    def send(self, method: methods.Method, body: bytes, metadata: Any = ()) -> bytes:
        """Send as Wire does, over the socket."""
        parts = {"body": body, "header": b"", "signature": b""}
        names = {methods.AUTH_KEY: "header", methods.SIGNATURE_KEY: "signature"}
        parts.update({names[key]: value for key, value in metadata})
        coded = {name: base64.b64encode(value).decode() for name, value in parts.items()}
        return base64.b64decode(self.ask("call", path=method.path, **coded))


def small_base(folder: Path, *, slots: int, kib: int, layers: int = 4) -> Path:
    """Write a base with ``slots`` slots at rank 1, whose contribution is about ``kib`` KiB."""
    random = np.random.default_rng(0)
    rows = kib * 512 // layers
    shapes: dict[str, tuple[int, int]] = {
        f"text_model.encoder.layers.{n}.self_attn.q_proj.weight": (rows, slots)
        for n in range(layers)
    }
    shapes["text_model.embeddings.token_embedding.weight"] = (4, slots)
    entries = [(name, "F16", shape) for name, shape in shapes.items()]
    (folder / "text_encoder").mkdir(parents=True)
    with (folder / "text_encoder" / "model.safetensors").open("wb") as file:
        file.write(header_bytes(entries, {}))
        for name in sorted(shapes):
            height, width = shapes[name]
            few = random.standard_normal((min(height, 64), width)).astype("<f2")
            file.write(np.resize(few, (height, width)).tobytes())
    (folder / "text_encoder" / "config.json").write_text("{}")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text('{"fox</w>": 0}')
    index = {"_class_name": "StableDiffusionPipeline"}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def founded(
    folder: Path, *, slots: int, kib: int, layers: int = 4, limits: Limits | None = None
) -> Path:
    """Found a federation in ``folder/fed`` on a base beside it; ``copied`` gives fresh ones."""
    usual = Limits(operator_slots_percent=0, leases_a_day=1000)
    choices = Choices(name="tiny", rank=1, limits=limits or usual)
    base = small_base(folder / "base", slots=slots, kib=kib, layers=layers)
    policy = replace(ANYTHING, embedding_percent=400)  # uploaders.py: a loud blob
    settings = Settings(base=base, reserve_mib=0, admission=policy)
    found(folder / "fed", choices, settings, clock=SystemClock(), fs=FastFs(), say=lambda _: None)
    return folder / "fed"


def copied(founded: Path, folder: Path) -> Path:
    """Return a fresh copy of a founded folder."""
    return shutil.copytree(founded, folder, ignore=shutil.ignore_patterns("lock"))
