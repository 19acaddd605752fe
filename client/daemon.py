"""Decides what the owner's daemon does next; it reads no file, clock, socket or sensor.

    queued -> running -> done                the receipt is here
       ^         |-----> waiting             until a time, for the owner's yes, or for the owner
       |_________|_______|                   interrupted, tried again, approved

`step(state, event) -> (state, actions)`: daemon_shell.py carries the actions out and reports what
came of them. One concept is worked on at a time, in the order of the settings; what waits lets the
next one go ahead. Laws: nothing runs while there is a reason to wait; what runs when one appears is
interrupted, and killed where it does not end in time (10 s for the GPU's sake; a stop of the daemon
waits for the step, much longer); a concept that is done is not begun again by itself; time is an
event, and pauses between tries grow to the settings' bound, with full jitter, for ever. Cost: small
values; no import of numpy or torch. Source: house-style.md rule 4, product.md 5, reliability.md 5.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from .daemon_settings import DaemonSettings
from .daemon_waits import Reason, Seen, Wait, machine_wait

TaskState = Literal["queued", "running", "waiting", "done"]

PAUSE_GRACE_S: Final = 8.0
"""From an interrupt to a kill, so that memory and GPU are free within 10 s (product.md 5)."""
STOP_GRACE_S: Final = 90.0
"""The same where the daemon itself ends: a long step on a CPU is finished and saved."""
_FIRST_S: Final = 5.0
_MOST_CRASHES: Final = 5
"""In a row without one step in between; after them the owner is needed."""
_MINUTES: Final = 60.0

_TRIED_AGAIN: Final[dict[str, Reason]] = {
    "busy": "coordinator unreachable",
    "disk-full": "disk low",
    "home-in-use": "home in use",
    "lease-lost": "lease lost",
    "no-free-slot": "no slot is free",
    "no-room": "coordinator unreachable",
    "quota-used": "quota",
    "rate-limited": "coordinator unreachable",
    "too-much": "coordinator unreachable",
    "unreachable": "coordinator unreachable",
}
"""By the code of a failure: what passes by itself."""


@dataclass(frozen=True, slots=True)
class Now:
    """One moment: local wall time for people, a monotonic clock for everything else."""

    wall: datetime
    mono_s: float


@dataclass(frozen=True, slots=True)
class Task:
    """One concept of the queue and how far it is."""

    concept: str
    state: TaskState = "queued"
    wait: Wait | None = None
    until_s: float | None = None  # monotonic; None with a wait: the owner is needed
    doing: str = ""  # what its process said last
    step: int = 0
    steps: int = 0
    eta_s: float = 0.0
    sent: int = 0  # bytes of the upload, as its process said last
    tries: int = 0  # that failed in a row
    code: str = ""  # of the last failure
    fix: str = ""

    @property
    def is_for_owner(self) -> bool:
        """Whether only its owner's word brings it on."""
        return self.state == "waiting" and self.until_s is None


@dataclass(frozen=True, slots=True)
class Pause:
    """The owner's word; ``until`` None: until `resume`. ``for_s`` bounds it if clocks jump."""

    until: datetime | None = None
    for_s: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """All that the daemon knows."""

    settings: DaemonSettings
    now: Now
    tasks: tuple[Task, ...]
    seen: Seen = field(default_factory=Seen)
    pause: Pause | None = None
    wait: Wait | None = None  # of the whole machine, as decided last
    running: str = ""  # the concept whose process lives
    interrupted_s: float | None = None  # when it was asked to stop
    killed: bool = False
    leaving: str | None = None  # the concept to finish before the end; empty: none
    stopping: bool = False
    hurried: bool = False  # asked to end a second time
    day: str = ""  # the local date that `sent_bytes` counts
    sent_bytes: int = 0

    def task(self, concept: str) -> Task:
        """Return the task of ``concept``."""
        return next(task for task in self.tasks if task.concept == concept)


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by, and the machine was looked at."""

    now: Now
    seen: Seen


@dataclass(frozen=True, slots=True)
class Told:
    """The process of the running concept said something (happened.py)."""

    name: str
    step: int = 0
    steps: int = 0
    eta_s: float = 0.0
    sent: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """The process is gone: ``code`` of its failure, empty where the receipt is here.

    All that means no answer has the code ``unreachable``, a process that said nothing ``crashed``.
    ``roll`` in [0, 1) is the jitter of the next try.
    """

    code: str = ""
    what: str = ""
    fix: str = ""
    roll: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """A concept's saved phase, read by the shell: at the start, or when somebody else moved it."""

    concept: str
    phase: str


@dataclass(frozen=True, slots=True)
class Paused:
    """The owner wants quiet; ``for_s`` None: until `resume`."""

    for_s: float | None = None


@dataclass(frozen=True, slots=True)
class Resumed:
    """The owner wants work again, also of what had failed."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The owner wants the running concept finished, and then no daemon."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The process was asked to end."""


Event = Tick | Told | Ended | Found | Paused | Resumed | Leave | Stop


@dataclass(frozen=True, slots=True)
class Start:
    """Begin the process of a concept."""

    concept: str


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Ask it to finish the step, save and end."""


@dataclass(frozen=True, slots=True)
class Kill:
    """End it at once; its older saves are whole."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Write down what must outlive a restart: the pause, and the bytes of the day."""


@dataclass(frozen=True, slots=True)
class End:
    """Leave; nothing runs."""


Action = Start | Interrupt | Kill | Keep | End


def step(state: State, event: Event) -> tuple[State, tuple[Action, ...]]:
    """Advance by one event. Same state and event: same answer, always."""
    before = state
    match event:
        case Tick(now, seen):
            state = _woken(replace(state, now=now, seen=seen))
        case Told():
            state = _told(state, event)
        case Ended():
            state = _ended(state, event)
        case Found(concept, phase):
            state = _found(state, concept, phase)
        case Paused(for_s):
            until = None if for_s is None else state.now.wall + timedelta(seconds=for_s)
            state = replace(state, pause=Pause(until, for_s or 0.0))
        case Resumed():
            freed = tuple(_freed(task) for task in state.tasks)
            state = replace(state, pause=None, tasks=freed)
        case Leave():
            state = replace(state, leaving=state.running)
        case Stop():
            state = replace(state, stopping=True, hurried=state.stopping)
    state, actions = _decided(state)
    kept = (before.pause, before.day, before.sent_bytes)
    if kept != (state.pause, state.day, state.sent_bytes):
        actions = (Keep(), *actions)
    return state, actions


def _woken(state: State) -> State:
    """Return the state of this moment: pauses and waits that are over are gone."""
    now, pause = state.now, state.pause
    if pause is not None and pause.until is not None:
        latest = now.wall + timedelta(seconds=pause.for_s)
        until = min(pause.until, latest)  # a clock that was set back does not make it longer
        pause = None if until <= now.wall else replace(pause, until=until)
    tasks = tuple(
        replace(task, state="queued", wait=None, until_s=None)
        if task.until_s is not None and task.until_s <= now.mono_s
        else task
        for task in state.tasks
    )
    today = now.wall.date().isoformat()
    sent = state.sent_bytes if today == state.day else 0
    return replace(state, pause=pause, tasks=tasks, day=today, sent_bytes=sent)


def _told(state: State, said: Told) -> State:
    if not state.running:
        return state
    task = state.task(state.running)
    if said.name == "uploading":
        new = max(0, said.sent - task.sent) if task.doing == "uploading" else 0
        state = replace(state, sent_bytes=state.sent_bytes + new)
    came = replace(task, doing=said.name, sent=said.sent)
    if said.name == "step":
        came = replace(came, step=said.step, steps=said.steps, eta_s=said.eta_s, tries=0)
    return _with(state, came)


def _ended(state: State, ended: Ended) -> State:
    """Return the state after the running concept's process ended, and with what it waits for."""
    if not state.running:
        return state
    task = replace(state.task(state.running), doing="", sent=0, eta_s=0.0)
    task = replace(task, code=ended.code, fix=ended.fix)
    was_asked = state.interrupted_s is not None
    state = replace(state, running="", interrupted_s=None, killed=False)
    if not ended.code:
        task = replace(task, state="done", tries=0, fix="")
    elif was_asked or ended.code == "interrupted":
        task = replace(task, state="queued")
    elif ended.code == "lease-lost" and not task.tries:
        # Its files lie aside, the session is new (session.py): go on at once, the first time.
        task = replace(task, state="queued", tries=1)
    elif ended.code == "egress-declined":
        task = _waits(task, Wait("waiting for your approval", detail=ended.what), None)
    elif ended.code == "upload-quota":
        midnight = (state.now.wall + timedelta(days=1)).replace(hour=0, minute=0, second=5)
        left_s = (midnight - state.now.wall).total_seconds()
        task = _waits(task, Wait("quota", midnight, ended.what), state.now.mono_s + left_s)
    else:
        task = _again(state, task, ended)
    return _with(state, task)


def _again(state: State, task: Task, ended: Ended) -> Task:
    """Return the task with its next try, or with the word that the owner is needed."""
    reason = _TRIED_AGAIN.get(ended.code)
    task = replace(task, tries=task.tries + 1)
    if reason is None and (ended.code != "crashed" or task.tries >= _MOST_CRASHES):
        return _waits(task, Wait("failed", detail=ended.what), None)
    longest = min(
        _FIRST_S * 2.0 ** min(task.tries - 1, 30), state.settings.retry_minutes * _MINUTES
    )
    pause_s = 1.0 + ended.roll * longest  # full jitter: a thousand clients do not come at once
    until = state.now.wall + timedelta(seconds=pause_s)
    return _waits(task, Wait(reason or "failed", until, ended.what), state.now.mono_s + pause_s)


def _found(state: State, concept: str, phase: str) -> State:
    task = state.task(concept)
    if phase in {"receipted", "withdrawing", "withdrawn"}:
        task = replace(task, state="done", wait=None, until_s=None)
    elif task.state == "waiting" and phase == "approved":
        task = _freed(task)
    return _with(state, task)


def _waits(task: Task, wait: Wait, until_s: float | None) -> Task:
    return replace(task, state="waiting", wait=wait, until_s=until_s)


def _freed(task: Task) -> Task:
    """Return the task in the queue, unless it is running or done."""
    if task.state != "waiting":
        return task
    return replace(task, state="queued", wait=None, until_s=None, tries=0)


def _decided(state: State) -> tuple[State, tuple[Action, ...]]:
    """Return what to do now, whatever happened."""
    if state.pause is not None:
        wait = Wait("paused by you", state.pause.until)
    else:
        was_hot = state.wait is not None and state.wait.reason == "too hot"
        wait = machine_wait(state.settings, state.seen, state.now.wall, was_hot=was_hot)
    state = replace(state, wait=wait)
    if state.running:
        return _watched(state)
    queue = state.tasks
    if state.leaving is not None:
        queue = tuple(task for task in queue if task.concept == state.leaving)
        if all(task.state == "done" or task.is_for_owner for task in queue):
            return state, (End(),)
    if state.stopping:
        return state, (End(),)
    ready = next((task for task in queue if task.state == "queued"), None)
    if wait is not None or ready is None:
        return state, ()
    state = _with(replace(state, running=ready.concept), replace(ready, state="running"))
    return state, (Start(ready.concept),)


def _watched(state: State) -> tuple[State, tuple[Action, ...]]:
    """Return whether what runs has to stop."""
    if state.interrupted_s is None:
        if state.wait is None and not state.stopping:
            return state, ()
        return replace(state, interrupted_s=state.now.mono_s), (Interrupt(),)
    grace_s = STOP_GRACE_S if state.stopping else PAUSE_GRACE_S
    is_late = state.hurried or state.now.mono_s - state.interrupted_s >= grace_s
    if state.killed or not is_late:
        return state, ()
    return replace(state, killed=True), (Kill(),)


def _with(state: State, task: Task) -> State:
    tasks = tuple(task if each.concept == task.concept else each for each in state.tasks)
    return replace(state, tasks=tasks)
