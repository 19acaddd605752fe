"""The operator's orders: given, listed, taken back, lapsed; refused where nobody could obey."""

import json

import pytest
from click.testing import Result
from typer.testing import CliRunner

from orthofed.coordinator import node_keys
from orthofed.coordinator.backup import back_up
from orthofed.coordinator.cli import app
from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.control import ControlServer
from orthofed.coordinator.folder import DataFolder
from orthofed.coordinator.order_desk import Wish, cancel, give, listed_orders
from orthofed.coordinator.restore import restore
from orthofed.coordinator.revocation import Terms, revoke
from orthofed.coordinator.rowcheck import check_rows
from orthofed.core.errors import InputError, OrthoFedError, Refused
from orthofed.proto.methods import MAX_ORDERS
from orthofed.proto.wire import OrderKind

from .member import Leased, Member
from .node_lines import node_line
from .serving import FastFs, Running, founded, running


@pytest.fixture
def fed(tmp_path):
    with running(founded(tmp_path)) as coordinator:
        yield coordinator


def order(
    fed: Running, kind: OrderKind, member: Member, concept: str, *, release: int = 0, days: int = 30
) -> dict[str, object]:
    wish = Wish(
        kind=kind, member=member.key.public_hex[:8], concept=concept, release=release, days=days
    )
    return give(fed.house, wish)["order"]


def taught(member: Member, concept: str) -> tuple[Leased, int]:
    lease = member.lease(concept, (f"{concept}-k7",))
    return lease, member.check(member.contribute(member.pack(lease))).index


def states(fed: Running) -> dict[object, object]:
    return {each["kind"]: each["state"] for each in listed_orders(fed.house)}


def refusal(fed: Running, kind: OrderKind, member: Member, concept: str, **more: int) -> str:
    with pytest.raises(OrthoFedError) as refused:
        order(fed, kind, member, concept, **more)
    return refused.value.code


def test_an_order_reaches_its_member_and_is_done_by_the_work(fed):
    """Train, then score the newest release, then withdraw: each closes by its own leaf."""
    ana = fed.member()
    train = order(fed, "train", ana, "Anna")
    seen = ana.orders().orders
    lease, leaf = taught(ana, "anna")
    fed.release()
    score, out = order(fed, "score", ana, "anna"), order(fed, "withdraw", ana, "anna")
    gone = ana.check(ana.withdraw(lease, leaf)).index

    assert [(each.id.hex(), each.concept) for each in seen] == [(train["id"], "anna")]
    assert (score["release"], out["release"]) == (1, 0)
    assert states(fed) == {"train": "done", "score": "open", "withdraw": "done"}
    assert [each["leaf"] for each in listed_orders(fed.house)] == [leaf, None, gone]
    assert fed.house.store.run(lambda db: list(check_rows(db))) == []


def test_an_order_gives_no_right(fed):
    """With an order and without, a lease is granted by the same rules to the same member."""
    ana, ben = fed.member(), fed.member()
    order(fed, "train", ana, "anna")

    ben.lease("anna", ("anna-k7",))
    with pytest.raises(Refused) as taken:
        ana.lease("anna", ("anna-k7",))

    assert taken.value.code == "name-taken"
    assert states(fed) == {"train": "open"}


def test_the_same_order_once_more_is_the_open_one(fed):
    """No second id, so no second lease; after it was taken back there is a new one."""
    ana = fed.member()
    wish = Wish(kind="train", member=ana.key.public_hex, concept="anna")
    first, again = give(fed.house, wish), give(fed.house, wish)
    cancel(fed.house, str(first["order"]["id"])[:8])
    later = give(fed.house, wish)

    assert (first["new"], again["new"], later["new"]) == (True, False, True)
    assert first["order"] == again["order"]
    assert later["order"]["id"] != first["order"]["id"]
    assert [each["state"] for each in listed_orders(fed.house)] == ["cancelled", "open"]


def test_an_order_lapses_and_can_be_given_anew(fed):
    """Past its days it is no member's any more, and shows so at once."""
    ana = fed.member()
    order(fed, "train", ana, "anna", days=1)
    fed.clock.wall_moved_s += 86_400
    ana.link.clock_offset_s += 86_400

    shown, seen = states(fed), ana.orders().orders
    order(fed, "train", ana, "anna", days=1)

    assert shown == {"train": "expired"}
    assert seen == ()
    assert [each["state"] for each in listed_orders(fed.house)] == ["expired", "open"]
    assert len(ana.orders().orders) == 1


def test_what_nobody_could_carry_out_is_refused(fed):
    """Each with a code of its own, before it is written."""
    ana, ben = fed.member(), fed.member()
    taught(ana, "anna")

    assert refusal(fed, "score", ana, "anna") == "not-in-release"
    fed.release()
    taught(ana, "ava")
    assert refusal(fed, "train", ben, "anna") == "name-taken"
    assert refusal(fed, "train", ben, "an-na") == "name-taken"
    assert refusal(fed, "train", ana, "ava") == "not-in-release"
    assert refusal(fed, "train", ana, "ana-b", release=1) == "bad-order"
    assert refusal(fed, "score", ana, "bert", release=1) == "not-taught"
    assert refusal(fed, "score", ben, "anna") == "not-taught"
    assert refusal(fed, "score", ana, "ava", release=1) == "not-in-release"
    assert refusal(fed, "withdraw", ben, "anna") == "not-taught"
    assert refusal(fed, "withdraw", ana, "anna", release=1) == "bad-order"
    assert refusal(fed, "train", ana, "ana-b", days=366) == "bad-order"
    assert refusal(fed, "train", ana, "ana-b", release=-1) == "bad-order"
    assert refusal(fed, "score", ana, "anna", release=1 << 63) == "bad-order"
    assert refusal(fed, "train", ana, "../anna") == "bad-name"
    revoke(fed.house, ben.key.public_hex, Terms())
    assert refusal(fed, "train", ben, "bert") == "revoked"
    with pytest.raises(Refused):
        give(fed.house, Wish(kind="train", member="0" * 64, concept="anna"))
    assert listed_orders(fed.house) == []


def test_the_open_orders_of_a_member_are_bounded(fed):
    """One more is refused; another member's are not counted."""
    ana, ben = fed.member(), fed.member()
    for number in range(MAX_ORDERS):
        order(fed, "train", ana, f"bird-{number}")

    assert refusal(fed, "train", ana, "fish") == "too-many-orders"
    order(fed, "train", ben, "fish")
    assert len(ana.orders().orders) == MAX_ORDERS


def test_an_order_is_taken_back_by_the_start_of_its_id(fed):
    """Only an open one, and only when the digits name one."""
    ana = fed.member()
    given = order(fed, "train", ana, "anna")

    for digits, kind, code in (
        (str(given["id"])[:7], InputError, "bad-order-id"),
        ("g" * 8, InputError, "bad-order-id"),
        ("0" * 32, Refused, "not-found"),
    ):
        with pytest.raises(kind) as refused:
            cancel(fed.house, digits)
        assert refused.value.code == code
    taken = cancel(fed.house, str(given["id"]))
    with pytest.raises(Refused) as again:
        cancel(fed.house, str(given["id"]))

    assert taken["state"] == "cancelled"
    assert again.value.code == "not-found"
    assert ana.orders().orders == ()


def test_digits_of_two_orders_name_none(fed, monkeypatch):
    """Two ids that begin alike."""
    ana = fed.member()
    ids = iter((b"\xaa" * 15 + b"\1", b"\xaa" * 15 + b"\2"))
    monkeypatch.setattr("secrets.token_bytes", lambda _num: next(ids))
    order(fed, "train", ana, "anna")
    order(fed, "train", ana, "bert")

    with pytest.raises(InputError) as refused:
        cancel(fed.house, "aa" * 15)

    assert refused.value.code == "ambiguous-order"
    assert states(fed) == {"train": "open"}


def test_the_desk_takes_an_order_over_the_socket(fed):
    """What the command sends is plain JSON, and so is the answer."""
    ana = fed.member()
    args = {"kind": "train", "member": ana.key.public_hex, "concept": "anna", "release": 0}

    done = fed.desk.ask("order", json.loads(json.dumps({**args, "days": 30})))
    listed = fed.desk.ask("orders", {})
    taken = fed.desk.ask("cancel-order", {"id": done["order"]["id"]})

    assert json.loads(json.dumps(listed))["orders"] == [{**done["order"], "said": None}]
    assert taken["state"] == "cancelled"


def test_orders_nodes_and_scores_come_back_from_a_backup(tmp_path):
    """Of a stopped coordinator; the restored one is sound and knows the same."""
    folder = founded(tmp_path)
    with running(folder) as fed:
        ana = fed.member()
        ana.register_node(node_line(1))
        taught(ana, "anna")
        fed.release()
        order(fed, "score", ana, "anna")
        ana.score("anna", 1, 90_000, 50_000, 60_000)
        order(fed, "train", ana, "ava")
        before = listed_orders(fed.house), fed.desk.ask("retention", {"release": 1})
    back_up(folder, tmp_path / "kept", fs=FastFs(), clock=SystemClock(), say=print)

    restore(tmp_path / "kept", tmp_path / "new", keys=folder.keys, fs=FastFs(), say=print)

    with running(DataFolder.open(tmp_path / "new")) as again:
        after = listed_orders(again.house), again.desk.ask("retention", {"release": 1})
        (key,) = again.house.store.run(node_keys.nodes_to_be)
        wrong = again.house.store.run(lambda db: list(check_rows(db)))
    assert after == before
    assert [each["state"] for each in after[0]] == ["done", "open"]
    assert key.public_key == node_line(1)
    assert wrong == []


def test_one_command_orders_a_score_of_every_concept_in_the_newest_release(fed):
    """An order each; once more asks nobody twice; whose concept went is named alone."""
    ana, ben, cleo = fed.member(), fed.member(), fed.member()
    for member, name in ((ana, "anna"), (ben, "bert")):
        taught(member, name)
    lease, leaf = taught(cleo, "cleo")
    fed.release()
    cleo.withdraw(lease, leaf)
    taught(cleo, "dora")
    order(fed, "score", ben, "bert")

    first, again = (ordered(fed, "score", "--all", "--json") for _ in range(2))

    said, repeated = json.loads(first.stdout), json.loads(again.stdout)
    assert said["release"] == 1
    assert [(each["concept"], each["new"]) for each in said["orders"]] == [
        ("anna", True),
        ("bert", False),
    ]
    assert [(each["concept"], each["code"]) for each in said["left_out"]] == [
        ("cleo", "not-taught")
    ]
    assert [each["new"] for each in repeated["orders"]] == [False, False]
    waiting = [
        (each["kind"], each["concept"], each["release"]) for each in listed_orders(fed.house)
    ]
    assert sorted(waiting) == [("score", "anna", 1), ("score", "bert", 1)]
    text = ordered(fed, "score", "--all").stdout
    assert text.startswith("release 1: 0 new orders, 2 open already\n")
    assert "left out: cleo, this member has no contribution cleo" in text


@pytest.mark.parametrize(
    "words",
    [
        ("score", "--all", "--concept", "anna"),
        ("score", "--all", "--member", "0123abcd"),
        ("score", "--all", "--release", "1"),
        ("train", "--all"),
        ("score", "--concept", "anna"),
        ("train", "--member", "0123abcd"),
    ],
)
def test_all_stands_alone_and_an_order_names_both(fed, words):
    """Refused by name before the coordinator is asked."""
    refused = ordered(fed, *words).exception

    assert isinstance(refused, InputError)
    assert refused.code == "bad-order"
    assert "--all" in str(refused)


def test_nothing_can_be_scored_before_a_release(fed):
    """As one order is refused."""
    assert isinstance(refused := ordered(fed, "score", "--all").exception, Refused)
    assert refused.code == "no-such-release"


def ordered(fed: Running, kind: str, *words: str) -> Result:
    """Type the command beside the running coordinator."""
    control = ControlServer(fed.folder.control, lambda _: fed.desk)
    try:
        return CliRunner().invoke(app, ["order", str(fed.folder.root), kind, *words])
    finally:
        control.close()
