"""A coordinator as a real process, to be killed and started again, and a wide base without torch.

``with Coordinator.found(folder, base, "--rank", "16") as running`` founds and serves; the port
stays the same over ``kill`` (SIGKILL) and ``start``. ``wide_base`` is made of random numbers by
numpy and core's own writer: 512 wide, so that a contribution at rank 16 is five chunks.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import numpy as np

from orthofed.core.tensorfile import header_bytes

from .lenient import take_anything

COMMAND = [
    *(sys.executable, "-P", "-c"),
    "from orthofed.coordinator.cli import app; app()",
]
"""The coordinator's command line, without the root command."""
_WIDTH = 512
_OUT = 9_216


def coordinator(*words: str) -> str:
    """Run one command of the coordinator and return what it printed."""
    done = subprocess.run([*COMMAND, *words], check=True, capture_output=True, text=True)
    return done.stdout


class Coordinator:
    """One founded folder and the process that serves it."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; ``start`` serves it."""
        self.folder = folder
        self.listen = "127.0.0.1:0"
        self.process: subprocess.Popen[str] | None = None

    @classmethod
    def found(cls, folder: Path, base: Path, *options: str) -> Self:
        """Found a federation on ``base`` that takes whatever has the right form."""
        words = ("init", str(folder), "--base", str(base), "--name", "wren-fed")
        coordinator(*words, "--leases-a-day", "100", "--reserve-mib", "0", *options)
        take_anything(folder)
        return cls(folder)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()

    def start(self) -> None:
        """Serve, on the port of the time before, and wait until it listens."""
        words = ["serve", str(self.folder), "--listen", self.listen, "--json"]
        log = (self.folder.parent / "serve.log").open("a")
        with log:
            self.process = subprocess.Popen(
                [*COMMAND, *words], stdout=subprocess.PIPE, stderr=log, text=True
            )
        if self.process.stdout is None:
            raise AssertionError("its output is a pipe")
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        self.listen = told["listening"]

    def kill(self) -> None:
        """Kill it as a power cut would."""
        self._end("kill")

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        return self._end("terminate")

    def _end(self, how: str) -> int:
        if self.process is None:
            return 0
        getattr(self.process, how)()
        with self.process as process:
            code = process.wait(60)
        self.process = None
        return code

    def invite(self, *, uses: int = 1) -> str:
        """Return an invite's text."""
        return coordinator("invite", str(self.folder), "--uses", str(uses)).strip()

    def link(self) -> str:
        """Return the federation's address."""
        return coordinator("link", str(self.folder)).strip()

    def release(self, *options: str) -> dict[str, Any]:
        """Publish, and return what the command says."""
        return json.loads(coordinator("release", str(self.folder), "--json", *options))


def wide_base(folder: Path) -> Path:
    """Write a base whose contribution at rank 16 is a little over a million bytes."""
    random = np.random.default_rng(7)
    attention = "mid_block.attentions.0.transformer_blocks.0"
    names = [f"{attention}.attn{a}.to_{p}.weight" for a in (1, 2) for p in "qk"]
    self_attention = "text_model.encoder.layers.0.self_attn.q_proj.weight"
    tokens = "text_model.embeddings.token_embedding.weight"
    _write(folder / "unet", random, dict.fromkeys(names, (_OUT, _WIDTH)))
    _write(folder / "text_encoder", random, {self_attention: (16, 16), tokens: (20, 16)})
    _write(folder / "vae", random, {"decoder.weight": (4, 4)})
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps({"cat</w>": 0, "a": 1}))
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": "None", "unet": ["a", "b"]})
    )
    return folder


def _write(folder: Path, random: np.random.Generator, shapes: dict[str, tuple[int, int]]) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    entries = [(name, "F16", shape) for name, shape in sorted(shapes.items())]
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header_bytes(entries, {"format": "pt"}))
        for _, _, shape in entries:
            file.write((random.standard_normal(shape) * 0.02).astype("<f2").tobytes())
