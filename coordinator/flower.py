"""The bridge: a Flower ServerApp that turns for the life of the federation.

    who is there -> tell the coordinator -> orders that are due -> push -> pull -> hints

A round of a shared concept goes through Flower's strategy (flower_rounds.py), one at a time, over a
grid that turns while it waits, so every other order flows meanwhile.
Laws: a message is a hint, so everything here may be forgotten at any time, and an answer only has
the coordinator look at its own ledger sooner. Answers are never pulled for a node that left: at
60 s SuperLink would invent an error and delete the real answer (L2, measured). The coordinator may
be away; the loop then turns without it, and the beat still tells the supervisor that it turns.
Cost: one turn a second, a few hundred bytes an order. Imports the standard library and flwr.
Source: flower.md 6. Not here: what is due, what an answer means (the coordinator's store).
"""

import logging
import time
from collections.abc import Callable, Iterable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from ..core.errors import Unreachable
from .fleet_line import FleetLine
from .flower_rounds import SharedRounds, hint_of, order_message

_PAUSE_S: Final = 2.0
_REPLIES_S: Final = 40.0
"""How long a round waits for answers: a courier has its daemon's within 10 s."""
_PATIENCE_S: Final = 86_400.0
"""How long a round waits for its release; if orders are open still, it begins anew then."""

_ANSWER_S: Final = 90.0
"""After this a message counts as lost, and its node as free: a SuperNode that could not send its
answer, since SuperLink was away for that moment, deletes it and stays online (L1, seen)."""
_LOG_BYTES: Final = 1_000_000
_LOGS: Final = 3

_LOG = logging.getLogger(__name__)
server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Turn until Flower ends the process."""
    settings = context.run_config
    _keep_log(Path(str(settings["log"])))
    line, beat = FleetLine(Path(str(settings["bridge"]))), Path(str(settings["beat"]))
    ttl_s, poll_s = int(settings["ttl-s"]), float(settings["poll-s"])
    bridge = _Bridge(grid, line, ttl_s=ttl_s)

    def turn() -> None:
        """Turn once and pause, whatever happens."""
        try:
            bridge.turn()
            beat.touch()
        except Unreachable as error:
            # SuperLink is well and this loop turns: no reason to replace it.
            _LOG.warning("%s", error.what)
            beat.touch()
            time.sleep(_PAUSE_S)
        except Exception:  # noqa: BLE001  # whatever it was, the next turn may be well
            _LOG.exception("this turn came to nothing")
            time.sleep(_PAUSE_S)
        time.sleep(poll_s)

    turning = _TurningGrid(grid, bridge, turn)
    while True:
        try:
            # The first alone: when its round is over, those of the others may be too.
            for concept in line.ask("rounds")["concepts"][:1]:
                rounds = SharedRounds(
                    line, concept, ttl_s=ttl_s, patience_s=_PATIENCE_S, pause=turn
                )
                rounds.start(turning, ArrayRecord(), num_rounds=1, timeout=_REPLIES_S)
        except Unreachable:
            pass  # the turn below meets it too, says so and waits
        except Exception:  # noqa: BLE001  # a round's orders are told by the turns as well
            _LOG.exception("this round is not followed")
        turn()


def _keep_log(file: Path) -> None:
    """Write what we and Flower's strategy say to a file of 1 MB and three older ones."""
    handler = RotatingFileHandler(file, maxBytes=_LOG_BYTES, backupCount=_LOGS, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("orthofed", "flwr"):
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.INFO)


class _Bridge:
    """One turn after the other; what was sent may be forgotten at any time."""

    def __init__(self, grid: Grid, line: FleetLine, *, ttl_s: int) -> None:
        self._grid = grid
        self._line = line
        self._ttl_s = ttl_s
        self._sent: dict[str, tuple[int, float]] = {}
        """Node and time of each message that has no answer yet."""
        self._kept: dict[str, Message | None] = {}
        """Answers that a round waits for, by the message's id; None: not here yet."""

    def turn(self) -> None:
        """Tell who is there, push what is due, pass on what came back."""
        free = self.free(tell=True)
        if free:
            due = self._line.ask("due", nodes=free)["orders"]
            self.push(order_message(order, ttl_s=self._ttl_s) for order in due)
        if self._sent:
            self._pull(self._grid.pull_messages(list(self._sent)))

    def free(self, *, tell: bool = False) -> list[int]:
        """Return the nodes that are there and have nothing of ours; ``tell``: say who is there."""
        online, now_s = set(self._grid.get_node_ids()), time.monotonic()
        self._sent = {
            each: (node, at_s)
            for each, (node, at_s) in self._sent.items()
            if node in online and now_s - at_s < _ANSWER_S  # L2, L1
        }
        if tell:
            self._line.ask("seen", nodes=sorted(online))
        return sorted(online - {node for node, _ in self._sent.values()})

    def push(self, messages: Iterable[Message]) -> list[str]:
        """Send them, one to a node at most; return the ids of those that were taken."""
        taken: list[str] = []
        for message in messages:
            (sent,) = self._grid.push_messages([message])
            if sent:
                self._sent[sent] = (message.metadata.dst_node_id, time.monotonic())
                taken.append(sent)
        return taken

    def keep(self, ids: Iterable[str]) -> None:
        """Keep the answers to these for `taken`, and pass no hint on."""
        self._kept.update(dict.fromkeys(ids))

    def is_waiting(self) -> bool:
        """Tell whether a kept answer may still come."""
        return any(answer is None and each in self._sent for each, answer in self._kept.items())

    def taken(self) -> list[Message]:
        """Return the answers that were kept and came; what comes later is passed on as any."""
        came = [answer for answer in self._kept.values() if answer is not None]
        self._kept.clear()
        return came

    def _pull(self, replies: Iterable[Message]) -> None:
        for reply in replies:
            answers = reply.metadata.reply_to_message_id
            self._sent.pop(answers, None)
            if answers in self._kept:
                self._kept[answers] = reply
            elif (answer := hint_of(reply)) is not None:
                self._line.ask("hint", answer=answer)


class _TurningGrid(Grid):
    """The run's grid as a strategy sees it: whoever waits here lets the bridge turn."""

    def __init__(self, grid: Grid, bridge: _Bridge, turn: Callable[[], None]) -> None:
        self._grid = grid
        self._bridge = bridge
        self._turn = turn

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes that have nothing of ours: one order at a time."""
        return self._bridge.free()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send, and turn until each node has answered or left, or ``timeout`` seconds are over."""
        until_s = time.monotonic() + (_REPLIES_S if timeout is None else timeout)
        self._bridge.keep(self._bridge.push(messages))
        while self._bridge.is_waiting() and time.monotonic() < until_s:
            self._turn()
        return self._bridge.taken()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send; the answers are passed on by the turns."""
        return self._bridge.push(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return what the run's grid has."""
        return self._grid.pull_messages(message_ids)

    def set_run(self, run: Any) -> None:  # noqa: ANN401  # of a module that flwr may move
        """Set the run of the grid below."""
        self._grid.set_run(run)

    @property
    def run(self) -> Any:  # noqa: ANN401  # as above
        """The run of the grid below."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message as the grid below makes it."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)
