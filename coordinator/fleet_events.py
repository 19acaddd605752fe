"""What the fleet's heart is told and what it asks for, each a value; fleet.py joins them.

Law: an event states a fact and an action is one thing to do; neither knows how it came about or how
it is carried out.
"""

from dataclasses import dataclass
from typing import Literal

LINK, EXECUTOR = "superlink", "superexec"
"""The names of the two processes."""


@dataclass(frozen=True, slots=True)
class Key:
    """A node key of the coordinator's store and the node that it was last registered as."""

    name: str
    public_key: str
    node: int | None


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed. ``beat_s``: when the bridge last turned, on the same clock; 0 = never."""

    now_s: float
    beat_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Exited:
    """A process has ended."""

    name: str


@dataclass(frozen=True, slots=True)
class Probed:
    """SuperLink answered ``/health`` in time, or not; or its database is gone."""

    well: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """The live runs, oldest first; None: the command failed."""

    runs: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class RunDone:
    """A start or stop of a run came to its end, whatever it says of itself."""


@dataclass(frozen=True, slots=True)
class KeysRead:
    """The store's keys, and nodes to unregister; None: the coordinator did not answer."""

    keys: tuple[Key, ...] | None
    gone: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NodesListed:
    """The nodes that SuperLink knows and has not unregistered; None: the command failed."""

    nodes: frozenset[int] | None


@dataclass(frozen=True, slots=True)
class Registered:
    """What came of registering a key; ``node`` if it is done, ``nothing`` if nobody knows."""

    public_key: str
    says: Literal["done", "in-use", "refused", "nothing"]
    node: int | None = None


@dataclass(frozen=True, slots=True)
class Unregistered:
    """An unregistering came to its end."""

    node: int
    is_done: bool


@dataclass(frozen=True, slots=True)
class Stop:
    """The operator ends the fleet."""


Event = (
    Tick
    | Exited
    | Probed
    | Listed
    | RunDone
    | KeysRead
    | NodesListed
    | Registered
    | Unregistered
    | Stop
)


@dataclass(frozen=True, slots=True)
class Start:
    """Start a process, which does not run."""

    name: str


@dataclass(frozen=True, slots=True)
class Terminate:
    """Ask a process to end."""

    name: str


@dataclass(frozen=True, slots=True)
class Kill:
    """End a process at once."""

    name: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask SuperLink's ``/health``; answered by Probed."""


@dataclass(frozen=True, slots=True)
class ListRuns:
    """Answered by Listed."""


@dataclass(frozen=True, slots=True)
class StartRun:
    """Answered by RunDone."""


@dataclass(frozen=True, slots=True)
class StopRun:
    """Answered by RunDone."""

    run: int


@dataclass(frozen=True, slots=True)
class ReadKeys:
    """Ask the coordinator; answered by KeysRead."""


@dataclass(frozen=True, slots=True)
class ListNodes:
    """Answered by NodesListed."""


@dataclass(frozen=True, slots=True)
class Register:
    """Register a node key; answered by Registered."""

    key: Key


@dataclass(frozen=True, slots=True)
class Unregister:
    """Take a node from SuperLink; answered by Unregistered."""

    node: int


@dataclass(frozen=True, slots=True)
class TellRegistered:
    """Tell the coordinator which node a key has become."""

    public_key: str
    node: int


@dataclass(frozen=True, slots=True)
class TellUnregistered:
    """Tell the coordinator that a node is gone."""

    node: int


@dataclass(frozen=True, slots=True)
class End:
    """All has ended: the supervisor too."""


Command = ListRuns | StartRun | StopRun | ReadKeys | ListNodes | Register | Unregister
"""What takes seconds and is answered by an event; one at a time."""
Action = Start | Terminate | Kill | Probe | Command | TellRegistered | TellUnregistered | End
