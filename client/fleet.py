"""The heart of ``orthofed client fleet``: when SuperNode and SuperExec are started and ended.

``step(state, event) -> (state, actions)``; time is an event. Laws: (1) a SuperNode that ended is
started after 15, 30, 30 s, then 65 s: SuperLink refuses a node that it holds for alive, until 60 s
have passed (L6), so a killed one is back within 85 s. (2) The process table is not believed (L8): a
SuperNode that runs, while the coordinator says through the owner's daemon that it has not seen the
node for 120 s, is ended and started after 65 s. (3) If that did not help the trouble is elsewhere,
so the next replacement waits twice as long, at most half an hour: a whole fleet must not beat on a
SuperLink that is down. Training is in the daemon: nothing here can lose it.
Source: flower.md 4 and 6.
Not here: processes, sockets, clocks (fleet_shell.py).
"""

from dataclasses import dataclass, replace

from ..fleet.watch import Watch

NODE, EXECUTOR = "supernode", "superexec"
_NODE_PAUSES_S = (15.0, 30.0, 30.0, 65.0)
_EXECUTOR_PAUSES_S = (2.0, 5.0, 15.0, 30.0)
_STEADY_S = 180.0
_NODE = Watch(NODE, _NODE_PAUSES_S, _STEADY_S)
_EXECUTOR = Watch(EXECUTOR, _EXECUTOR_PAUSES_S, _STEADY_S)
_ASK_S = 30.0
_UNSEEN_S = 120
_SILENT_PAUSE_S = 65.0
_PATIENCE_S = 120.0
_MOST_PATIENCE_S = 1_800.0
_GRACE_S = 15.0


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""

    now_s: float


@dataclass(frozen=True, slots=True)
class Exited:
    """A process has ended."""

    name: str


@dataclass(frozen=True, slots=True)
class Seen:
    """Seconds since the coordinator saw the node; None: nobody knows."""

    age_s: int | None


@dataclass(frozen=True, slots=True)
class Stop:
    """The fleet side of this machine is to end."""


Event = Tick | Exited | Seen | Stop


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
class AskSeen:
    """Ask the daemon; answered by Seen."""


@dataclass(frozen=True, slots=True)
class End:
    """Both have ended: the supervisor too."""


Action = Start | Terminate | Kill | AskSeen | End


@dataclass(frozen=True, slots=True)
class Node:
    """What is known of this machine's two processes. Units: seconds of Tick's clock."""

    node: Watch = _NODE
    executor: Watch = _EXECUTOR
    now_s: float = 0.0
    ask_due_s: float = 0.0
    asking: bool = False
    patience_s: float = _PATIENCE_S
    is_silent: bool = False
    is_stopping: bool = False
    is_over: bool = False


def step(state: Node, event: Event) -> tuple[Node, list[Action]]:
    """Take what happened, then decide. Same state and event: same answer, always."""
    state = _take(state, event)
    actions: list[Action] = []
    if state.is_over:
        return state, actions
    for field in ("node", "executor"):
        watch: Watch = getattr(state, field)
        unwanted = state.is_stopping or (field == "node" and state.is_silent)
        if watch.is_up and unwanted and watch.ending_s is None:
            actions.append(Terminate(watch.name))
            watch = watch.ending(state.now_s)
        elif watch.overdue(state.now_s, grace_s=_GRACE_S):
            actions.append(Kill(watch.name))
            watch = watch.ending(state.now_s)
        elif watch.is_due(state.now_s) and not state.is_stopping:
            actions.append(Start(watch.name))
            watch = watch.started(state.now_s)
        state = replace(state, **{field: watch})
    if state.is_stopping and not state.node.is_up and not state.executor.is_up:
        return replace(state, is_over=True), [*actions, End()]
    if not state.asking and not state.is_stopping and state.now_s >= state.ask_due_s:
        actions.append(AskSeen())
        state = replace(state, asking=True, ask_due_s=state.now_s + _ASK_S)
    return state, actions


def _take(state: Node, event: Event) -> Node:
    """Return the state with the event's facts in it."""
    now_s = state.now_s
    match event:
        case Tick():
            return replace(state, now_s=max(now_s, event.now_s))
        case Exited(name) if name == NODE:
            pause_s = _SILENT_PAUSE_S if state.is_silent else 0.0
            return replace(state, node=state.node.ended(now_s, at_least_s=pause_s), is_silent=False)
        case Exited():
            return replace(state, executor=state.executor.ended(now_s))
        case Seen(age_s):
            return _seen(replace(state, asking=False), age_s)
        case Stop():
            return replace(state, is_stopping=True)


def _seen(state: Node, age_s: int | None) -> Node:
    """Judge what the coordinator saw; no news judges nothing."""
    if age_s is None:
        return state
    if age_s < _UNSEEN_S:
        return replace(state, patience_s=_PATIENCE_S)
    up_s = state.now_s - state.node.since_s
    if not state.node.is_up or state.node.ending_s is not None or up_s < state.patience_s:
        return state
    patience_s = min(2 * state.patience_s, _MOST_PATIENCE_S)
    return replace(state, is_silent=True, patience_s=patience_s)
