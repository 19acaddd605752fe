"""A real coordinator in a process of its own, and a base for it that needs no torch.

``Coordinator.found(folder, base, ...)`` runs ``orthofed coordinator init`` and serves on a port of
the machine's choice; after ``kill`` it starts again on the same port, as an operator's would.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self

import numpy as np

from orthofed.core.tensorfile import header_bytes

from .lenient import take_anything

COMMAND = [sys.executable, "-P", "-m", "orthofed"]


def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one `orthofed` command to its end."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done


class Coordinator:
    """One federation's coordinator; a context manager that ends the process."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        """Take a founded folder; ``start`` serves it, in ``environment`` instead of this one."""
        self.folder = folder
        self._environment = os.environ if environment is None else environment
        self.address = "127.0.0.1:0"
        self.said: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None
        self._log: IO[str] | None = None

    @classmethod
    def found(
        cls,
        folder: Path,
        base: Path,
        *options: str,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Found a federation called ``tiny`` on ``base`` and serve it."""
        fixed = ["--base", str(base), "--name", "tiny", "--reserve-mib", "1"]
        fixed += ["--leases-a-day", "1000"]
        run("coordinator", "init", str(folder), *fixed, *options)
        take_anything(folder)
        made = cls(folder, environment)
        made.start()
        return made

    def __enter__(self) -> Self:
        """Use the running coordinator."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """End the process."""
        self.kill()

    def start(self, *options: str) -> None:
        """Serve, on the same port as before if there was one; return when it answers."""
        self.kill()
        self._log = (self.folder.parent / f"{self.folder.name}.log").open("a", encoding="utf-8")
        self._process = subprocess.Popen(
            [
                *COMMAND,
                "coordinator",
                "serve",
                str(self.folder),
                "--listen",
                self.address,
                "--json",
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**self._environment, "PYTHONUNBUFFERED": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, (self.folder.parent / f"{self.folder.name}.log").read_text()
        self.said = json.loads(line)
        self.address = self.said["listening"]

    @property
    def pid(self) -> int:
        """The process that serves, which must be running."""
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        return self._process.pid

    def log(self) -> str:
        """Return what it wrote to its log."""
        return (self.folder.parent / f"{self.folder.name}.log").read_text("utf-8", "replace")

    def memory_mb(self, which: str = "VmRSS") -> float:
        """Return what /proc says of its memory: VmRSS, or VmHWM, the most since ``forget_peak``."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        kib = next(line.split()[1] for line in status.splitlines() if line.startswith(which))
        return int(kib) / 1024

    def forget_peak(self) -> None:
        """Let VmHWM begin anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def stop(self) -> None:
        """End the process as an operator does: SIGTERM, and wait until it is through."""
        assert self._process is not None
        self._process.terminate()
        self._process.communicate()
        self._process = None

    def kill(self) -> None:
        """End the process as a power cut would: SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        if self._log is not None:
            self._log.close()

    def invite(self, *, uses: int = 1) -> str:
        """Return a fresh invite."""
        return run("coordinator", "invite", str(self.folder), "--uses", str(uses)).stdout.strip()

    def link(self) -> str:
        """Return the public address."""
        return run("coordinator", "link", str(self.folder)).stdout.strip()

    def release(self, *options: str) -> None:
        """Publish a release."""
        run("coordinator", "release", str(self.folder), *options)


def wide_base(folder: Path) -> Path:
    """Write a base that no library loads: one text encoder of 8 layers, 128 in and 2,048 out.

    At rank 5 a contribution is 656 kB, which is three chunks, and 25 slots fit.
    """
    random = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        f"text_model.encoder.layers.{n}.self_attn.{part}_proj.weight": (2048, 128)
        for n in range(8)
        for part in ("q", "k", "v", "out")
    }
    shapes["text_model.embeddings.token_embedding.weight"] = (16, 128)
    entries = [(name, "F16", shape) for name, shape in shapes.items()]
    data = [random.normal(size=shapes[name]).astype("<f2").tobytes() for name in sorted(shapes)]
    (folder / "text_encoder").mkdir(parents=True)
    (folder / "text_encoder" / "model.safetensors").write_bytes(
        header_bytes(entries, {}) + b"".join(data)
    )
    (folder / "text_encoder" / "config.json").write_text("{}")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text('{"fox</w>": 0}')
    index = {"_class_name": "StableDiffusionPipeline"}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
