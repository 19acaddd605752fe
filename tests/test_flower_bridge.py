"""The bridge's own loop, turned by a grid in memory: what it may never do, and what never waits.

The coordinator is real, the members really send. Real processes: tests/fleet.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("flwr", reason="flwr is an extra, and not here")  # F15

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from orthofed.coordinator import bridge_desk, flower, node_keys
from orthofed.coordinator.bridge_socket import BridgeSocket

from .node_lines import node_line
from .seeded import Bug
from .serving import Running, founded, running
from .test_corrective import wrong
from .test_flower_rounds import Hand, MemoryGrid, three
from .test_shared import CONCEPT

TURNS = {"ttl-s": 600, "poll-s": 0.3}  # slower than the coordinator lets a bridge ask


class Over(BaseException):
    """Ends the bridge, which outlives every Exception."""


class PolledGrid(MemoryGrid):
    """A grid whose answers are there a turn later, but for the deaf nodes; it notes each pull."""

    def __init__(self, hands: dict[int, Hand]) -> None:
        super().__init__(hands)
        self.deaf: set[int] = set()
        self.absent: set[int] = set()
        self.is_over = False
        self.told: dict[str, int] = {}
        self.waiting: dict[str, Message] = {}
        self.pulled: list[tuple[str, bool]] = []

    def get_node_ids(self) -> Iterable[int]:
        if self.is_over:
            raise Over
        return sorted({*self.hands, *self.deaf} - self.absent)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        for message in messages:
            node, key = message.metadata.dst_node_id, f"m{len(self.told)}"
            self.told[key] = node
            if node not in self.deaf:
                order = dict(message.content["order"])
                self.hands[node].train(order)
                said = {"v": 1, "order": order["order"], "state": "done", "code": "", "step": 0}
                answer = RecordDict({"answer": ConfigRecord({**said, "receipt": b""})})
                message.metadata.__dict__["_message_id"] = key
                self.waiting[key] = Message(answer, reply_to=message)
            yield key

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        asked = list(message_ids)
        self.pulled += [(each, self.told[each] in self.absent) for each in asked]
        return [self.waiting.pop(each) for each in asked if each in self.waiting]


@pytest.fixture
def fed(tmp_path, monkeypatch):
    # What SuperExec sets in the process of a ServerApp before it runs.
    for name, number in (("_task_id", 1), ("_run_id", 1), ("_node_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, number)
    with running(founded(tmp_path)) as coordinator:
        yield coordinator
        assert wrong(coordinator) == []


@contextmanager
def turning(fed: Running, grid: PolledGrid, folder) -> Iterator[None]:
    """Let the bridge turn over ``grid`` until the block ends."""
    socket = folder / "bridge.sock"
    listening = BridgeSocket(socket, bridge_desk.BridgeDesk(fed.house).answer)
    places = {"bridge": str(socket), "beat": str(folder / "beat"), "log": str(folder / "log")}
    context: Any = SimpleNamespace(run_config={**TURNS, **places})

    def run() -> None:
        with suppress(Over):
            flower.main(grid, context)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        grid.is_over = True
        listening.close()  # whatever it waits for, it waits no more
        thread.join(60)
        assert not thread.is_alive()


def until(holds: Callable[[], object], *, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end_s, "never came"
        time.sleep(0.02)


def newcomer(fed: Running, node: int) -> str:
    """Let another member come, with a node; return its key."""
    member = fed.member()
    key = node_line(node)
    member.register_node(key)
    fed.house.store.run(lambda db: node_keys.set_node(db, key, node))
    return str(member.key.public_hex)


def ordered(fed: Running, member: str, concept: str = "bear-b2") -> None:
    wish = {"kind": "train", "member": member, "concept": concept, "release": 0, "days": 1}
    fed.desk.ask("order", wish)


def other_orders_flow(fed: Running, folder, *, seconds: float) -> None:
    """Order something of another member while a round waits for its release."""
    grid = PolledGrid(three(fed).hands)
    grid.deaf = {4}
    dora = newcomer(fed, 4)
    with turning(fed, grid, folder):
        fed.desk.ask("round", {"concept": CONCEPT[0], "days": 1})
        until(lambda: "'fresh': 3, 'open': 0" in (folder / "log").read_text(), seconds=60)
        ordered(fed, dora)
        until(lambda: 4 in grid.told.values(), seconds=seconds)
        fed.release()
        until(lambda: "'release': 2, 'parts': 3" in (folder / "log").read_text(), seconds=60)
    assert sorted(grid.told.values()) == [1, 2, 3, 4]


def nobody_absent_is_asked(fed: Running, folder) -> None:
    """Let a node leave with an order: the bridge turns on, and does not pull its answer (L2)."""
    grid = PolledGrid({})
    grid.deaf = {1, 2}
    ordered(fed, newcomer(fed, 1))
    with turning(fed, grid, folder):
        until(lambda: len(grid.pulled) > 2, seconds=60)
        grid.absent = {1}
        ordered(fed, newcomer(fed, 2))
        until(lambda: sum(each == "m1" for each, _ in grid.pulled) > 2, seconds=60)
        grid.absent = set()
    assert [each for each, absent in grid.pulled if absent][1:] == []  # one pull was under way


def a_lost_answer_is_given_up(fed: Running, folder, monkeypatch, *, seconds: float = 60) -> None:
    """Let a node take an order and never answer, online all the while: its next order is told."""
    monkeypatch.setattr(flower, "_ANSWER_S", 0.5)
    grid = PolledGrid({})
    grid.deaf = {1}
    member = newcomer(fed, 1)
    ordered(fed, member)
    with turning(fed, grid, folder):
        until(lambda: len(grid.told) == 1, seconds=60)
        ordered(fed, member, "bear-c3")
        until(lambda: len(grid.told) == 2, seconds=seconds)


def test_other_orders_flow_while_a_round_waits_for_its_release(fed, tmp_path):
    """And the round's end is said once the release is there; each node was told once."""
    other_orders_flow(fed, tmp_path, seconds=60)


def test_an_answer_is_not_pulled_for_a_node_that_left(fed, tmp_path):
    """SuperLink would invent an error at 60 s and delete the real answer (L2)."""
    nobody_absent_is_asked(fed, tmp_path)


def test_a_node_whose_answer_was_lost_is_told_its_next_order(fed, tmp_path, monkeypatch):
    """SuperLink was away while the node sent it: the node deletes it, and is there (L1, F7)."""
    a_lost_answer_is_given_up(fed, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("bug", "play"),
    [
        ("round-holds-up-orders", lambda *told: other_orders_flow(*told[:2], seconds=5)),
        ("absent-node-pulled", lambda *told: nobody_absent_is_asked(*told[:2])),
        (
            "lost-answer-waited-for",
            lambda *told: a_lost_answer_is_given_up(*told, seconds=5),
        ),
    ],
)
def test_a_seeded_bug_of_the_bridge_is_caught(fed, tmp_path, monkeypatch, bug, play):
    """Each planted in a copy of the module: the play must not stay green."""
    with Bug.named(bug).in_process(), pytest.raises(AssertionError):
        play(fed, tmp_path, monkeypatch)
