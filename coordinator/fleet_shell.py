"""Carries out what the fleet's heart decides: processes, ``flwr`` commands, the bridge socket.

Law: it decides nothing; every slow action answers with one event, a failed one too. Runs under an
account that owns nothing: it reads orders' keys over ``bridge.sock`` and holds no secret but its
own. Source: flower.md 6 and 7.
"""

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from ..core.errors import Unreachable
from ..fleet.child import Child
from ..fleet.flower_tools import NO_ANSWER, FlowerTools
from ..fleet.journal import tell_action, warn
from ..fleet.same_file import SameFile
from ..fleet.supervisor import Supervisor
from . import fleet_events as events
from .fleet import Fleet, step
from .fleet_folder import FleetFolder
from .fleet_line import FleetLine

_PROBE_S = 3.0
_IN_USE = "already in use"


class FleetShell:
    """SuperLink, SuperExec and the run, as the heart wants them."""

    def __init__(self, folder: FleetFolder, tools: FlowerTools, bridge: Path) -> None:
        """Prepare; ``folder`` is made, nothing is started yet."""
        self._folder, self._tools = folder, tools
        self._bridge_path = bridge
        self._line = FleetLine(bridge)
        self._database = SameFile(folder.database)
        environment = tools.environment()
        link = [tools.path("flower-superlink"), *folder.link_argv()]
        executor = [tools.path("flower-superexec"), *folder.executor_argv()]
        self._children = {
            name: Child(name, argv, environment=environment, folder=folder.path)
            for name, argv in ((events.LINK, link), (events.EXECUTOR, executor))
        }
        self._tls = ssl.create_default_context(cafile=str(folder.authority))
        self._supervisor: Supervisor[events.Event] = Supervisor(self._children.values())
        self.state = Fleet()

    def run(self) -> None:
        """Supervise until SIGTERM or Ctrl-C."""
        self._supervisor.run(self)

    def tick(self, now_s: float) -> events.Event:
        """Tell the time and when the bridge last turned."""
        beat = self._folder.beat
        age_s = time.time() - beat.stat().st_mtime if beat.is_file() else now_s
        return events.Tick(now_s, now_s - max(0.0, age_s))

    def exited(self, name: str) -> events.Event:
        """Tell that a process ended."""
        return events.Exited(name)

    def stop(self) -> events.Event:
        """Tell that all is to end."""
        return events.Stop()

    def handle(self, event: events.Event) -> bool:
        """Step the heart and carry its actions out."""
        self.state, actions = step(self.state, event)
        for action in actions:
            self._perform(action)
        return self.state.is_over

    def _perform(self, action: events.Action) -> None:
        if not isinstance(action, events.Probe | events.ReadKeys):
            tell_action(action)
        match action:
            case events.Start(name):
                if name == events.LINK:
                    self._database.begin()
                self._children[name].start()
            case events.Terminate(name):
                self._children[name].terminate()
            case events.Kill(name):
                self._children[name].kill()
            case events.TellRegistered(public_key, node):
                self._tell("registered", public_key=public_key, node=node)
            case events.TellUnregistered(node):
                self._tell("unregistered", node=node)
            case events.End():
                self._line.close()
            case _:
                self._supervisor.ask(self._slow(action))

    def _slow(  # noqa: PLR0911  # a case each
        self, action: events.Probe | events.Command
    ) -> Callable[[], events.Event]:
        """Return what takes seconds, to be run beside the loop."""
        match action:
            case events.Probe():
                return self._probe
            case events.ListRuns():
                return self._list_runs
            case events.StartRun():
                return self._start_run
            case events.StopRun(run):
                return lambda: self._stop_run(run)
            case events.ReadKeys():
                return self._read_keys
            case events.ListNodes():
                return self._list_nodes
            case events.Register(key):
                return lambda: self._register(key)
            case events.Unregister(node):
                return lambda: self._unregister(node)

    def _tell(self, call: str, **values: object) -> None:
        """Tell the coordinator; if it is away it reads the same from the next list of keys."""
        try:
            with closing(FleetLine(self._bridge_path)) as line:
                line.ask(call, **values)
        except Unreachable as error:
            warn("bridge-away", says=error.what)

    def _probe(self) -> events.Event:
        url = f"https://{self._folder.address}/health"
        try:
            with urllib.request.urlopen(url, timeout=_PROBE_S, context=self._tls) as answer:
                well = answer.status == 200  # noqa: PLR2004  # OK
        except (OSError, ValueError):
            well = False
        # A database that is gone while SuperLink runs would take what is written with it, and an
        # empty one in its place has no table: every call but this one ends in status 500 (L11).
        return events.Probed(well and self._database.is_there())

    def _list_runs(self) -> events.Event:
        found = self._tools.ask("list", "fleet")
        if not _succeeded(found):
            return events.Listed(None)
        live = [
            (str(each["pending-at"]), int(each["run-id"]))
            for each in found["runs"]
            if not str(each["status"]).startswith("finished")
        ]
        return events.Listed(tuple(run for _, run in sorted(live)))

    def _start_run(self) -> events.Event:
        app, settings = str(self._folder.app), str(self._folder.run_settings)
        found = self._tools.ask("run", app, "fleet", "--run-config", settings)
        if not _succeeded(found):
            warn("no-run", says=_said(found))
        return events.RunDone()

    def _stop_run(self, run: int) -> events.Event:
        self._tools.ask("stop", str(run), "fleet")
        return events.RunDone()

    def _read_keys(self) -> events.Event:
        try:
            found = self._line.ask("keys")
            keys = tuple(
                events.Key(str(each["name"]), str(each["public_key"]), each["node"])
                for each in found["keys"]
            )
            return events.KeysRead(keys, tuple(found["gone"]))
        except Unreachable as error:
            warn("bridge-away", says=error.what)
            return events.KeysRead(None)

    def _list_nodes(self) -> events.Event:
        found = self._tools.ask("supernode", "list", "fleet")
        if not _succeeded(found):
            return events.NodesListed(None)
        known = (each for each in found["nodes"] if each["status"] != "unregistered")
        return events.NodesListed(frozenset(int(each["node-id"]) for each in known))

    def _register(self, key: events.Key) -> events.Event:
        file = self._folder.path / "node.pub"
        file.write_text(key.public_key + "\n", "ascii", "replace")
        found = self._tools.ask("supernode", "register", str(file), "fleet", "--name", key.name)
        if _succeeded(found):
            return events.Registered(key.public_key, "done", int(found["node-id"]))
        said = _said(found)
        warn("not-registered", name=key.name, says=said)
        if said == NO_ANSWER:
            return events.Registered(key.public_key, "nothing")
        return events.Registered(key.public_key, "in-use" if _IN_USE in said else "refused")

    def _unregister(self, node: int) -> events.Event:
        return events.Unregistered(
            node, _succeeded(self._tools.ask("supernode", "unregister", str(node), "fleet"))
        )


def _succeeded(found: dict[str, Any]) -> bool:
    return found.get("success") is True


def _said(found: dict[str, Any]) -> str:
    return str(found.get("error-message", found))
