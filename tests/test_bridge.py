"""bridge.sock: what the bridge may ask, and what it cannot do to the coordinator."""

import json
import socket
import sqlite3
import stat
import threading
import time
from contextlib import ExitStack, closing

import pytest

from orthofed.coordinator import bridge_desk, orders
from orthofed.coordinator.bridge_request import LINE_BYTES, parse_line
from orthofed.coordinator.bridge_socket import BridgeSocket
from orthofed.coordinator.order_desk import Wish, cancel, give, listed_orders
from orthofed.coordinator.ordercheck import check_orders
from orthofed.coordinator.revocation import Terms, revoke
from orthofed.core.errors import InputError

from . import parser_seeds
from .member import Member
from .node_lines import node_line
from .running import Coordinator
from .seeded import Bug
from .serving import Running, founded, running
from .tiny_base import tiny_base

NODE = (1 << 64) - 1


class Bridge:
    """One connection to the socket."""

    def __init__(self, path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("rb")

    def close(self) -> None:
        self.lines.close()
        self.socket.close()

    def says(self, line: bytes) -> dict:
        self.socket.sendall(line + b"\n")
        return json.loads(self.lines.readline())

    def asks(self, call: str, **more: object) -> dict:
        answer = self.says(json.dumps({"v": 1, "call": call, **more}).encode())
        assert answer.pop("v") == 1
        return answer


@pytest.fixture
def fed(tmp_path):
    with running(founded(tmp_path)) as coordinator:
        yield coordinator


@pytest.fixture
def path(fed, tmp_path):
    place = tmp_path / "bridge.sock"
    listening = BridgeSocket(place, bridge_desk.BridgeDesk(fed.house).answer)
    yield place
    listening.close()
    assert not place.exists()


@pytest.fixture
def bridge(path):
    with closing(Bridge(path)) as connected:
        yield connected


def ordered(fed: Running, member: Member, concept: str) -> str:
    wish = Wish(kind="train", member=member.key.public_hex, concept=concept)
    return give(fed.house, wish)["order"]["id"]


def rows(fed: Running) -> list[orders.FleetOrder]:
    return [*fed.house.store.run(orders.all_orders)]


def wrong_orders(db: sqlite3.Connection) -> list[str]:
    return list(check_orders(db))


def answer_about(order: object, /, **changed: object) -> dict[str, object]:
    said = {"v": 1, "order": order, "state": "running", "code": "", "step": 7, "receipt": ""}
    return {**said, **changed}


def test_a_members_order_reaches_its_node_and_no_other(fed, bridge):
    """Key, node id, sighting, order: the whole way that the bridge and its supervisor go."""
    ana, ben = fed.member(), fed.member()
    ana.register_node(node_line(1))
    ben.register_node(node_line(2))
    order = ordered(fed, ana, "anna")

    keys = bridge.asks("keys")
    early = bridge.asks("due", nodes=[NODE, 5])
    known = bridge.asks("registered", public_key=node_line(1), node=NODE)
    bridge.asks("registered", public_key=node_line(2), node=5)
    bridge.asks("seen", nodes=[NODE, 5])
    busy = bridge.asks("due", nodes=[5])
    due = bridge.asks("due", nodes=[NODE, 5])
    again = bridge.asks("due", nodes=[NODE, 5])
    fed.clock.moved_s += 900
    later = bridge.asks("due", nodes=[NODE, 5])

    facts = fed.house.facts
    assert keys == {
        "keys": [
            {"name": "m-0001", "public_key": node_line(1), "node": None},
            {"name": "m-0002", "public_key": node_line(2), "node": None},
        ],
        "gone": [],
    }
    assert (early, known, busy) == ({"orders": []}, {}, {"orders": []})
    assert due == {
        "orders": [
            {
                "node": NODE,
                "order": order,
                "kind": "train",
                "fed": facts.fed,
                "log": facts.log,
                "concept": "anna",
                "release": 0,
            }
        ]
    }
    assert again == {"orders": []}
    assert later == due
    assert 900 <= ana.orders().node_seen_s <= 905


def test_the_ledger_closes_an_order_and_the_bridge_hears_no_more_of_it(fed, bridge):
    """The contribution came, by whatever way: nothing is due."""
    ana = fed.member()
    ana.register_node(node_line(1))
    bridge.asks("registered", public_key=node_line(1), node=7)
    ordered(fed, ana, "anna")
    ana.contribute(ana.pack(ana.lease("anna", ("anna-k7",))))

    assert bridge.asks("due", nodes=[7]) == {"orders": []}
    assert [row.state for row in rows(fed)] == ["done"]


def test_an_answer_closes_nothing(fed, bridge):
    """Done, refused, a stranger's receipt, an order that is none: shown to the operator at most."""
    ana = fed.member()
    order = ordered(fed, ana, "anna")
    before = rows(fed)

    for said in (
        answer_about(order, state="done", receipt="AAAA"),
        answer_about("f" * 32, state="done"),
        answer_about(order, state="refused", code="not-idle"),
    ):
        assert bridge.asks("hint", answer=said) == {}

    assert rows(fed) == before
    shown = listed_orders(fed.house)[0]
    assert (shown["state"], shown["said"]) == (
        "open",
        {"state": "refused", "code": "not-idle", "step": 7},
    )
    cancel(fed.house, order)
    assert listed_orders(fed.house)[0]["said"] is None


def test_a_seeded_bug_that_believes_answers_is_caught(fed):
    """A node says that it is done, and the order is closed without a leaf: doctor names it too."""
    order = ordered(fed, fed.member(), "anna")
    hint = {"v": 1, "call": "hint", "answer": answer_about(order, state="done")}
    with Bug.named("answer-closes-order").everywhere():
        bridge_desk.BridgeDesk(fed.house).answer(json.dumps(hint).encode())

    assert [row.state for row in rows(fed)] == ["done"]
    assert any("did something else" in told for told in fed.house.store.run(wrong_orders))


def test_nodes_of_replaced_keys_and_revoked_members_have_to_go(fed, bridge):
    """Until the supervisor says that they went."""
    ana, ben = fed.member(), fed.member()
    ana.register_node(node_line(1))
    ben.register_node(node_line(2))
    bridge.asks("registered", public_key=node_line(1), node=1)
    bridge.asks("registered", public_key=node_line(2), node=2)
    ana.register_node(node_line(3))
    revoke(fed.house, ben.key.public_hex, Terms())

    before = bridge.asks("keys")
    bridge.asks("unregistered", node=1)
    bridge.asks("unregistered", node=2)
    after = bridge.asks("keys")

    assert before["gone"] == [1, 2]
    assert [key["name"] for key in before["keys"]] == ["m-0003"]
    assert after == {"keys": before["keys"], "gone": []}


GOOD = parser_seeds.BRIDGE_LINES[:-1]
BAD = (
    b"",
    b"{}",
    b"[1]",
    b"\xff\xfe",
    b"null",
    b'{"v":1}',
    b'{"v":2,"call":"keys"}',
    b'{"v":true,"call":"keys"}',
    b'{"v":1,"call":"commit"}',
    b'{"v":1,"call":["keys"]}',
    b'{"v":1,"call":"keys","nodes":[]}',
    b'{"v":1,"v":1,"call":"keys"}',
    b'{"v":1,"call":"seen"}',
    b'{"v":1,"call":"seen","nodes":1}',
    b'{"v":1,"call":"seen","nodes":[-1]}',
    b'{"v":1,"call":"seen","nodes":[18446744073709551616]}',
    b'{"v":1,"call":"seen","nodes":[true]}',
    b'{"v":1,"call":"seen","nodes":[1.0]}',
    b'{"v":1,"call":"seen","nodes":[' + b"9" * 5_000 + b"]}",
    b'{"v":1,"call":"seen","nodes":[' + b"1," * 4_096 + b"1]}",
    b'{"v":1,"call":"unregistered","node":null}',
    b'{"v":1,"call":"registered","node":1,"public_key":"ssh-ed25519 AAAA"}',
    b'{"v":1,"call":"registered","node":1,"public_key":7}',
    b'{"v":1,"call":"hint","answer":[]}',
    b"[" * 60_000,
    b'{"v":1,"call":' + b"[" * 60_000,
    *(
        json.dumps({"v": 1, "call": "hint", "answer": answer_about("0" * 32, **changed)}).encode()
        for changed in (
            *({"order": "0" * 31}, {"order": 7}, {"state": "lost"}, {"state": ["done"]}),
            *({"code": "A"}, {"code": "x" * 65}, {"code": 1}, {"step": -1}, {"step": 1 << 53}),
            *({"step": True}, {"receipt": "?"}, {"receipt": None}, {"more": 1}, {"v": 0}),
            *({"receipt": "A" * 44_000}, {"receipt": "é"}),
        )
    ),
)


@pytest.mark.parametrize("line", BAD, ids=map(str, range(len(BAD))))
def test_a_bad_line_gets_a_code(line):
    """A closed schema: nothing missing, nothing more, each of its type and bounds."""
    with pytest.raises(InputError) as refused:
        parse_line(line)

    assert refused.value.code in ("malformed", "bad-node-key")


@pytest.mark.parametrize("line", GOOD, ids=lambda line: repr(line[:40]))
def test_a_good_line_is_read(line):
    """One of each call."""
    assert parse_line(line)


def test_bad_lines_end_no_connection_and_change_no_row(fed, bridge):
    """Each is answered, in order, and the next good one as if nothing had been."""
    ana = fed.member()
    ordered(fed, ana, "anna")
    before = rows(fed), fed.house.board.state

    for line in BAD:
        fed.clock.moved_s += 1
        assert bridge.says(line)["error"] in ("malformed", "bad-node-key")
    unknown = bridge.asks("registered", public_key=node_line(9), node=1)

    assert unknown == {"error": "unknown-key"}
    assert bridge.asks("keys") == {"keys": [], "gone": []}
    assert (rows(fed), fed.house.board.state) == before


def test_a_line_without_an_end_is_cut_off(fed, path):
    """At 64 KiB it is refused and hung up on; a longest good line is answered."""
    with closing(Bridge(path)) as endless:
        endless.socket.sendall(b"x" * (LINE_BYTES + 1))
        refused = json.loads(endless.lines.readline())
        ended = endless.lines.readline()
    with closing(Bridge(path)) as long:
        padded = b'{"v":1,"call":"keys"' + b" " * (LINE_BYTES - 21) + b"}"
        longest = long.says(padded)
        longer = long.says(padded + b" ")

    assert refused == {"v": 1, "error": "too-large"}
    assert ended == b""
    assert len(padded) == LINE_BYTES
    assert longest == {"v": 1, "keys": [], "gone": []}
    assert longer == {"v": 1, "error": "too-large"}
    assert fed.member().orders().orders == ()


def test_who_sends_a_line_too_slowly_is_hung_up_on(fed, path, monkeypatch):
    """One byte and then none; a place at the door is free again."""
    monkeypatch.setattr("orthofed.coordinator.bridge_socket._LINE_S", 0.3)
    with closing(Bridge(path)) as slow:
        slow.socket.sendall(b"{")
        began = time.monotonic()
        ended = slow.lines.readline()

    assert ended == b""
    assert time.monotonic() - began < 10
    assert fed.member().orders().orders == ()


def test_more_connections_than_places_are_closed_at_the_door(fed, path):
    """Forty at once: eight are served, the others end; then there is room again."""
    ana = fed.member()
    with ExitStack() as crowd:
        bridges = [crowd.enter_context(closing(Bridge(path))) for _ in range(40)]
        served = 0
        for each in bridges:
            try:
                served += each.asks("keys") == {"keys": [], "gone": []}
            except (OSError, ValueError):
                continue
        during = ana.orders().orders
    answered = None
    for _ in range(100):
        try:
            with closing(Bridge(path)) as late:
                answered = late.asks("keys")
            break
        except (OSError, ValueError):
            time.sleep(0.05)

    assert served == 8
    assert during == ()
    assert answered == {"keys": [], "gone": []}


def test_who_asks_all_the_time_is_slowed_down_and_keeps_nobody_waiting(fed, path):
    """Four connections at full speed: a member's calls go on, some of theirs are refused."""
    ana, stop, counted = fed.member(), threading.Event(), []

    def floods() -> None:
        with closing(Bridge(path)) as flood:
            while not stop.is_set():
                counted.append(flood.asks("due", nodes=[1]).get("error", ""))

    threads = [threading.Thread(target=floods) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        ana.orders()
    began = time.monotonic()
    while "rate-limited" not in counted and time.monotonic() - began < 20:
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()

    assert "rate-limited" in counted
    assert "" in counted


def test_the_socket_is_for_its_owner_and_one_group(path):
    """0660, so that the fleet's account is let in by the group and nobody else is."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_stale_socket_is_taken_over(fed, tmp_path):
    """What a kill left behind keeps no coordinator from starting."""
    place = tmp_path / "bridge.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(place))
    left.close()

    listening = BridgeSocket(place, bridge_desk.BridgeDesk(fed.house).answer)
    with closing(Bridge(place)) as connected:
        answered = connected.asks("keys")
    listening.close()

    assert answered == {"keys": [], "gone": []}


def test_serve_listens_where_the_settings_say(tmp_path):
    """A real process: in the data folder, or in a folder that another account may enter."""
    served = Coordinator.found(tmp_path / "fed", tiny_base(tmp_path / "base"), "--rank", "4")
    with served:
        first = served.folder / "data" / "bridge.sock"
        with closing(Bridge(first)) as connected:
            answered = connected.asks("keys")
        settings = served.folder / "coordinator.toml"
        place = tmp_path / "fleet.sock"
        settings.write_text(settings.read_text().replace('bridge = ""', f'bridge = "{place}"'))
        served.stop()
        gone = not first.exists()
        served.start()
        with closing(Bridge(place)) as connected:
            again = connected.asks("due", nodes=[1])

    assert answered == {"keys": [], "gone": []}
    assert gone
    assert again == {"orders": []}
