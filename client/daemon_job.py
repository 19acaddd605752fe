"""One piece of a daemon's work in a process of its own: teach, score, withdraw, or ask for orders.

Started by daemon_process.py, which writes one line of JSON on stdin: the home, what to do and the
settings. Then one line of JSON on stdout for each thing that happens, as ``client train --json``
prints it, and at the end ``{"event": "ended", "code": ...}``. A further line on stdin asks for the
operator's orders meanwhile, since no other process of the home has the connection.

Laws: the training is that of train_command.py, and so are its saves and its session; whoever ends
this process, at any instruction, loses at most what was not saved; when the daemon is gone, stdin
ends, and this process stops as if interrupted, so no two of them ever work on one home. Only the
owner's settings come in, and of an order its kind, concept and release: no code, no path (T26). Why
a process: memory and GPU are free when it ends, and what kills it does not kill the daemon.
"""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TextIO, cast

from ..core.errors import OrthoFedError, Unreachable
from .channel import Channel
from .daemon_settings import ConceptSettings
from .egress import EgressList
from .happened import Happened
from .home import Home
from .home_channel import home_channel
from .masters import Masters
from .missing_extra import missing_extra
from .open_orders import open_orders
from .train_command import train_concept
from .train_options import TrainOptions
from .withdrawal import withdraw

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


@dataclass(slots=True)
class _Says:
    """The one way out: a line an event, whole, whichever thread says it."""

    file: TextIO
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, event: str, **values: object) -> None:
        with self._lock:
            print(json.dumps({**values, "event": event}), file=self.file, flush=True)


def main() -> None:
    """Do the job on stdin and end with 0 if its receipt is here, else with 1."""
    # What libraries print must not be taken for what we say.
    say = _Says(os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(asked,), name="stdin", daemon=True).start()
    ended = _outcome(lambda: _DOES[job["do"]](job, say, asked))
    say("ended", **ended)
    sys.exit(1 if ended["code"] else 0)


def _train(job: dict[str, Any], say: _Says, asked: "queue.SimpleQueue[str]") -> None:
    home = Home(Path(job["home"]))

    @contextlib.contextmanager
    def orders(channel: Channel) -> Generator[None]:
        """Answer what the daemon asks meanwhile; a call in flight ends with the channel."""

        def serve() -> None:
            while asked.get():
                _ask(home, channel, say)

        threading.Thread(target=serve, name="orders", daemon=True).start()
        try:
            yield
        finally:
            asked.put("")

    train_concept(
        home,
        replace(
            options_of(_concept(job), **job["limits"]),
            corrective=job["against"] > 0,
            release=job["against"],
        ),
        report=lambda happened: _report(say, happened),
        ask=Gate(**job["gate"]).says,
        patience_s=job["patience_s"],
        beside=orders,
    )


def _score(job: dict[str, Any], say: _Says, _asked: object) -> None:
    from .score_order import score_order  # noqa: PLC0415  # loads torch

    concept, gpu = _concept(job), job["limits"]["gpu"]
    score_order(
        Home(Path(job["home"])),
        concept.name,
        job["release"],
        images=Path(concept.images),
        base=Path(concept.base),
        device=None if gpu == "auto" else gpu,
        send=job["gate"]["is_policy"],
        patience_s=job["patience_s"],
    )
    say("scored", release=job["release"])


def _withdraw(job: dict[str, Any], say: _Says, _asked: object) -> None:
    """Withdraw by the owner's written policy; the daemon looked at it."""
    home = Home(Path(job["home"]))
    done = withdraw(home, job["name"], ask=lambda _: True, patience_s=job["patience_s"])
    say("withdrawn", leaf=done.leaf)


def _orders(job: dict[str, Any], say: _Says, _asked: object) -> None:
    home = Home(Path(job["home"]))
    with home.lock(), home_channel(home, patience_s=job["patience_s"]) as channel:
        _ask(home, channel, say)


_DOES: Final = {"train": _train, "score": _score, "withdraw": _withdraw, "orders": _orders}


def _ask(home: Home, channel: Channel, say: _Says) -> None:
    """Ask the coordinator which orders are open, and say them."""
    try:
        told = open_orders(channel, Masters(home).newest().member(home.membership().log))
    except OrthoFedError as error:
        say("no-orders", code=error.code, what=error.what)
        return
    listed = [
        {"order": o.id.hex(), "kind": o.kind, "concept": o.concept, "release": o.release}
        for o in told.orders
    ]
    ages = {"node_seen_s": told.node_seen_s, "bridge_seen_s": told.bridge_seen_s}
    say("orders", orders=listed, **ages)


def options_of(
    concept: ConceptSettings, *, gpu: str, upload_kib_s: int, upload_bytes_left: int | None
) -> TrainOptions:
    """Return the options of `orthofed client train` that ``concept`` stands for.

    Raises InputError: a recipient or a share cannot be read.
    """
    from .invite_file import read_share  # noqa: PLC0415  # rarely needed
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
        pictures=concept.pictures,
        shared=concept.shared,
        share=read_share(concept.share) if concept.share else None,
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
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        return {"code": missing.code, "what": missing.what, "fix": missing.fix}
    except KeyboardInterrupt:
        return {"code": "interrupted", "what": "interrupted between two saves", "fix": ""}
    except OSError as error:
        fix = "check the path and its permissions"
        return {"code": "os-error", "what": f"{error}", "fix": fix}
    return {"code": "", "what": "", "fix": ""}


def _listen(asked: "queue.SimpleQueue[str]") -> None:
    """Pass on what the daemon asks; stop this process when it is gone, for stdin ends then."""
    for line in sys.stdin:
        asked.put(line)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_ORPHAN_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _report(say: _Says, happened: Happened) -> None:
    say(happened.name, **happened.values)


def _concept(job: dict[str, Any]) -> ConceptSettings:
    return ConceptSettings(**{key: _tupled(value) for key, value in job["concept"].items()})


def _tupled(value: object) -> Any:  # noqa: ANN401  # of any setting
    return tuple(cast("list[str]", value)) if isinstance(value, list) else value


if __name__ == "__main__":
    main()
