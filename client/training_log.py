"""The log of one training: what each step said, kept at home, on one line each.

    log/<fence>/steps.jsonl     a header line (identity, settings, facts), then a line a step
    log/<fence>/tensorboard/    the same for TensorBoard (event_files.py)
    log/<fence>/samples/        pictures: <step>-<prompt>-<number>.png (samples.py)
    log/<fence>/report.html     all of it to look at (training_report.py)

The lines are the truth, everything else is made from them. Laws: after any stop every step stands
there once (the first step of a process says where it begins, and what stands there from that step
on is dropped); another run in the same lease finds the folder moved aside, never mixed. Lines are
not synced: what a power cut takes of them is not needed to go on. Nothing here is ever sent, except
by `wandb = true`. Source: product.md 5 and 7.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from .home import told_when_full, write_whole
from .wandb_run import WandbRun

if TYPE_CHECKING:
    from .event_files import EventFiles
    from .step import Step

_LINES = "steps.jsonl"
_SCHEMA = "orthofed.training-log/1"


@dataclass(frozen=True, slots=True)
class LoggedStep:
    """One line: the step, its losses and rate, when it ended and how long it took."""

    step: int
    loss: float
    null_loss: float
    rate: float
    at: float  # seconds since 1970
    seconds: float  # since the step before; 0 for the first of a process
    prior_loss: float = 0.0  # logs of the first versions have none
    held_out_loss: float | None = None  # where it was asked for
    skipped: bool = False  # nothing was updated: a gradient was beyond float16


@dataclass(frozen=True, slots=True)
class Logged:
    """A log as it lies on the disk."""

    header: Mapping[str, Any]  # identity, settings, facts
    steps: tuple[LoggedStep, ...]

    @staticmethod
    def read(folder: Path) -> "Logged | None":
        """Return the log in ``folder``, or None where there is none; a torn last line is no step.

        Steps that were lost to a power cut are missing; none is there twice.
        """
        try:
            lines = (folder / _LINES).read_bytes().splitlines()
            header = json.loads(lines[0])
        except (OSError, ValueError, IndexError):
            return None
        steps: list[LoggedStep] = []
        for line in lines[1:]:
            try:
                step = LoggedStep(**json.loads(line))
            except (ValueError, TypeError):
                break
            steps.append(step)
        return Logged(header, tuple(steps))


class TrainingLog:
    """The log that a running training writes; use it as a context manager."""

    def __init__(
        self, folder: Path, identity: str, settings: Mapping[str, object], facts: Mapping[str, str]
    ) -> None:
        """Prepare; nothing is written before the first step.

        ``facts`` stand on top of the report. Raises InputError: W&B is asked for and not installed.
        """
        self.folder = folder
        self._header = {
            "schema": _SCHEMA,
            "identity": identity,
            "settings": settings,
            "facts": facts,
        }
        self._events: EventFiles | None = None
        self._wandb: WandbRun | None = None
        if settings["wandb"]:
            self._wandb = WandbRun(folder.parent, identity, settings, facts)
        self._last_s: float | None = None

    def __enter__(self) -> Self:
        """Use the log."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Write out what is still in memory."""
        if self._events is not None:
            self._events.close()
        if self._wandb is not None:
            self._wandb.close()

    def record(self, step: "Step") -> None:
        """Note one step; the first one also decides what is kept of an earlier process."""
        now_s = time.monotonic()
        line = LoggedStep(
            step.number,
            step.loss,
            step.null_loss,
            step.rate,
            at=time.time(),
            seconds=0.0 if self._last_s is None else now_s - self._last_s,
            prior_loss=step.prior_loss,
            held_out_loss=step.held_out_loss,
            skipped=step.skipped,
        )
        if self._events is None:
            self._events = self._begin(step.number)
        data = json.dumps(asdict(line)).encode() + b"\n"
        with (
            told_when_full(self.folder, wanted=len(data)),
            (self.folder / _LINES).open("ab", buffering=0) as file,
        ):
            file.write(data)
        self._events.scalars(line.step, line.at, _scalars(line))
        if self._wandb is not None:
            self._wandb.scalars(line.step, _scalars(line))
        self._last_s = now_s

    def picture(self, step: int, name: str, png: bytes) -> None:
        """Keep one sample that was drawn behind ``step``."""
        write_whole(self.folder / "samples" / f"{step:08d}-{name}.png", png)
        if self._events is not None:
            self._events.picture(step, time.time(), f"samples/{name}", png)

    def _begin(self, first: int) -> "EventFiles":
        """Keep the steps below ``first`` of this very run, and begin new event files with them."""
        from .event_files import EventFiles  # noqa: PLC0415  # half a second, and reading needs none

        found = Logged.read(self.folder)
        if found is not None and found.header["identity"] != self._header["identity"]:
            self.folder.rename(_free(self.folder))
            found = None
        kept = [line for line in found.steps if line.step < first] if found else []
        lines = [json.dumps(record) for record in (self._header, *map(asdict, kept))]
        write_whole(self.folder / _LINES, ("\n".join(lines) + "\n").encode())
        events = EventFiles.fresh(self.folder / "tensorboard")
        for line in kept:
            events.scalars(line.step, line.at, _scalars(line))
        return events


def _scalars(line: LoggedStep) -> dict[str, float]:
    found = {
        "loss": line.loss,
        "null_loss": line.null_loss,
        "prior_loss": line.prior_loss,
        "rate": line.rate,
    }
    return found if line.held_out_loss is None else {**found, "held_out_loss": line.held_out_loss}


def _free(folder: Path) -> Path:
    """Return the first free name of the form <folder>-before-<n>."""
    number = 1
    while (place := folder.with_name(f"{folder.name}-before-{number}")).exists():
        number += 1
    return place
