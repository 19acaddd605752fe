"""The Flower engine: the same clients in Flower's own simulation (Ray), one node each.

The server's app sends each node one word, once, and waits for the answers. Flower starts nodes in
an order of its own, so who starts k-th takes the part of client k. Leases and tensors go through
our gRPC as everywhere. Only here a ClientApp runs the client itself: it is one machine, and there
is no owner. `run_simulation` is deprecated in flwr 1.41 and is what was measured; it stays in this
file. Source: flower.md 8.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ..core.errors import OrthoFedError
from .life import live
from .plan import Plan

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp

_OBJECT_STORE = 300 << 20
_POLL_S = 0.5
_TTL_S = 43_200.0


def play(plan: Plan, *, processes: int, meanwhile: Callable[[], None]) -> None:
    """Let every client live; call ``meanwhile`` again and again until all have told.

    ``processes``: Ray's actors. Raises OrthoFedError: flwr or Ray is not installed, or the
    simulation ended before everybody had told.
    """
    if find_spec("ray") is None or find_spec("flwr") is None:
        raise OrthoFedError(
            "Flower's simulation is not installed",
            why="it is an extra of 200 MB that only this engine needs",
            fix="run pip install 'orthofed[simulation]', or take --engine local",
            code="flower-missing",
        )
    # A process of its own: Ray wants the main thread, and its signals.
    code = "import sys; from orthofed.simulation import flower_engine; flower_engine.main(sys.argv)"
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # as the local engine's
    worker = subprocess.Popen(  # noqa: S603  # our own code
        [sys.executable, "-P", "-c", code, plan.to_text(), str(processes)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **quiet, **one_thread, "RAY_USAGE_STATS_ENABLED": "0"},
    )
    try:
        while worker.poll() is None:
            meanwhile()
    finally:
        worker.terminate()
        worker.wait()
    if worker.returncode or plan.num_told() < plan.scenario.clients:
        raise OrthoFedError(
            f"{plan.num_told()} of {plan.scenario.clients} clients told how it went",
            why="Flower's simulation ended before; its log stands above",
            fix="run it again with --engine local, and report it with scenario and seed",
            code="simulation-failed",
        )


def main(argv: list[str]) -> None:
    """Run the simulation of a plan with so many actors."""
    from flwr.simulation import run_simulation

    plan, actors = Plan.from_text(argv[1]), int(argv[2])
    run_simulation(
        server_app=_server(plan),
        client_app=_client(argv[1]),
        num_supernodes=plan.scenario.clients,
        backend_config={
            "init_args": {
                "num_cpus": actors,
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE,
            },
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )


def _server(plan: Plan) -> "ServerApp":
    from flwr.app import ConfigRecord, Message, RecordDict
    from flwr.serverapp import Grid, ServerApp

    app = ServerApp()

    @app.main()
    def main(grid: Grid, _context: object) -> None:
        num = plan.scenario.clients
        while len(nodes := sorted(grid.get_node_ids())) < num:
            time.sleep(_POLL_S)
        word = RecordDict({"order": ConfigRecord({"v": 1})})
        orders = [Message(word, node, "train.client", ttl=_TTL_S) for node in nodes[:num]]
        waiting = set(grid.push_messages(orders))
        while waiting:
            waiting -= {reply.metadata.reply_to_message_id for reply in grid.pull_messages(waiting)}
            time.sleep(_POLL_S)

    return app


def _client(plan_text: str) -> "ClientApp":
    from flwr.app import ConfigRecord, Context, Message, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.train("client")
    def train(message: Message, _context: Context) -> Message:
        live(plan_text, Plan.from_text(plan_text).next_number())
        return Message(RecordDict({"answer": ConfigRecord({"state": "done"})}), reply_to=message)

    return app
