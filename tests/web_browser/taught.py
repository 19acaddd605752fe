"""A federation that really trained: people of the base that ships, taught by real clients.

``taught()`` gives a coordinator's folder, made once and kept under build/ (like tiny_base.py): some
ten minutes on two cores. Who wants to change it copies it. Six concepts are in release 1 with
pictures that their owners allowed; one of them was withdrawn since; one more came after the release
and is in quarantine, since it is its member's first, with what `orthofed admit` measured and drew.
Every number and picture of it is the programs' own.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

from orthofed.assets import pocket_base, pocket_concepts

from ..coordinator_process import COMMAND, Coordinator, run

RELEASED = ("anna-k7", "bodo-x4", "cleo-m6", "dara-v3", "emil-t7", "gino-r3")
GONE = "gino-r3"
WAITS = "fern-q4"
ASKED = "a peeps drawing of {}, smiling, white background"
STEPS = "400"
_AT_ONCE = 2
_HOUR_S = 3_600
_ROOT = Path(__file__).parents[2]


def taught() -> Path:
    """Return the kept folder of a coordinator that nobody runs, made now if it is missing."""
    mark = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    kept = _ROOT / "build" / f"taught-{mark}"
    if not kept.is_dir():
        kept.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            _teach(Path(scratch))
            (Path(scratch) / "fed").rename(kept)
    return kept


def _teach(folder: Path) -> None:
    base = pocket_base()
    fed = folder / "fed"
    words = ["--base", str(base), "--name", "peeps", "--rank", "8", "--reserve-mib", "1"]
    words += ["--base-hint", "it comes with orthofed", "--prompt", ASKED]
    run("coordinator", "init", str(fed), *words)
    with Coordinator(fed) as coordinator:
        coordinator.start()
        invite = folder / "invite.txt"
        said = run("coordinator", "invite", str(fed), "--uses", "12", "--operator", "--json")
        invite.write_text(json.loads(said.stdout)["invite"])
        for at in range(0, len(RELEASED), _AT_ONCE):
            _train(folder, invite, RELEASED[at : at + _AT_ONCE])
        run("coordinator", "release", str(fed), "--samples")
        run("client", "withdraw", GONE, "--yes", "--home", str(folder / GONE))
        coordinator.stop()
        settings = fed / "coordinator.toml"
        text = settings.read_text("utf-8")
        settings.write_text(text.replace("approve_first = false", "approve_first = true"))
        coordinator.start()
        _train(folder, invite, (WAITS,))
        run("admit", str(fed), "--device", "cpu")
        coordinator.stop()


def _train(folder: Path, invite: Path, names: tuple[str, ...]) -> None:
    """Let each of ``names`` join and train, side by side, in homes of their own."""
    with ExitStack() as running:
        started = [running.enter_context(train(folder, invite, name)) for name in names]
        for each in started:
            running.callback(each.kill)
        for each in started:
            said, _ = each.communicate(timeout=_HOUR_S)
            assert each.returncode == 0, said


def train(folder: Path, invite: Path, name: str, *options: str) -> "subprocess.Popen[str]":
    """Join as ``name``, then start its training; ``options`` come last."""
    home = str(folder / name)
    run("client", "join", "--invite", str(invite), "--home", home)
    images = folder / "images" / name
    shutil.copytree(pocket_concepts() / name, images)
    words = ["client", "train", "--concept", name, "--class-noun", "person", "--yes", "--pictures"]
    words += ["--images", str(images), "--base", str(pocket_base()), "--home", home]
    patient = folder / "patient.toml"
    patient.write_text("slow_factor = 0\n")  # a busy machine takes longer, and that is all
    words += ["--device", "cpu", "--steps", STEPS, "--config", str(patient), *options]
    return subprocess.Popen(
        [*COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
