"""Rounds of a shared concept through Flower's strategy interface: orders out, the ledger's word in.

    configure_train     the orders that are due, to the nodes of the concept's owners
    aggregate_train     each answer is passed on as the hint that it is; what counts is then asked:
                        how many parts the ledger has that no release holds yet
    configure_evaluate  nothing: scores are an order of their own
    aggregate_evaluate  waits for the release that holds the parts: that is the round's average

Laws: no array travels, in neither direction: A goes over the coordinator's own port, signed, and
the average is the merge of a release (core/owners.py). A reply changes no figure and ends no round;
the coordinator's ledger does. The orders are the operator's (`coordinator round`), the release is
made with a key that is not here. Imports the standard library and flwr. Source: flower.md,
docs/adr/0032. Not here: which concept has a round, who is there, what turns meanwhile (flower.py).
"""
# ruff: noqa: ARG002  # the arguments are those of Flower's interface

import base64
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from .fleet_line import FleetLine

_TYPES: Final = {
    "train": "train.concept",
    "score": "evaluate.concept",
    "withdraw": "query.withdraw",
}
_FIELDS: Final = ("order", "kind", "fed", "log", "concept", "release")
_ANSWER: Final = ("order", "state", "code", "step")
_MOST_RECEIPT: Final = 24 << 10

_LOG = logging.getLogger(__name__)


class SharedRounds(Strategy):
    """One concept's rounds; each ends with a release that holds what its owners brought."""

    def __init__(
        self,
        line: FleetLine,
        concept: str,
        *,
        ttl_s: int,
        patience_s: float,
        pause: Callable[[], None] = lambda: time.sleep(5),
    ) -> None:
        """Ask the coordinator over ``line``; a round waits ``patience_s`` for its release at most.

        ``pause`` is called between two looks at the ledger.
        """
        self._line = line
        self._concept = concept
        self._ttl_s = ttl_s
        self._patience_s = patience_s
        self._pause = pause
        self._release = 0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return a message for each order that is due; ``arrays`` is empty and stays here."""
        nodes = sorted(grid.get_node_ids())
        self._release = self._asked()["release"]
        due = self._line.ask("due", nodes=nodes)["orders"] if nodes else []
        return [order_message(order, ttl_s=self._ttl_s) for order in due]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Pass the hints on; return no array, and what the ledger has of the round."""
        for reply in replies:
            if (answer := hint_of(reply)) is not None:
                self._line.ask("hint", answer=answer)
        return None, _figures(self._asked())

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return nothing: to score is an order, and its answer goes to the coordinator."""
        return []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Wait until a release holds what the round brought, or patience is over: what is then."""
        until_s = time.monotonic() + self._patience_s
        while True:
            found = self._asked()
            over = found["release"] > self._release and not found["fresh"] and not found["open"]
            if over or time.monotonic() >= until_s:
                return _figures(found)
            self._pause()

    def summary(self) -> None:
        """Say what the rounds are of."""
        _LOG.info("rounds of %s: orders out, averages by release", self._concept)

    def _asked(self) -> dict[str, Any]:
        return self._line.ask("round", concept=self._concept)


def order_message(order: dict[str, Any], *, ttl_s: int) -> Message:
    """Return the message that carries one order to its node."""
    record = ConfigRecord({"v": 1, **{name: order[name] for name in _FIELDS}})
    return Message(RecordDict({"order": record}), order["node"], _TYPES[order["kind"]], ttl=ttl_s)


def hint_of(reply: Message) -> dict[str, Any] | None:
    """Return what a node answered, as the coordinator's line takes it; None for an error."""
    if reply.has_error():
        return None  # the order is still open, and asked again
    record = reply.content["answer"]
    receipt = record.get("receipt", b"")
    if not isinstance(receipt, bytes) or len(receipt) > _MOST_RECEIPT:
        return None
    answer = {"v": 1, **{name: record.get(name) for name in _ANSWER}}
    return {**answer, "receipt": base64.b64encode(receipt).decode()}


def _figures(found: dict[str, Any]) -> MetricRecord:
    """Return the ledger's figures: newest release, parts in it, parts since, open orders."""
    return MetricRecord({name: int(found[name]) for name in ("release", "parts", "fresh", "open")})
