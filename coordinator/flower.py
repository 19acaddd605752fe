"""The bridge: a Flower ServerApp that turns for the life of the federation.

    who is there -> tell the coordinator -> orders that are due -> push -> pull -> hints

Laws: a message is a hint, so everything here may be forgotten at any time, and an answer only has
the coordinator look at its own ledger sooner. Answers are never pulled for a node that left: at
60 s SuperLink would invent an error and delete the real answer (L2, measured). The coordinator may
be away; the loop then turns without it, and the beat still tells the supervisor that it turns.
Cost: one turn a second, a few hundred bytes an order. Imports the standard library and flwr.
Source: flower.md 6. Not here: what is due, what an answer means (the coordinator's store).
"""

import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from flwr.app import ArrayRecord, Context, Message
from flwr.serverapp import Grid, ServerApp

from ..core.errors import Unreachable
from .fleet_line import FleetLine
from .flower_rounds import SharedRounds, hint_of, order_message

_PAUSE_S: Final = 2.0
_REPLIES_S: Final = 40.0
"""How long a round waits for answers; a bridge without a beat for 60 s is taken for dead."""

_LOG = logging.getLogger(__name__)
server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Turn until Flower ends the process."""
    settings = context.run_config
    line, beat = FleetLine(Path(str(settings["bridge"]))), Path(str(settings["beat"]))
    bridge = _Bridge(grid, line, ttl_s=int(settings["ttl-s"]))
    if settings["concept"]:
        _rounds(grid, line, beat, context)
    while True:
        try:
            bridge.turn()
            beat.touch()
        except (
            Unreachable
        ) as error:  # SuperLink is well and this loop turns: no reason to replace it
            _LOG.warning("%s", error.what)
            beat.touch()
            time.sleep(_PAUSE_S)
        except Exception:  # noqa: BLE001  # whatever it was, the next turn may be well
            _LOG.exception("this turn came to nothing")
            time.sleep(_PAUSE_S)
        time.sleep(float(settings["poll-s"]))


def _rounds(grid: Grid, line: FleetLine, beat: Path, context: Context) -> None:
    """Go through the rounds that the run was started for; the loop follows (flower_rounds.py)."""
    settings = context.run_config
    strategy = SharedRounds(
        line,
        str(settings["concept"]),
        ttl_s=int(settings["ttl-s"]),
        patience_s=float(settings["patience-s"]),
        beat=beat.touch,
    )
    try:
        strategy.start(grid, ArrayRecord(), num_rounds=int(settings["rounds"]), timeout=_REPLIES_S)
    except Unreachable as error:  # orders are the operator's; the loop tells them too
        _LOG.warning("%s", error.what)


class _Bridge:
    """One turn after the other; ``_sent`` may be lost at any time."""

    def __init__(self, grid: Grid, line: FleetLine, *, ttl_s: int) -> None:
        self._grid = grid
        self._line = line
        self._ttl_s = ttl_s
        self._sent: dict[str, int] = {}

    def turn(self) -> None:
        """Tell who is there, push what is due, pass on what came back."""
        online = set(self._grid.get_node_ids())
        self._sent = {each: node for each, node in self._sent.items() if node in online}  # L2
        self._line.ask("seen", nodes=sorted(online))
        free = sorted(online - set(self._sent.values()))
        if free:
            self._push(self._line.ask("due", nodes=free)["orders"])
        if self._sent:
            self._pull(self._grid.pull_messages(list(self._sent)))

    def _push(self, orders: Iterable[dict[str, Any]]) -> None:
        for order in orders:
            (sent,) = self._grid.push_messages([order_message(order, ttl_s=self._ttl_s)])
            if sent:
                self._sent[sent] = order["node"]

    def _pull(self, replies: Iterable[Message]) -> None:
        for reply in replies:
            self._sent.pop(reply.metadata.reply_to_message_id, None)
            if (answer := hint_of(reply)) is not None:
                self._line.ask("hint", answer=answer)
