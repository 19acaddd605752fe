"""The heart of ``orthofed coordinator fleet``: what to start, stop and ask next.

    SuperLink up and well -> no live run -> start one -> its bridge beats -> look after the keys

``step(state, event) -> (state, actions)``; time is an event. Laws: (1) a run is started only when a
list newer than the last start, stop or SuperLink shows no live one, so never two of ours live; of
several, all but the newest are stopped. (2) A process that ended is started again within its pause
(fleet/watch.py). (3) One ``flwr`` command at a time, since each takes 2 to 3 s of a core. (4) Node
keys are the store's: one that SuperLink's list lacks is registered, whatever its file has lost; one
at a time, so that an answer that got lost leaves a single node to tell (L11). Runs, node ids and
``link.db`` are disposable; orders are not here. Source: flower.md 4 (L3 to L5, L11) and 6.
Not here: processes, sockets, clocks (fleet_shell.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..fleet.watch import Watch
from .fleet_events import (
    EXECUTOR,
    LINK,
    Action,
    Command,
    End,
    Event,
    Exited,
    Key,
    KeysRead,
    Kill,
    Listed,
    ListNodes,
    ListRuns,
    NodesListed,
    Probe,
    Probed,
    ReadKeys,
    Register,
    Registered,
    RunDone,
    Start,
    StartRun,
    Stop,
    StopRun,
    TellRegistered,
    TellUnregistered,
    Terminate,
    Tick,
    Unregister,
    Unregistered,
)

_PAUSES_S = (1.0, 2.0, 5.0, 15.0, 30.0)
_STEADY_S = 120.0
_LINK = Watch(LINK, _PAUSES_S, _STEADY_S)
_EXECUTOR = Watch(EXECUTOR, _PAUSES_S, _STEADY_S)
_PROBE_S = 5.0
_MISSES = 3
_START_S = 90.0
"""A SuperLink may take that long until its first answer; it took up to 23 s on two shared cores."""
_BEAT_S = 60.0
"""A bridge that has not turned for so long is stopped, with its run (flower.md 6)."""
_FRESH_S = 20.0
_BEGIN_S = 90.0
"""A run may take that long until its bridge turns: SuperExec has to take it and import flwr."""
_RUN_PAUSES_S = (2.0, 5.0, 15.0, 60.0)
_KEYS_S = 10.0
_LOST_S = 60.0
_GRACE_S = 15.0
_FAREWELL_S = 30.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """All that is known; whatever is None has to be asked for. Units: seconds of Tick's clock."""

    link: Watch = _LINK
    executor: Watch = _EXECUTOR
    now_s: float = 0.0
    beat_s: float = 0.0
    busy: Command | None = None
    is_stale: bool = False
    """SuperLink ended while the command ran: what it listed may be of another database."""
    probing: bool = False
    well: bool = False
    misses: int = 0
    probe_due_s: float = 0.0
    runs: tuple[int, ...] | None = None
    list_due_s: float = 0.0
    run_since_s: float = 0.0
    run_due_s: float = 0.0
    run_failures: int = 0
    keys: tuple[Key, ...] = ()
    gone: tuple[int, ...] = ()
    keys_due_s: float = 0.0
    nodes: frozenset[int] | None = None
    unheard: frozenset[tuple[str, int]] = frozenset()
    """Keys and their nodes that the coordinator was told of and has not listed yet."""
    lost_keys: frozenset[str] = frozenset()
    """Keys that could not be registered: tried again a minute later."""
    lost_until_s: float = 0.0
    stopping_s: float | None = None
    is_leaving: bool = False
    is_over: bool = False


def step(fleet: Fleet, event: Event) -> tuple[Fleet, list[Action]]:
    """Take what happened, then decide. Same state and event: same answer, always."""
    fleet, told = _take(fleet, event)
    fleet, decided = _decide(fleet)
    return fleet, told + decided


def _take(fleet: Fleet, event: Event) -> tuple[Fleet, list[Action]]:
    """Return the state with the event's facts in it, and what the coordinator is told of them."""
    now_s = fleet.now_s
    match event:
        case Tick():
            beat_s = max(fleet.beat_s, event.beat_s)
            return replace(fleet, now_s=max(now_s, event.now_s), beat_s=beat_s), []
        case Exited(name) if name == LINK:
            # What it knew is to be asked anew: its database may be another one (L11).
            fleet = replace(fleet, link=fleet.link.ended(now_s), well=False, misses=0)
            fleet = replace(fleet, runs=None, nodes=None, is_stale=fleet.busy is not None)
            fleet = replace(fleet, unheard=frozenset(), lost_keys=frozenset())
            return replace(fleet, list_due_s=now_s), []
        case Exited():
            fleet = replace(fleet, executor=fleet.executor.ended(now_s), runs=None)
            return replace(fleet, list_due_s=now_s), []
        case Probed(well):
            return _probed(replace(fleet, probing=False), well=well), []
        case Stop():
            return replace(fleet, stopping_s=now_s), []
        case _:
            stale, fleet = fleet.is_stale, replace(fleet, busy=None, is_stale=False)
            return _answered(fleet, event, stale=stale)


def _answered(fleet: Fleet, event: Event, *, stale: bool) -> tuple[Fleet, list[Action]]:
    """Take the answer of the command that was in flight."""
    now_s = fleet.now_s
    match event:
        case Listed(runs):
            fleet = _listed(fleet, None if stale else runs)
        case RunDone():
            fleet = replace(fleet, runs=None, list_due_s=now_s)
        case KeysRead(keys, gone):
            fleet = replace(fleet, keys_due_s=now_s + _KEYS_S)
            if now_s >= fleet.lost_until_s:
                fleet = replace(fleet, lost_keys=frozenset())
            if keys is not None:
                return _read(replace(fleet, keys=keys, gone=gone))
        case NodesListed(nodes):
            return _read(replace(fleet, nodes=None if stale else nodes))
        case Registered():
            return _registered(fleet, event)
        case Unregistered(node, is_done):
            left = tuple(each for each in fleet.gone if each != node)
            nodes = fleet.nodes
            if is_done and nodes is not None:
                nodes -= {node}
            fleet = replace(fleet, gone=left, nodes=nodes)
            return fleet, [TellUnregistered(node)] if is_done else []
        case _:
            raise AssertionError(event)
    return fleet, []


def _probed(fleet: Fleet, *, well: bool) -> Fleet:
    """Count what went unanswered; a SuperLink that starts has time until its first answer."""
    fleet = replace(fleet, probe_due_s=fleet.now_s + (_PROBE_S if well or fleet.well else 1.0))
    if well:
        return replace(fleet, well=True, misses=0)
    starts = not fleet.well and fleet.now_s - fleet.link.since_s < _START_S
    return replace(fleet, misses=0 if starts else fleet.misses + 1)


def _listed(fleet: Fleet, runs: tuple[int, ...] | None) -> Fleet:
    """Note which runs are live, and since when the newest is watched."""
    fleet = replace(fleet, runs=runs, list_due_s=fleet.now_s + _FRESH_S)
    if runs is None:
        return replace(fleet, list_due_s=fleet.now_s + 2.0)
    if len(runs) == 0:
        pause_s = _RUN_PAUSES_S[min(fleet.run_failures, len(_RUN_PAUSES_S) - 1)]
        return replace(fleet, run_due_s=fleet.run_since_s + pause_s)
    return fleet


def _read(fleet: Fleet) -> tuple[Fleet, list[Action]]:
    """Tell the coordinator again what its list does not show."""
    stored = {key.public_key: key.node for key in fleet.keys}
    unheard = frozenset(
        (key, node) for key, node in fleet.unheard if key in stored and stored[key] != node
    )
    told: list[Action] = [TellRegistered(key, node) for key, node in sorted(unheard)]
    known = fleet.nodes
    if known is not None:
        told += [TellUnregistered(node) for node in fleet.gone if node not in known]
        fleet = replace(fleet, gone=tuple(node for node in fleet.gone if node in known))
    return replace(fleet, unheard=unheard), told


def _registered(fleet: Fleet, done: Registered) -> tuple[Fleet, list[Action]]:
    """Tell a key's node to the coordinator; of a key in use it is the one that no key claims."""
    node, known = done.node, fleet.nodes or frozenset()
    if done.says == "nothing":
        return replace(fleet, nodes=None), []
    if done.says == "in-use":
        free = known - {key.node for key in fleet.keys}
        node = next(iter(free)) if len(free) == 1 else None
    if node is None:
        lost = fleet.lost_keys | {done.public_key}
        return replace(fleet, lost_keys=lost, lost_until_s=fleet.now_s + _LOST_S), []
    unheard = fleet.unheard | {(done.public_key, node)}
    fleet = replace(fleet, nodes=known | {node}, unheard=unheard, keys_due_s=fleet.now_s)
    return fleet, [TellRegistered(done.public_key, node)]


def _decide(fleet: Fleet) -> tuple[Fleet, list[Action]]:
    """Return the state and what is to be done next."""
    if fleet.is_over:
        return fleet, []
    if fleet.is_leaving or (fleet.stopping_s is not None and _may_leave(fleet, fleet.stopping_s)):
        return _leave(replace(fleet, is_leaving=True))
    actions: list[Action] = []
    if fleet.stopping_s is None:
        fleet, actions = _keep_up(fleet)
    if fleet.link.is_up and not fleet.probing and fleet.now_s >= fleet.probe_due_s:
        actions.append(Probe())
        fleet = replace(fleet, probing=True)
    command = next(_wanted(fleet), None) if fleet.busy is None and fleet.well else None
    if command is not None:
        fleet = replace(fleet, busy=command)
        if isinstance(command, StartRun):
            failures = fleet.run_failures
            again = fleet.now_s - fleet.run_since_s < _STEADY_S
            fleet = replace(fleet, run_failures=failures + 1 if again else 0, runs=None)
            fleet = replace(fleet, run_since_s=fleet.now_s)
        actions.append(command)
    return fleet, actions


def _keep_up(fleet: Fleet) -> tuple[Fleet, list[Action]]:
    """Start what is down and due, and end a SuperLink that does not answer."""
    actions: list[Action] = []
    link, executor, now_s = fleet.link, fleet.executor, fleet.now_s
    if link.is_up and fleet.misses >= _MISSES:
        actions.append(Kill(LINK))
        fleet = replace(fleet, misses=0, well=False)
    if link.is_due(now_s):
        actions.append(Start(LINK))
        fleet = replace(fleet, link=link.started(now_s), probe_due_s=now_s + 1.0)
    # It waits for a SuperLink by itself, but ends in time if there is none at its start.
    if executor.is_due(now_s) and fleet.well:
        actions.append(Start(EXECUTOR))
        fleet = replace(fleet, executor=executor.started(now_s))
    return fleet, actions


def _wanted(fleet: Fleet) -> Iterator[Command]:
    """Yield the commands that are wanted, the most urgent first."""
    yield from _for_the_run(fleet)
    if fleet.stopping_s is not None:
        return
    if fleet.now_s >= fleet.keys_due_s:
        yield ReadKeys()
    if not fleet.keys and not fleet.gone:
        return
    if fleet.nodes is None:
        yield ListNodes()
        return
    for node in fleet.gone:
        yield Unregister(node)
    # One node at most that no stored key claims, or nobody could tell whose node is whose.
    for key in fleet.keys if not fleet.unheard else ():
        if key.node not in fleet.nodes and key.public_key not in fleet.lost_keys:
            yield Register(key)


def _for_the_run(fleet: Fleet) -> Iterator[Command]:
    """Yield what brings about one live run with a bridge that turns; on the way out, none."""
    now_s = fleet.now_s
    one = fleet.runs is not None and len(fleet.runs) == 1
    if fleet.stopping_s is None and one and now_s - fleet.beat_s < _FRESH_S:
        return
    if now_s >= fleet.list_due_s:
        yield ListRuns()
    runs = fleet.runs
    if runs is None:
        return
    if len(runs) == 0:
        if fleet.stopping_s is None and fleet.executor.is_up and now_s >= fleet.run_due_s:
            yield StartRun()
        return
    alive_s = max(fleet.beat_s, fleet.run_since_s + _BEGIN_S - _BEAT_S)
    if fleet.stopping_s is not None or len(runs) > 1 or now_s - alive_s >= _BEAT_S:
        yield StopRun(runs[0])


def _may_leave(fleet: Fleet, since_s: float) -> bool:
    """Tell whether the runs are stopped, or cannot be."""
    stopped = fleet.runs == () and fleet.busy is None
    return stopped or not fleet.link.is_up or fleet.now_s - since_s >= _FAREWELL_S


def _leave(fleet: Fleet) -> tuple[Fleet, list[Action]]:
    """End SuperExec and SuperLink, then say that all is over."""
    actions: list[Action] = []
    for field in ("executor", "link"):
        watch: Watch = getattr(fleet, field)
        if not watch.is_up:
            continue
        if watch.ending_s is None:
            actions.append(Terminate(watch.name))
            fleet = replace(fleet, **{field: watch.ending(fleet.now_s)})
        elif watch.overdue(fleet.now_s, grace_s=_GRACE_S):
            actions.append(Kill(watch.name))
            fleet = replace(fleet, **{field: watch.ending(fleet.now_s)})
    if not fleet.link.is_up and not fleet.executor.is_up:
        actions.append(End())
        fleet = replace(fleet, is_over=True)
    return fleet, actions
