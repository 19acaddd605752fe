"""What the owner's daemon knows, what can happen to it, and what it can ask for: values only.

`daemon.py` has the one function over them; daemon_shell.py makes the events and carries the actions
out. Times: ``now.wall`` is local, for people and windows; all else counts on the monotonic clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal, Self

from .daemon_settings import DaemonSettings, Mode
from .daemon_waits import Seen, Wait
from .order_book import Order, OrderBook

TaskState = Literal["queued", "running", "waiting", "done"]
Job = Literal["", "train", "orders", "score", "withdraw"]
"""What the one process does: teach, ask for orders, carry one out; empty: there is none."""


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
class Word:
    """The owner's word; ``until`` None: until `resume`. ``for_s`` bounds it if clocks jump.

    ``mode`` None: paused. Else the mode that holds in place of the settings'.
    """

    mode: Mode | None = None
    until: datetime | None = None
    for_s: float = 0.0

    @classmethod
    def spoken(cls, mode: Mode | None, for_s: float | None, now: datetime) -> Self:
        """Return the word that was said at ``now``; ``for_s`` None: until `resume`."""
        if for_s is None:
            return cls(mode)
        return cls(mode, now + timedelta(seconds=for_s), for_s)

    def at(self, now: datetime) -> Self | None:
        """Return what is left of it; a clock that was set back does not make it longer."""
        if self.until is None:
            return self
        until = min(self.until, now + timedelta(seconds=self.for_s))
        return None if until <= now else replace(self, until=until)


@dataclass(frozen=True, slots=True)
class State:
    """All that the daemon knows."""

    settings: DaemonSettings
    now: Now
    tasks: tuple[Task, ...]
    seen: Seen = field(default_factory=Seen)
    pause: Word | None = None
    chosen: Word | None = None  # the mode in place of the settings'
    wait: Wait | None = None  # of the whole machine, as decided last
    job: Job = ""
    running: str = ""  # the concept that is taught
    order: str = ""  # the id of the order that is carried out
    interrupted_s: float | None = None  # when it was asked to stop
    killed: bool = False
    leaving: str | None = None  # the concept to finish before the end; empty: none
    stopping: bool = False
    hurried: bool = False  # asked to end a second time
    day: str = ""  # the local date that `sent_bytes` counts
    sent_bytes: int = 0
    book: OrderBook = field(default_factory=OrderBook)
    poll_s: float = 0.0  # when the coordinator is asked for orders again
    polled_s: float = -60.0  # when it was last asked
    polling: bool = False
    poll_tries: int = 0  # that failed in a row
    orders_s: float = 0.0  # no order is begun before

    @property
    def mode(self) -> Mode:
        """The mode that holds now: the owner's last word, else the settings'."""
        return (self.chosen and self.chosen.mode) or self.settings.mode

    def task(self, concept: str) -> Task:
        """Return the task of ``concept``, which is in the queue."""
        return next(task for task in self.tasks if task.concept == concept)

    def has(self, concept: str) -> bool:
        """Return whether ``concept`` is in the queue."""
        return any(task.concept == concept for task in self.tasks)


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
    """A concept's saved phase, read by the shell: at the start, or when somebody else moved it.

    ``release``: the one that its last corrective round was against, 0 for none.
    """

    concept: str
    phase: str
    release: int = 0


@dataclass(frozen=True, slots=True)
class Paused:
    """The owner wants quiet; ``for_s`` None: until `resume`."""

    for_s: float | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The owner wants another mode; ``for_s`` None: until `resume`. It ends a pause."""

    mode: Mode
    for_s: float | None = None


@dataclass(frozen=True, slots=True)
class Resumed:
    """The owner wants work again by the settings, also of what had failed."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The owner wants the running concept finished, and then no daemon."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The process was asked to end."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """A request on orders.sock, well formed and of this federation; it is but a hint."""

    order: Order


@dataclass(frozen=True, slots=True)
class Opened:
    """The coordinator's list of open orders; ``phases``: the saved phase of each concept in it."""

    orders: tuple[Order, ...]
    phases: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The coordinator could not be asked for orders; ``roll`` as in `Ended`."""

    roll: float = 0.0


Event = (
    Tick
    | Told
    | Ended
    | Found
    | Paused
    | Chosen
    | Resumed
    | Leave
    | Stop
    | Ordered
    | Opened
    | Unanswered
)


@dataclass(frozen=True, slots=True)
class Start:
    """Begin the process of a concept; ``against``: a corrective round against this release."""

    concept: str
    against: int = 0


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


@dataclass(frozen=True, slots=True)
class StartOrder:
    """Begin the process that scores or withdraws."""

    order: Order


@dataclass(frozen=True, slots=True)
class StartPoll:
    """Begin a short process that asks the coordinator for orders."""


@dataclass(frozen=True, slots=True)
class PollThrough:
    """Have the training's process ask: it holds the home's lock and a connection."""


Action = Start | StartOrder | StartPoll | PollThrough | Interrupt | Kill | Keep | End
