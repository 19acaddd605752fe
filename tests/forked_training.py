"""Trainings in forked processes that get signals: torch is imported once, a fork costs nothing.

`forked(folder, how, wanted)` runs this file in a process of its own, which never does a backward
pass itself: torch's autograd must not have run before a fork. There, training after training is
begun with a folder of saves; each of its processes gets its signals at a random moment, until
``wanted`` were hit, and the last one of every training is left to end. How:

    kill        SIGKILL, every other time at the moment when a half-written save is seen
    interrupt   SIGINT once
    twice       SIGINT, and again a moment later
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orthofed.client.caches import Caches
from orthofed.client.checkpoint import TrainingSaves
from orthofed.client.interrupts import Interrupts
from orthofed.client.step import Step
from orthofed.client.trained import Trained
from orthofed.client.training import identity_of, train
from orthofed.client.training_log import Logged, TrainingLog
from orthofed.client.trigger import Trigger
from orthofed.core.errors import OrthoFedError

from .tiny_concept import NOUN, SETTINGS, Bench, bench

STEPS = 12
_LOOKS = 20_000  # for a save that is being written, then the signal comes without one
TRIGGERS = [Trigger("anna-k7")]
_START = """\
import sys, types
here = types.ModuleType("here")
here.__path__ = [sys.argv[1]]
sys.modules["here"] = here
from here.forked_training import main
main()
"""


@dataclass(frozen=True)
class Forked:
    """What came of it: of each hit process, of each training."""

    expected: str  # hash of A and the vectors of a training that nobody disturbed
    ends: list[str]  # the same of every training that was
    processes: list[dict[str, Any]]  # steps begin, last, saved; exit code; torn: a save was cut
    logs: list[list[int]]  # the steps in every training's log


def forked(folder: Path, how: str, wanted: int) -> Forked:
    """Run trainings until ``wanted`` processes were hit."""
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-c", _START, str(Path(__file__).parent)),
            *(str(folder), how, str(wanted)),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Forked(**json.loads(done.stdout))


def main() -> None:
    """Be the process that forks."""
    folder, how, wanted = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    tiny, chance = bench(folder), random.Random(how)  # noqa: S311  # no secret
    begun_s = time.monotonic()
    _wait(_fork(tiny, folder / "undisturbed"))
    whole_s = time.monotonic() - begun_s
    found = Forked(_ended(folder / "undisturbed"), [], [], [])
    while len(found.processes) < wanted:
        place = folder / f"run-{len(found.ends)}"
        while not (place / "end").exists():
            process = _fork(tiny, place)
            if len(found.processes) < wanted:
                at_save = how == "kill" and len(found.processes) % 2 == 0
                time.sleep(chance.uniform(0, 0.7 * whole_s))
                _hit(process, how, place, chance, saving=at_save)
            code = _wait(process)
            if code:
                found.processes.append(_facts(place, code))
        found.ends.append(_ended(place))
        logged = Logged.read(place / "log")
        found.logs.append([step.step for step in logged.steps] if logged else [])
    print(json.dumps(found.__dict__))


def _fork(tiny: Bench, place: Path) -> int:
    """Begin or go on with the training in ``place`` in a new process; return its id."""
    place.mkdir(exist_ok=True)
    for name in ("begin", "last"):
        (place / name).unlink(missing_ok=True)
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        (place / "ending").write_text(_hash(_train(tiny, place)))
        (place / "ending").rename(place / "end")  # a kill may fall between open and write
        code = 0
    except KeyboardInterrupt:
        code = 4
    except OrthoFedError as error:
        code = 3 if error.code == "interrupted" else 1
    except BaseException:  # noqa: BLE001  # whatever it is, the fork must not become the parent
        traceback.print_exc()
    os._exit(code)


def _train(tiny: Bench, place: Path) -> Trained:
    prior = {"prior_weight": 1.0, "prior_images": 4, "prior_steps": 2}
    settings = replace(SETTINGS, steps=STEPS, save_every_s=0.0, cache="disk", **prior)
    identity = identity_of(tiny.spec, 0, TRIGGERS, NOUN, tiny.images, settings)
    log = TrainingLog(place / "log", identity, settings.as_dict(), {})
    with Interrupts(lambda: None) as interrupts, log:

        def on_step(step: Step) -> None:
            if not (place / "begin").exists():
                (place / "begin").write_text(str(step.number - 1))
            log.record(step)
            (place / "last").write_text(str(step.number))
            interrupts.look(step.number, step.steps)

        return train(
            tiny.base,
            tiny.spec,
            0,
            TRIGGERS,
            NOUN,
            tiny.images,
            settings,
            on_step=on_step,
            saves=TrainingSaves(place / "saves", identity),
            caches=Caches.at(place / "cache", place / "class", settings),
        )


def _hit(process: int, how: str, place: Path, chance: random.Random, *, saving: bool) -> None:
    """Send the signals; with ``saving`` the first at the moment when a save is being written."""
    for _ in range(_LOOKS if saving else 0):
        if list(place.glob("saves/.*.tmp")) or (place / "end").exists():
            break
        time.sleep(0.0002)
    try:
        os.kill(process, signal.SIGKILL if how == "kill" else signal.SIGINT)
        if how == "twice":
            time.sleep(chance.uniform(0, 0.05))
            os.kill(process, signal.SIGINT)
    except ProcessLookupError:  # it has ended
        return


def _wait(process: int) -> int:
    """Return the exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _facts(place: Path, code: int) -> dict[str, Any]:
    def number(name: str) -> int:
        path = place / name
        return int(path.read_text() or 0) if path.exists() else -1

    saves = place / "saves"
    lonely = [p for p in saves.glob("*.safetensors") if not p.with_suffix(".json").exists()]
    torn = bool(lonely or list(saves.glob(".*.tmp")))
    newest = max((int(p.stem.split("-")[1]) for p in saves.glob("*.json")), default=-1)
    steps = {"begin": number("begin"), "last": number("last"), "saved": newest}
    return {**steps, "exit": code, "torn": torn}


def _ended(place: Path) -> str:
    return (place / "end").read_text()


def _hash(trained: Trained) -> str:
    total = hashlib.sha256()
    for path in sorted(trained.a):
        total.update(path.encode() + trained.a[path].tobytes())
    total.update(trained.embeddings["text_encoder", 0].tobytes())
    return total.hexdigest()
