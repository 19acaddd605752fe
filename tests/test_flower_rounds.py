"""Answers that a round of a shared concept must not believe, by Flower's own strategy loop.

`Strategy.start` of flwr drives it against a real coordinator; the grid is one in memory, whose
nodes are members that really send a contribution or only say so. Whole rounds go over a real
SuperLink in tests/fleet/test_shared_rounds.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("flwr", reason="flwr is an extra, and not here")  # F15

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from orthofed.coordinator import bridge_desk, node_keys, publications
from orthofed.coordinator.bridge_socket import BridgeSocket
from orthofed.coordinator.fleet_line import FleetLine
from orthofed.coordinator.flower_rounds import SharedRounds
from orthofed.coordinator.order_desk import listed_orders
from orthofed.core.errors import Refused, Unreachable

from .member import Given, Leased, Member
from .node_lines import node_line
from .serving import Running, founded, running
from .test_corrective import wrong
from .test_shared import CONCEPT, first, joined, weights


@dataclass
class Hand:
    """One owner behind a node: what it last sent; ``works`` False: it says so and sends nothing."""

    member: Member
    lease: Leased
    leaf: int
    images: int
    works: bool = True
    heard: list[dict[str, Any]] = field(default_factory=list)

    def train(self, order: dict[str, Any]) -> None:
        self.heard.append(order)
        if not self.works:
            return
        given = Given(self.leaf, self.lease.key)
        new = self.member.lease(*CONCEPT, replaces=given, joins=self.lease.joins)
        packed = self.member.pack(new, seed=100 + self.leaf, count=self.images)
        self.lease, self.leaf = new, self.member.check(self.member.contribute(packed)).index


class MemoryGrid(Grid):
    """A Grid whose nodes are hands, and which keeps every message that passed."""

    def __init__(self, hands: dict[int, Hand]) -> None:
        self.hands = hands
        self.passed: list[Message] = []

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *args: Any, **more: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.hands)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        del timeout
        replies = []
        for message in messages:
            order = dict(message.content["order"])
            self.hands[message.metadata.dst_node_id].train(order)
            said = {"v": 1, "order": order["order"], "state": "done", "code": "", "step": 0}
            answer = ConfigRecord({**said, "receipt": b""})
            replies.append(Message(RecordDict({"answer": answer}), reply_to=message))
        self.passed += [*messages, *replies]
        return replies


@pytest.fixture
def fed(tmp_path):
    with running(founded(tmp_path)) as coordinator:
        yield coordinator
        assert wrong(coordinator) == []


@pytest.fixture
def line(fed, tmp_path, monkeypatch):
    # What SuperExec sets in the process of a ServerApp before it runs.
    for name, number in (("_task_id", 1), ("_run_id", 1), ("_node_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, number)
    place = tmp_path / "bridge.sock"
    listening = BridgeSocket(place, bridge_desk.BridgeDesk(fed.house).answer)
    connected = FleetLine(place)
    yield connected
    connected.close()
    listening.close()


def three(fed: Running) -> MemoryGrid:
    """Three owners of one concept in release 1, each with a node."""
    ana, ben, cleo = (fed.member() for _ in range(3))
    lease, leaf = first(ana, images=10)
    share = ana.share(lease, leaf)
    hands = {1: Hand(ana, lease, leaf, 10)}
    for n, (who, images) in enumerate(((ben, 30), (cleo, 20)), start=2):
        hands[n] = Hand(who, *joined(who, share, images=images, seed=n), images)
    for n, hand in hands.items():
        key = node_line(n)
        hand.member.register_node(key)
        fed.house.store.run(lambda db, key=key, n=n: node_keys.set_node(db, key, n))
    fed.release()
    return MemoryGrid(hands)


def rounds(line: FleetLine, **changed: Any) -> SharedRounds:
    asked: dict[str, Any] = {"ttl_s": 600, "patience_s": 60.0, **changed}
    return SharedRounds(line, CONCEPT[0], **asked)


def test_a_reply_that_says_done_counts_nothing(fed, line):
    """Whoever says so and sends nothing: its order stays open, its earlier part stays in."""
    grid = three(fed)
    grid.hands[2].works = False
    kept = grid.hands[2].leaf
    fed.desk.ask("round", {"concept": CONCEPT[0], "days": 1})

    result = rounds(line, patience_s=0.0).start(grid, ArrayRecord(), num_rounds=1)
    fed.release()

    assert dict(result.train_metrics_clientapp[1]) == {
        "release": 1,
        "parts": 1,
        "fresh": 2,
        "open": 1,
    }
    assert kept in weights(fed)
    assert not result.arrays
    for message in grid.passed:
        assert not message.content.array_records
        assert not message.content.metric_records
    states = {each["state"] for each in listed_orders(fed.house)}
    assert states == {"open", "done"}
    newest = fed.house.store.run(publications.newest)
    assert newest is not None
    assert newest.n == 2


def test_a_concept_has_a_round_while_an_owner_is_to_train_on(fed, line):
    """Not for an order of another concept; until the last of its own is done or taken back."""
    grid = three(fed)
    assert line.ask("rounds")["concepts"] == []
    other = fed.member()
    key = other.key.public_hex
    wish = {"kind": "train", "member": key, "concept": "bear-b2", "release": 0, "days": 1}
    fed.desk.ask("order", wish)
    assert line.ask("rounds")["concepts"] == []

    fed.desk.ask("round", {"concept": CONCEPT[0], "days": 1})
    during = line.ask("rounds")["concepts"]
    grid.hands[3].works = False
    rounds(line, patience_s=0.0).start(grid, ArrayRecord(), num_rounds=1)
    two_came = line.ask("rounds")["concepts"]
    for each in listed_orders(fed.house):
        if each["state"] == "open":
            fed.desk.ask("cancel-order", {"id": each["id"]})

    assert (during, two_came) == ([CONCEPT[0]], [CONCEPT[0]])
    assert line.ask("rounds")["concepts"] == []


def test_a_round_is_of_a_concept_with_several_owners(fed, line):
    """One owner: refused by name; the line takes no other field and no name that is none."""
    ana = fed.member()
    first(ana)
    with pytest.raises(Refused) as alone:
        fed.desk.ask("round", {"concept": CONCEPT[0], "days": 1})
    with pytest.raises(Unreachable):
        line.ask("round", concept="../etc")
    with pytest.raises(Unreachable):
        line.ask("round", concept=CONCEPT[0], release=1)

    assert alone.value.code == "not-shared"
