"""A SuperLink, a SuperExec and a coordinator's store in a few dicts, for the fleet's heart to run.

It does what the real ones were measured to do (flower.md 4): a run outlives SuperLink but not
SuperExec's end, a list shows a run that lost its bridge for another minute, a command takes effect
or not, whatever the heart is told of it, and a new database knows no run and no node. After each
step the laws of coordinator/fleet.py are looked at.
"""

from dataclasses import dataclass, field, replace

from orthofed.coordinator import fleet as heart
from orthofed.coordinator import fleet_events as events

_PROCESSES = (events.LINK, events.EXECUTOR)
_WINDOW_S = 60.0
_MOST_STARTS = 8
_LONGEST_PAUSE_S = 31.0
_GHOST_S = 60.0


@dataclass
class FleetWorld:
    """The world, the heart's state, and what is in flight."""

    state: heart.Fleet = field(default_factory=lambda: heart.Fleet())  # noqa: PLW0108  # a seeded one
    now_s: float = 1_000.0
    up: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(_PROCESSES, False))
    hung: bool = False
    runs: dict[int, float] = field(default_factory=dict)
    """Live runs, and since when the bridge of one is gone; 0: it turns."""
    num_runs: int = 0
    nodes: dict[int, str] = field(default_factory=dict)
    num_nodes: int = 0
    store: dict[str, int | None] = field(default_factory=lambda: {"a": None, "b": None})
    gone: set[int] = field(default_factory=set)
    unsaid: bool = False
    """The coordinator does not hear what it is told."""
    beat_s: float = 0.0
    flight: list[tuple[object, object]] = field(default_factory=list)
    starts: list[tuple[float, object]] = field(default_factory=list)
    down_s: dict[str, float] = field(default_factory=dict)
    over: bool = False

    @property
    def answers(self) -> bool:
        """SuperLink answers now."""
        return self.up[events.LINK] and not self.hung

    def feed(self, event: events.Event) -> None:
        """Give the heart one event and carry out what it wants."""
        self.state, actions = heart.step(self.state, event)
        for action in actions:
            self._perform(action)

    def _perform(self, action: events.Action) -> None:  # a case each
        assert not self.over, "an action after the end"
        match action:
            case events.Start(name):
                assert not self.up[name], f"{name} started twice"
                self.starts.append((self.now_s, name))
                recent = [1 for at, each in self.starts if each == name and at > self.now_s - 60]
                assert len(recent) <= _MOST_STARTS, f"{name}: a restart storm"
                self.up[name] = True
                self.down_s.pop(name, None)
                self.hung = self.hung and name != events.LINK
            case events.Kill(name) | events.Terminate(name):
                self.end(name)
            case events.StartRun():
                self.starts.append((self.now_s, "run"))
                recent = [1 for at, each in self.starts if each == "run" and at > self.now_s - 60]
                assert len(recent) <= _MOST_STARTS, "a storm of runs"
                self.flight.append((action, None))
            case events.ListRuns():
                self.flight.append((action, self._listed()))
            case events.TellRegistered(public_key, node):
                assert self.nodes.get(node) == public_key, "a node of another key"
                if not self.unsaid:
                    self.store[public_key] = node
            case events.TellUnregistered(node):
                if not self.unsaid:
                    self.gone.discard(node)
            case events.End():
                assert not any(self.up.values()), "over before the processes"
                self.over = True
            case _:
                self.flight.append((action, None))

    def _listed(self) -> tuple[int, ...]:
        ghosts = [run for run, gone_s in self.runs.items() if 0 < gone_s < self.now_s - _GHOST_S]
        for run in ghosts:
            del self.runs[run]
        return tuple(self.runs)

    def end(self, name: str) -> None:
        """End a process; with SuperExec the bridges end."""
        if not self.up[name]:
            return
        self.up[name] = False
        self.down_s[name] = self.now_s
        if name == events.EXECUTOR:
            self.freeze()
        self.feed(events.Exited(name))

    def freeze(self) -> None:
        """Let no bridge turn any more."""
        self.runs = {run: at or self.now_s for run, at in self.runs.items()}

    def lose_database(self) -> None:
        """Delete link.db under SuperLink, which ends."""
        self.runs, self.nodes = {}, {}
        self.end(events.LINK)

    def finish(self, *, lost: bool = False) -> None:
        """Let the oldest command come to its end; ``lost``: with its effect, but no answer."""
        if not self.flight:
            return
        command, snapshot = self.flight.pop(0)
        self.feed(self._outcome(command, snapshot, lost=lost))

    def _outcome(self, command: object, snapshot: object, *, lost: bool) -> events.Event:  # noqa: C901, PLR0911, PLR0912  # a case each
        well = self.answers
        silent = lost or not well
        match command:
            case events.Probe():
                return events.Probed(well and not lost)
            case events.ListRuns():
                assert snapshot is None or isinstance(snapshot, tuple)
                return events.Listed(None if silent else snapshot)
            case events.StartRun():
                if well:
                    assert not self.runs, "two live runs"
                    self.num_runs += 1
                    self.runs[self.num_runs] = 0.0 if self.up[events.EXECUTOR] else self.now_s
                return events.RunDone()
            case events.StopRun(run):
                if well:
                    self.runs.pop(run, None)
                return events.RunDone()
            case events.ReadKeys():
                keys = tuple(events.Key(each, each, node) for each, node in self.store.items())
                return events.KeysRead(None if lost else keys, tuple(self.gone))
            case events.ListNodes():
                return events.NodesListed(None if silent else frozenset(self.nodes))
            case events.Register(key):
                in_use = key.public_key in self.nodes.values()
                if well and not in_use:
                    self.num_nodes += 1
                    self.nodes[self.num_nodes] = key.public_key
                if silent:
                    return events.Registered(key.public_key, "nothing")
                if in_use:
                    return events.Registered(key.public_key, "in-use")
                return events.Registered(key.public_key, "done", self.num_nodes)
            case events.Unregister(node):
                was_there = well and self.nodes.pop(node, None) is not None
                return events.Unregistered(node, is_done=was_there and not lost)
            case _:
                raise AssertionError(command)

    def advance(self, seconds: float) -> None:
        """Let time pass; a bridge that can turn does."""
        self.now_s += seconds
        turning = any(gone_s == 0 for gone_s in self.runs.values())
        if turning and self.answers and self.up[events.EXECUTOR]:
            self.beat_s = self.now_s
        self.feed(events.Tick(self.now_s, self.beat_s))
        if self.state.stopping_s is None:
            self._check_bounds()

    def _check_bounds(self) -> None:
        link_s = self.down_s.get(events.LINK)
        assert link_s is None or self.now_s - link_s <= _LONGEST_PAUSE_S, "SuperLink stays down"

    def settle(self, seconds: float) -> None:
        """Let everything go well for a while."""
        for _ in range(int(seconds)):
            self.advance(1.0)
            while self.flight:
                self.finish()

    def check_well(self) -> None:
        """All is as the operator wants it: processes up, one run that turns, every key a node."""
        assert all(self.up.values())
        assert list(self.runs.values()) == [0.0], "not one run that turns"
        assert self.now_s - self.beat_s <= 1.0
        assert set(self.store.values()) == set(self.nodes), "node ids taken for identity"
        assert not self.gone


def forget_starts(world: FleetWorld) -> None:
    """Let the supervisor be killed and start anew: its children die, the world does not."""
    for name in _PROCESSES:
        world.up[name] = False
        world.down_s.pop(name, None)
    world.freeze()
    world.flight.clear()
    world.starts.clear()
    world.state = replace(heart.Fleet(), now_s=world.now_s)
