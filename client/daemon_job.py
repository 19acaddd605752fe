"""One piece of a daemon's work in a process of its own: a concept, from its images to its receipt.

Started by daemon_process.py, which writes one line of JSON on stdin: the home, the concept and its
settings. Then one line of JSON on stdout for each thing that happens, as ``client train --json``
prints it, and at the end ``{"event": "ended", "code": ...}``. Laws: the training is that of
train_command.py, and so are its saves and its session; whoever ends this process, at any
instruction, loses at most what was not saved; when the daemon is gone, stdin ends, and this process
stops as if interrupted, so no two of them ever work on one home. Only the owner's settings come in,
nothing that a network said: T26. Why a process: memory and GPU are free when it ends, and what
kills it does not kill the daemon.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO, cast

from ..core.errors import OrthoFedError, Unreachable
from .daemon_settings import ConceptSettings
from .egress import EgressList
from .happened import Happened
from .home import Home
from .train_command import train_concept
from .train_options import TrainOptions

_ORPHAN_S: Final = 30.0
"""How long a job may take to save once its daemon is gone."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Who says yes to what leaves: nobody here, or the owner's written bounds."""

    is_policy: bool
    upload_bytes: float
    memorisation: float

    def says(self, listing: EgressList) -> bool:
        """Return whether ``listing`` may be sent without asking the owner."""
        learnt = listing.memorisation.score if listing.memorisation is not None else 0.0
        return (
            self.is_policy
            and not listing.warnings
            and listing.num_bytes <= self.upload_bytes
            and learnt <= self.memorisation
        )


def main() -> None:
    """Do the job on stdin and end with 0 if its receipt is here, else with 1."""
    # What libraries print must not be taken for what we say.
    said = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, name="orphan", daemon=True).start()
    ended = _outcome(lambda: _work(job, said))
    print(json.dumps({"event": "ended", **ended}), file=said, flush=True)
    sys.exit(1 if ended["code"] else 0)


def _work(job: dict[str, Any], said: TextIO) -> None:
    concept = ConceptSettings(**{k: _tupled(v) for k, v in job["concept"].items()})
    gate = Gate(**job["gate"])

    def report(happened: Happened) -> None:
        line = {"event": happened.name, **happened.values}
        print(json.dumps(line), file=said, flush=True)

    train_concept(
        Home(Path(job["home"])),
        options_of(concept, **job["limits"]),
        report=report,
        ask=gate.says,
        patience_s=job["patience_s"],
    )


def options_of(
    concept: ConceptSettings, *, gpu: str, upload_kib_s: int, upload_bytes_left: int | None
) -> TrainOptions:
    """Return the options of `orthofed client train` that ``concept`` stands for.

    Raises InputError: a recipient cannot be read.
    """
    from .recipient_key import recipients  # noqa: PLC0415  # rarely needed

    return TrainOptions(
        concept=concept.name,
        noun=concept.class_noun,
        images=Path(concept.images),
        base=Path(concept.base),
        triggers=concept.triggers,
        vectors=concept.vectors,
        title=concept.title or None,
        licence=concept.licence,
        config=Path(concept.config) if concept.config else None,
        preset=concept.preset or None,
        steps=concept.steps or None,
        seed=concept.seed if concept.seed >= 0 else None,
        device=None if gpu == "auto" else gpu,
        private_to=recipients(concept.private_to) if concept.private_to else (),
        dp_epsilon=TrainOptions.epsilon_of(concept.dp or None),
        dp_mode=concept.dp_mode or None,
        upload_kib_s=upload_kib_s,
        upload_bytes_left=upload_bytes_left,
    )


def _outcome(work: Callable[[], None]) -> dict[str, str]:
    """Do ``work`` and return its failure in plain words; an empty code where there was none."""
    try:
        work()
    except Unreachable as error:
        return {"code": "unreachable", "what": error.what, "fix": error.fix}
    except OrthoFedError as error:
        return {"code": error.code, "what": error.what, "fix": error.fix}
    except KeyboardInterrupt:
        return {"code": "interrupted", "what": "interrupted between two saves", "fix": ""}
    except OSError as error:
        fix = "check the path and its permissions"
        return {"code": "os-error", "what": f"{error}", "fix": fix}
    return {"code": "", "what": "", "fix": ""}


def _end_with_stdin() -> None:
    """Stop this process when the daemon that holds the other end of stdin is gone."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_ORPHAN_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _tupled(value: object) -> Any:  # noqa: ANN401  # of any setting
    return tuple(cast("list[str]", value)) if isinstance(value, list) else value


if __name__ == "__main__":
    main()
