"""The process of `orthofed client daemon`: carries out what daemon.py decides, and decides nothing.

    sockets, signals, the job's lines, the clock, the machine -> events -> step -> actions

One thread, one loop. In the home: ``daemon.sock`` (0600) for the owner's commands, ``orders.sock``
(0660) for a courier, ``daemon/`` with log and state.json (daemon_memory.py). Laws: training happens
in a process of its own (daemon_job.py), so neither torch nor a network library is ever loaded here,
and a crash there is an event here; what must outlive a kill is written before anything else is
done; a signal is an event, so a stop saves first. Cost: a look at the machine every two seconds.
"""

import os
import random
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self, cast

import psutil

from ..core.errors import OrthoFedError
from . import daemon_state as heart
from .correction import CORRECTING, is_unsent
from .daemon import step
from .daemon_control import event_of, reply
from .daemon_log import DaemonLog
from .daemon_memory import remember, reminded
from .daemon_process import DaemonProcess
from .daemon_settings import DaemonSettings
from .daemon_status import DaemonStatus, daemon_status
from .daemon_words import job_words, unsaid
from .home import Home
from .line_server import LineServer
from .machine import Machine
from .order_book import Order
from .order_socket import OrderSocket, orders_event
from .state import NAMES, load

SOCKET: Final = "daemon.sock"
ORDERS_SOCKET: Final = "orders.sock"
_LOOK_S: Final = 2.0
_FIRST_POLL_S: Final = 5.0
_ENDING_S: Final = 0.1
"""Between looks at a job that said its last word and is about to end."""
_STEPS_S: Final = 30.0
"""A line of the log for the steps of a training, no more often."""
_PATIENCE_S: Final = 60.0
"""How long a job tries to reach the coordinator before the daemon waits in its place."""


class DaemonShell:
    """One daemon on one home, whose daemon lock is held; use it as a context manager."""

    def __init__(
        self,
        home: Home,
        settings: DaemonSettings,
        folder: Path,
        *,
        on_status: Callable[[DaemonStatus], None] = lambda _: None,
    ) -> None:
        """Prepare; ``folder`` is the daemon's own, ``on_status`` hears of each change."""
        self._home = home
        self._settings = settings
        self._folder = folder
        self._on_status = on_status
        self._machine = Machine(home.folder, settings.gpu)
        self._selector = selectors.DefaultSelector()
        self._log = DaemonLog(folder, megabytes=settings.log_mb, files=settings.log_files)
        self._job: DaemonProcess | None = None
        self._about = ""  # the concept of the job
        self._last: Mapping[str, Any] = {}  # what the job said of its end
        self._signals = 0
        self._over = False
        self._said_steps_s = 0.0
        self._moved: dict[str, int] = {}
        tasks = tuple(heart.Task(each.name) for each in settings.concepts if each.enabled)
        seen = self._machine.look(None)
        state = heart.State(settings, now := _now(), tasks, seen, poll_s=now.mono_s + _FIRST_POLL_S)
        self._state = reminded(folder, state)
        member = home.membership()
        self._orders = OrderSocket(member.fed, member.log)

    def __enter__(self) -> Self:
        """Listen, and take over the signals."""
        folder, selector = self._home.folder, self._selector
        self._control = LineServer(folder / SOCKET, 0o600, self._answer, selector)
        couriers = Path(self._settings.orders_socket or folder / ORDERS_SOCKET)
        self._couriers = LineServer(couriers, 0o660, self._ordered, selector)
        self._woken, waker = socket.socketpair()
        self._woken.settimeout(0)
        waker.settimeout(0)
        self._waker = waker
        self._selector.register(self._woken, selectors.EVENT_READ, self._heard_signal)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: None)  # the loop reads its number
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop listening; a job that still runs is ended."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        if self._job is not None:
            self._job.kill()
        self._control.close()
        self._couriers.close()
        self._selector.close()
        self._woken.close()
        self._waker.close()
        self._log.close()

    def run(self) -> None:
        """Work until the owner or the system wants no more."""
        self._log.say(
            "started",
            f"daemon on {self._home.folder}: {len(self._state.tasks)} concepts",
            pid=os.getpid(),
            concepts=[task.concept for task in self._state.tasks],
        )
        for task in self._state.tasks:
            self._look_at(task.concept)
        looked_s = -_LOOK_S
        while not self._over:
            if time.monotonic() - looked_s >= _LOOK_S:
                looked_s = time.monotonic()
                self._tick()
            timeout_s = max(0.0, looked_s + _LOOK_S - time.monotonic())
            if self._job is not None and not self._job.is_heard:
                timeout_s = min(timeout_s, _ENDING_S)
            for key, _ in self._selector.select(timeout_s):
                cast("Callable[[], None]", key.data)()
            if self._job is not None and not self._job.is_heard:
                self._hear()
        self._log.say("ended", "the daemon ends; the same command goes on where it stopped")

    def status(self) -> DaemonStatus:
        """Return what the daemon says of itself now."""
        return daemon_status(
            self._state,
            pid=os.getpid(),
            not_seen=self._machine.blind(self._state.seen),
            rss_bytes=psutil.Process().memory_info().rss,
        )

    def _tick(self) -> None:
        waiting = [task.concept for task in self._state.tasks if task.is_for_owner]
        waiting += [h.order.concept for h in self._state.book.held if h.state == "waiting"]
        for concept in dict.fromkeys(waiting):
            self._look_at(concept)
        self._control.sweep()
        self._couriers.sweep()
        if self._job is not None:
            self._hear()
        own = self._job.pid if self._job is not None else None
        self.hear(heart.Tick(_now(), self._machine.look(own)))

    def _look_at(self, concept: str) -> None:
        """Tell the heart of a saved session that is new, or was moved by the owner's commands."""
        folder = self._home.run(concept)
        try:
            moved = (folder / NAMES[0]).stat().st_mtime_ns
        except OSError:
            return
        if self._moved.get(concept) == moved:
            return
        self._moved[concept] = moved
        try:
            session = load(folder)
        except OrthoFedError as error:
            self._log.say("damaged", f"{concept}: {error.what}", concept=concept, code=error.code)
            return
        if session is not None:
            phase = CORRECTING if is_unsent(session) else session.phase
            self.hear(heart.Found(concept, phase, session.release))

    def hear(self, event: heart.Event) -> None:
        """Tell the heart of ``event``, and carry out what it asks for."""
        before = self._state
        self._state, actions = step(before, event)
        if before.wait != self._state.wait:
            self._say_wait()
        for action in actions:
            self._perform(action)
        if actions or before.wait != self._state.wait:
            self._on_status(self.status())

    def _perform(self, action: heart.Action) -> None:  # noqa: C901  # one case an action
        match action:
            case heart.Start(concept, against):
                self._start("train", concept, concept=self._options(concept), against=against)
            case heart.StartOrder(order):
                self._start_order(order)
            case heart.StartPoll():
                self._start("orders", "")
            case heart.PollThrough():
                if self._job is not None:
                    self._job.ask()
            case heart.Interrupt():
                self._log.say("interrupting", "finishing this step, then saving")
                if self._job is not None:
                    self._job.interrupt()
            case heart.Kill():
                self._log.say("killing", "it did not end in time; its older saves are whole")
                if self._job is not None:
                    self._job.kill()
            case heart.Keep():
                self._keep()
            case heart.End():
                self._over = True

    def _start_order(self, order: Order) -> None:
        """Begin an order: of its own it says a kind, a concept's name and a release."""
        if order.kind == "score":
            concept = self._options(order.concept)
            self._start("score", order.concept, concept=concept, release=order.release)
        else:
            self._start("withdraw", order.concept, name=order.concept)

    def _options(self, concept: str) -> dict[str, Any]:
        return asdict(self._settings.concept(concept))

    def _start(self, do: str, about: str, **more: object) -> None:
        settings, left = self._settings, None
        if settings.upload_mb_day:
            left = max(0, settings.upload_mb_day * 1_000_000 - self._state.sent_bytes)
        job = {
            "do": do,
            "home": str(self._home.folder),
            "gate": {
                "is_policy": settings.gate == "policy",
                "upload_bytes": settings.policy_upload_mb * 1e6,
                "memorisation": settings.policy_memorisation,
            },
            "limits": {
                "gpu": settings.gpu,
                "upload_kib_s": settings.upload_kib_s,
                "upload_bytes_left": left,
            },
            "patience_s": min(_PATIENCE_S, 60 * settings.retry_minutes),
            **more,
        }
        if do != "orders":
            self._log.say("job", f"{about}: {do} begins", concept=about, do=do)
        self._about = about
        self._last = {}
        try:
            self._job = DaemonProcess(job, stderr=self._folder / "job.stderr")
        except OSError as error:  # no memory, no process, no room: the heart waits and tries again
            self._last = {"code": "crashed", "what": f"it did not start: {error}", "fix": ""}
            self._end(None)
            return
        self._selector.register(self._job.said, selectors.EVENT_READ, self._hear)

    def _keep(self) -> None:
        """Write what outlives a restart; a full disk does not end a daemon that runs."""
        try:
            remember(self._folder, self._state)
        except (OrthoFedError, OSError) as error:
            self._log.say("not-kept", f"this would not outlive a restart: {error}")

    def _hear(self) -> None:
        """Pass on what the job said, and its end."""
        job = self._job
        if job is None:
            return
        is_over = job.is_over()  # before its last lines are read, so that none is missed
        for line in job.lines():
            self._told(line)
        if job.is_heard and (is_over or job.is_silent):
            self._selector.unregister(job.said)
            job.is_heard = False
        if is_over:
            job.close()
            self._job = None
            self._end(job.exit)

    def _told(self, line: Mapping[str, Any]) -> None:
        name = str(line["event"])
        if name == "ended":
            self._last = line
            return
        if name in {"orders", "no-orders"}:
            if name == "orders":
                self._orders.heard(line, time.monotonic())
            self.hear(orders_event(line, self._phase, random.random()))  # noqa: S311  # jitter
            return
        now_s = time.monotonic()
        if name not in {"step", "uploading"} or now_s - self._said_steps_s >= _STEPS_S:
            self._said_steps_s = now_s if name in {"step", "uploading"} else self._said_steps_s
            values = {**line, "concept": self._about}
            self._log.say(name, f"{self._about}: {job_words(line)}", **values)
        self.hear(
            heart.Told(
                name,
                step=_whole(line.get("step")),
                steps=_whole(line.get("steps")),
                eta_s=float(line.get("eta_s", 0.0)),
                sent=_whole(line.get("sent")),
            )
        )

    def _end(self, code: int | None) -> None:
        said = self._last
        if not said:
            said = unsaid(code, self._folder)
        if self._state.job != "orders" or said["code"]:
            says = f"{said['code']}: {said['what']}" if said["code"] else "done"
            values = {**said, "concept": self._about, "exit": code}
            self._log.say("job-ended", f"{self._about or 'orders'}: {says}", **values)
        roll = random.random()  # noqa: S311  # jitter, not a secret
        told = (str(said[key]) for key in ("code", "what", "fix"))
        self.hear(heart.Ended(*told, roll=roll))

    def _phase(self, concept: str) -> str:
        """Return the saved phase of ``concept``, empty where there is none that can be read."""
        try:
            session = load(self._home.run(concept))
        except OrthoFedError:
            return ""
        if session is not None and is_unsent(session):
            return CORRECTING
        return session.phase if session is not None else ""

    def _ordered(self, line: bytes) -> bytes:
        """Answer a courier within this turn of the loop; nothing waits for work."""
        now_s = time.monotonic()
        if (seen := self._orders.seen(line, now_s)) is not None:
            return seen
        order = self._orders.order(line, now_s)
        if isinstance(order, Order):
            self.hear(heart.Ordered(order))
        return self._orders.reply(order, self._state, self._home)

    def _answer(self, line: bytes) -> bytes:
        event = event_of(line)
        if isinstance(event, heart.Event):
            self._log.say("asked", type(event).__name__.lower(), **asdict(event))
            self.hear(event)
        return reply(event, self.status())

    def _heard_signal(self) -> None:
        for number in self._woken.recv(64):
            self._log.say("signal", f"{signal.Signals(number).name}: stopping", number=number)
            self.hear(heart.Stop())

    def _say_wait(self) -> None:
        wait = self.status()["wait"]
        words = f"waiting: {wait['reason']}" if wait else "working"
        self._log.say("wait", words, **(wait or {"reason": ""}))


def _now() -> heart.Now:
    return heart.Now(datetime.now().astimezone(), time.monotonic())


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
