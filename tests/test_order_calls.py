"""Orders and FleetKey over real gRPC: a member sees its own orders, and has one Flower node."""

import json
import re

import pytest
from typer.testing import CliRunner

from orthofed.client.channel import Channel
from orthofed.client.fleet_key import fleet_key
from orthofed.client.open_orders import OpenOrders, open_orders
from orthofed.client.outbox import Outbox, read_record
from orthofed.coordinator import node_keys, orders
from orthofed.coordinator.cli import app
from orthofed.coordinator.control import ControlServer
from orthofed.coordinator.ledger import head
from orthofed.coordinator.orders import FleetOrder
from orthofed.coordinator.revocation import Terms, revoke
from orthofed.coordinator.rowcheck import check_rows
from orthofed.core.errors import InputError, Refused
from orthofed.proto.wire import OrderKind

from .member import Member
from .node_lines import node_line
from .seeded import Bug
from .serving import Running, founded, running


@pytest.fixture
def fed(tmp_path):
    with running(founded(tmp_path)) as coordinator:
        yield coordinator


def given(fed: Running, member: Member, number: int, kind: OrderKind, concept: str) -> FleetOrder:
    """Write one order, as the operator's command does."""
    now = fed.clock.wall_s()
    size = fed.house.store.run(head).size
    key = member.key.public_hex
    new = FleetOrder(bytes([number]) * 16, key, kind, concept, 0, "open", now, now + 60, size)
    fed.house.store.run(lambda db: orders.add_order(db, new))
    return new


def state_of(fed: Running, order: FleetOrder) -> tuple[str, int | None]:
    found = fed.house.store.run(lambda db: orders.order(db, order.id))
    assert found is not None
    return found.state, found.leaf


def wrong(fed: Running) -> list[str]:
    return fed.house.store.run(lambda db: list(check_rows(db)))


def node_of(fed: Running, member: Member) -> str:
    found = fed.house.store.run(lambda db: node_keys.node_key_of(db, member.key.public_hex))
    return "" if found is None else found.public_key


def test_a_member_sees_its_own_orders_and_nobody_elses(fed):
    """The oldest first, none that is past its time (T20)."""
    ana, ben = fed.member(), fed.member()
    first = given(fed, ana, 1, "train", "anna")
    given(fed, ben, 2, "train", "bert")
    fed.clock.wall_moved_s += 30
    second = given(fed, ana, 3, "withdraw", "anna")

    seen = ana.orders()
    fed.clock.wall_moved_s += 31
    ana.link.clock_offset_s += 61
    later = ana.orders()

    assert [order.id for order in seen.orders] == [first.id, second.id]
    assert seen.orders[0].made == first.made
    assert (seen.orders[0].kind, seen.orders[0].concept) == ("train", "anna")
    assert (seen.node_seen_s, seen.bridge_seen_s) == (0, 0)
    assert [order.id for order in later.orders] == [second.id]


def test_an_order_closes_with_the_leaf_that_carries_it_out(fed):
    """Train with the contribution, withdraw with the withdrawal; another concept's stay open."""
    ana, ben = fed.member(), fed.member()
    train, out = given(fed, ana, 1, "train", "anna"), given(fed, ana, 2, "withdraw", "anna")
    others = [given(fed, ana, 3, "train", "ava"), given(fed, ben, 4, "train", "anna")]

    lease = ana.lease("anna", ("anna-k7",))
    leased = state_of(fed, train)
    leaf = ana.check(ana.contribute(ana.pack(lease))).index
    taught = state_of(fed, train), state_of(fed, out)
    left = ana.check(ana.withdraw(lease, leaf)).index

    assert leased == ("open", None)
    assert taught == (("done", leaf), ("open", None))
    assert state_of(fed, out) == ("done", left)
    assert [state_of(fed, each) for each in others] == [("open", None)] * 2
    assert wrong(fed) == []


def test_contribution_and_closed_order_are_one_transaction(fed, monkeypatch):
    """Cut between the two: there is neither; the same Commit does both."""
    ana = fed.member()
    train = given(fed, ana, 1, "train", "anna")
    packed = ana.pack(ana.lease("anna", ("anna-k7",)))

    def breaks(*_args: object, **_more: object) -> None:
        raise Refused("cut", why="injected", fix="none", code="cut")

    with monkeypatch.context() as patch:
        patch.setattr(orders, "carry_out", breaks)
        with pytest.raises(Refused):
            ana.contribute(packed)
    before = state_of(fed, train), ana.status(packed.lease).state
    leaf = ana.check(ana.commit(packed).receipt).index

    assert before == (("open", None), "leased")
    assert state_of(fed, train) == ("done", leaf)
    assert wrong(fed) == []


def test_a_seeded_bug_that_leaves_an_order_open_is_caught(tmp_path):
    """The contribution is there and the order waits: doctor names it too."""
    with Bug.named("order-left-open").everywhere(), running(founded(tmp_path)) as fed:
        ana = fed.member()
        train = given(fed, ana, 1, "train", "anna")
        ana.contribute(ana.pack(ana.lease("anna", ("anna-k7",))))

        assert state_of(fed, train) == ("open", None)
        assert any("waits, and leaf" in told for told in wrong(fed))


def test_work_that_comes_late_counts(fed):
    """An order past its time is done all the same, as a late commit is."""
    ana = fed.member()
    train = given(fed, ana, 1, "train", "anna")
    fed.clock.wall_moved_s += 61
    fed.house.store.run(lambda db: orders.lapse(db, now_s=fed.clock.wall_s()))
    lapsed = state_of(fed, train)
    ana.link.clock_offset_s += 61

    leaf = ana.check(ana.contribute(ana.pack(ana.lease("anna", ("anna-k7",))))).index

    assert lapsed == ("expired", None)
    assert state_of(fed, train) == ("done", leaf)


def test_a_member_has_one_node_key_its_newest(fed):
    """A resend changes nothing; a newer one replaces it; the older one never comes back (T3)."""
    ana = fed.member()
    ana.register_node(node_line(1))
    ana.register_node(node_line(1))
    first = node_of(fed, ana)
    ana.register_node(node_line(2))
    ana.register_node(node_line(2))

    with pytest.raises(InputError) as back:
        ana.register_node(node_line(1))

    assert first == node_line(1)
    assert back.value.code == "key-used"
    assert node_of(fed, ana) == node_line(2)
    assert wrong(fed) == []


def test_nobody_takes_anothers_node(fed):
    """The key of somebody's node is public; sending it makes it nobody else's."""
    ana, ben = fed.member(), fed.member()
    ana.register_node(node_line(1))

    with pytest.raises(InputError) as taken:
        ben.register_node(node_line(1))

    assert taken.value.code == "key-used"
    assert node_of(fed, ben) == ""


def test_a_few_new_node_keys_a_day(fed):
    """The fourth is refused until tomorrow; the newest one can be sent for ever."""
    ana = fed.member()
    for number in (1, 2, 3):
        ana.register_node(node_line(number))

    with pytest.raises(Refused) as fourth:
        ana.register_node(node_line(4))
    ana.register_node(node_line(3))
    fed.clock.wall_moved_s += 86_400
    ana.link.clock_offset_s += 86_400
    ana.register_node(node_line(4))

    assert fourth.value.code == "quota-used"
    assert node_of(fed, ana) == node_line(4)


@pytest.mark.parametrize(
    "line", ["ssh-ed25519 AAAA", f"{node_line(1)} ana@laptop"], ids=["another-kind", "a-comment"]
)
def test_a_node_key_of_another_form_is_refused(fed, line):
    """The coordinator checks what a client of ours would never send."""
    ana = fed.member()

    with pytest.raises(InputError) as refused:
        ana.register_node(line)

    assert refused.value.code == "bad-node-key"
    assert ana.link.last_trailers["status"] == "INVALID_ARGUMENT"
    assert node_of(fed, ana) == ""


def test_how_long_a_node_was_not_seen_is_told_to_its_member_alone(fed):
    """In seconds, rounded up; a node id of 64 bits; the bridge's own silence beside it."""
    ana, ben = fed.member(), fed.member()
    node = (1 << 64) - 1
    ana.register_node(node_line(1))
    ben.register_node(node_line(2))
    fed.house.store.run(lambda db: node_keys.set_node(db, node_line(1), node))

    fed.house.sightings.report([node], fed.clock.monotonic_s())
    fed.clock.moved_s += 100
    fed.house.sightings.report([5], fed.clock.monotonic_s())
    fed.clock.moved_s += 20

    seen, other = ana.orders(), ben.orders()
    assert 120 <= seen.node_seen_s <= 122
    assert 20 <= seen.bridge_seen_s <= 22
    assert other.node_seen_s == 0


def test_the_operator_sees_whose_node_is_there(fed):
    """Seconds since the node was seen; none since the start; no node key; over the real command."""
    ana, ben, cleo = fed.member(), fed.member(), fed.member()
    for n, member in enumerate((ana, ben), start=1):
        member.register_node(node_line(n))
        fed.house.store.run(lambda db, n=n: node_keys.set_node(db, node_line(n), n))
    fed.house.sightings.report([1], fed.clock.monotonic_s())
    fed.clock.moved_s += 100

    control = ControlServer(fed.folder.control, lambda _: fed.desk)
    try:
        told = CliRunner().invoke(app, ["members", str(fed.folder.root), "--json"])
        text = CliRunner().invoke(app, ["members", str(fed.folder.root)]).stdout.splitlines()
    finally:
        control.close()

    rows = {row["member"]: row for row in json.loads(told.stdout)["members"]}
    one, two, three = (rows[each.key.public_hex] for each in (ana, ben, cleo))
    assert one["node"] is True
    assert 100 <= one["node_seen_s"] <= 102
    assert (two["node"], two["node_seen_s"]) == (True, None)
    assert (three["node"], three["node_seen_s"]) == (False, None)
    assert re.fullmatch(r"[0-9a-f]{16}  nothing yet; node seen 10[0-2] s ago", text[0])
    assert text[1].endswith("  nothing yet; node not seen since the start")
    assert text[2].endswith("  nothing yet")


def test_a_rotated_member_keeps_orders_and_node(fed):
    """They are its new key's; the old one has none and is told so."""
    ana = fed.member()
    order = given(fed, ana, 1, "train", "anna")
    ana.register_node(node_line(1))

    new = ana.rotate()

    assert [each.id for each in new.orders().orders] == [order.id]
    assert node_of(fed, new) == node_line(1)
    with pytest.raises(Refused) as asked:
        ana.orders()
    with pytest.raises(Refused) as sent:
        ana.register_node(node_line(2))
    assert asked.value.code == sent.value.code == "rotated"
    assert wrong(fed) == []


def test_a_revoked_member_has_no_orders_and_its_node_has_to_go(fed):
    """Orders are taken back in the turn of the revocation; Flower is to forget the node."""
    ana = fed.member()
    order = given(fed, ana, 1, "train", "anna")
    ana.register_node(node_line(1))
    fed.house.store.run(lambda db: node_keys.set_node(db, node_line(1), 77))

    revoke(fed.house, ana.key.public_hex, Terms())

    with pytest.raises(Refused) as asked:
        ana.orders()
    assert asked.value.code == "revoked"
    assert state_of(fed, order) == ("cancelled", None)
    assert fed.house.store.run(node_keys.nodes_to_be) == ()
    assert fed.house.store.run(node_keys.nodes_to_go) == (77,)
    assert wrong(fed) == []


def test_a_replaced_nodes_id_has_to_go_and_is_forgotten_once_it_went(fed):
    """What Flower calls a node may change at any time; no two keys are one node."""
    ana, ben = fed.member(), fed.member()
    store = fed.house.store
    ana.register_node(node_line(1))
    ben.register_node(node_line(2))
    store.run(lambda db: node_keys.set_node(db, node_line(1), 1 << 63))
    ana.register_node(node_line(3))
    store.run(lambda db: node_keys.set_node(db, node_line(3), 8))

    to_be, to_go = store.run(node_keys.nodes_to_be), store.run(node_keys.nodes_to_go)
    store.run(lambda db: node_keys.forget_node(db, 1 << 63))
    unknown = store.run(lambda db: node_keys.set_node(db, node_line(4), 9))
    store.run(lambda db: node_keys.set_node(db, node_line(2), 8))

    assert [(each.name, each.public_key, each.node) for each in to_be] == [
        ("m-0002", node_line(2), None),
        ("m-0003", node_line(3), 8),
    ]
    assert to_go == (1 << 63,)
    assert store.run(node_keys.nodes_to_go) == ()
    assert not unknown
    assert [each.node for each in store.run(node_keys.nodes_to_be)] == [8, None]


def test_the_clients_functions_speak_the_contract_through_the_egress_gate(fed, tmp_path):
    """What leaves is on the list and in the outbox; the comment of the key file is not."""
    ana = fed.member()
    given(fed, ana, 1, "score", "anna")
    outbox = tmp_path / "outbox.jsonl"
    invite = ana.invite
    with Channel(invite.addr, ca=invite.ca, log=invite.log, outbox=Outbox(outbox)) as channel:
        before = open_orders(channel, ana.key)
        fleet_key(channel, ana.key, f"{node_line(1)} ana@kitchen-laptop\n")
        fed.house.store.run(lambda db: node_keys.set_node(db, node_line(1), 5))
        fed.house.sightings.report([5], fed.clock.monotonic_s())
        after = open_orders(channel, ana.key)

    assert (before.node_seen_s, before.bridge_seen_s) == (None, None)
    assert [order.kind for order in before.orders] == ["score"]
    assert isinstance(after, OpenOrders)
    assert (after.node_seen_s, after.bridge_seen_s) == (1, 1)
    assert node_of(fed, ana) == node_line(1)
    sent = [each.method.rpartition("/")[2] for each in read_record(outbox).sent]
    assert sent == ["Orders", "FleetKey", "Orders"]
    assert b"ana@kitchen" not in outbox.read_bytes()
    assert b"ana@kitchen".hex().encode() not in outbox.read_bytes()
