"""Carries out what the client's fleet heart decides: two processes and one question to the daemon.

Law: it decides nothing, holds no key of the owner and reads nothing of theirs. Whether the
coordinator sees this node is asked of the owner's daemon, which alone can sign that question.
Source: flower.md 6 and 7.
"""

import json
import socket
from pathlib import Path

from ..fleet.child import Child
from ..fleet.flower_tools import FlowerTools
from ..fleet.journal import tell_action
from ..fleet.supervisor import Supervisor
from . import fleet as heart
from .fleet_folder import CourierFolder

_PATIENCE_S = 10.0
_MOST_BYTES = 4_096


class CourierShell:
    """SuperNode and SuperExec, as the heart wants them."""

    def __init__(
        self,
        folder: CourierFolder,
        tools: FlowerTools,
        *,
        superlink: str,
        roots: Path,
        orders: Path,
    ) -> None:
        """Prepare; ``folder`` is made, nothing is started yet."""
        self._orders = orders
        environment = tools.environment()
        node = folder.node_argv(superlink, roots=roots, orders=orders)
        argv = {
            heart.NODE: [tools.path("flower-supernode"), *node],
            heart.EXECUTOR: [tools.path("flower-superexec"), *folder.executor_argv()],
        }
        self._children = {
            name: Child(name, each, environment=environment, folder=folder.path)
            for name, each in argv.items()
        }
        self._supervisor: Supervisor[heart.Event] = Supervisor(self._children.values())
        self.state = heart.Node()

    def run(self) -> None:
        """Supervise until SIGTERM or Ctrl-C."""
        self._supervisor.run(self)

    def tick(self, now_s: float) -> heart.Event:
        """Tell the time."""
        return heart.Tick(now_s)

    def exited(self, name: str) -> heart.Event:
        """Tell that a process ended."""
        return heart.Exited(name)

    def stop(self) -> heart.Event:
        """Tell that all is to end."""
        return heart.Stop()

    def handle(self, event: heart.Event) -> bool:
        """Step the heart and carry its actions out."""
        self.state, actions = heart.step(self.state, event)
        for action in actions:
            if not isinstance(action, heart.AskSeen):
                tell_action(action)
            match action:
                case heart.Start(name):
                    self._children[name].start()
                case heart.Terminate(name):
                    self._children[name].terminate()
                case heart.Kill(name):
                    self._children[name].kill()
                case heart.AskSeen():
                    self._supervisor.ask(self._ask_seen)
                case heart.End():
                    pass
        return self.state.is_over

    def _ask_seen(self) -> heart.Event:
        """Ask the daemon how long ago the coordinator saw this node; no answer is no news."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_PATIENCE_S)
                connection.connect(str(self._orders))
                connection.sendall(json.dumps({"v": 1, "call": "seen"}).encode() + b"\n")
                with connection.makefile("rb") as file:
                    age_s = json.loads(file.readline(_MOST_BYTES)).get("seen_s")
        except (OSError, ValueError, AttributeError):
            return heart.Seen(None)
        return heart.Seen(age_s if isinstance(age_s, int) else None)
