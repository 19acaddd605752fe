"""Orders as an owner's daemon takes them: what it believes, what it answers, what it does.

First without a process, then a daemon, a courier's socket and a coordinator, all real.
"""

import json
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orthofed.client.correction import CORRECTING
from orthofed.client.daemon import step
from orthofed.client.daemon_memory import remember, reminded
from orthofed.client.daemon_settings import DaemonSettings
from orthofed.client.daemon_state import (
    Action,
    Ended,
    Event,
    Found,
    Interrupt,
    Keep,
    Leave,
    Now,
    Opened,
    Ordered,
    Paused,
    PollThrough,
    Resumed,
    Start,
    StartOrder,
    StartPoll,
    State,
    Task,
    Tick,
    Unanswered,
    Word,
)
from orthofed.client.daemon_waits import Seen
from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.line_server import LineServer
from orthofed.client.masters import Masters
from orthofed.client.order_book import MOST_HELD, Held, Order, OrderBook, OrderKind
from orthofed.client.order_socket import OrderSocket
from orthofed.client.state import load
from orthofed.coordinator import orders
from orthofed.coordinator.ledger import head
from orthofed.coordinator.orders import FleetOrder
from orthofed.core.errors import InputError

from .owner_daemon import TRAINING, OwnerDaemon, queue
from .seeded import Bug
from .serving import Running, founded, running
from .test_daemon_heart import NOON, QUIET, SETTINGS
from .tiny_concept import write_images

pytestmark = pytest.mark.long

FED, LOG = "f" * 64, "e" * 64
PHASES: Mapping[str, str] = {}


def _order(number: int, kind: OrderKind = "train", concept: str = "anna-k7", n: int = 0) -> Order:
    return Order(f"{number:032x}", kind, concept, n)


class Played:
    """A daemon at some moment, with nothing to teach but what is ordered."""

    def __init__(
        self, settings: DaemonSettings = SETTINGS, phases: Mapping[str, str] = PHASES
    ) -> None:
        self.phases = {"anna-k7": "receipted", "bear-b2": "receipted", **phases}
        tasks = tuple(Task(each.name, "done") for each in settings.concepts)
        self.at_s = 0.0
        self.state = State(settings, self.now, tasks, QUIET, poll_s=60)

    @property
    def now(self) -> Now:
        return Now(NOON, self.at_s)

    def hear(self, event: Event) -> list[Action]:
        self.state, actions = step(self.state, event)
        return [action for action in actions if not isinstance(action, Keep)]

    def tick(self, seconds: float = 0, seen: Seen = QUIET) -> list[Action]:
        self.at_s += seconds
        return self.hear(Tick(self.now, seen))

    def told(self, *waiting: Order) -> list[Action]:
        return self.hear(Opened(waiting, self.phases))

    def answer(self, order: Order) -> dict[str, Any]:
        line = OrderSocket(FED, LOG).reply(order, self.state, Home(Path("/nowhere")))
        said = json.loads(line)
        return {key: said[key] for key in ("state", "code", "step")}


def _request(order: Order, /, **changed: object) -> bytes:
    said = {"v": 1, "order": order.id, "kind": order.kind, "fed": FED, "log": LOG}
    return json.dumps(
        {**said, "concept": order.concept, "release": order.release, **changed}
    ).encode()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", "malformed"),
        (b"[1]", "malformed"),
        (b"{" * 4_000, "malformed"),
        (b'{"v": 1}' + b" " * 4_090, "too-large"),
        (_request(_order(1), v=True), "malformed"),
        (_request(_order(1), v=2), "malformed"),
        (_request(_order(1), more=1), "malformed"),
        (_request(_order(1), order="A" * 32), "malformed"),
        (_request(_order(1), order=["a"]), "malformed"),
        (_request(_order(1), kind="shell"), "malformed"),
        (_request(_order(1), concept="../../etc"), "malformed"),
        (_request(_order(1), release=-1), "malformed"),
        (_request(_order(1), release=1.0), "malformed"),
        (_request(_order(1), fed=1), "malformed"),
        (_request(_order(1), fed="0" * 64), "other-federation"),
        (_request(_order(1), log="0" * 64), "other-federation"),
    ],
)
def test_what_is_no_order_of_this_federation_is_refused_with_a_code(line: bytes, code: str) -> None:
    """A closed schema, whatever a bundle writes on the socket."""
    assert OrderSocket(FED, LOG).order(line, 0.0) == code


def test_a_courier_is_heard_once_a_second() -> None:
    """A second one sooner is refused and said so, with the order's own id."""
    words = OrderSocket(FED, LOG)

    assert words.order(_request(_order(1)), 10.0) == _order(1)
    assert words.order(_request(_order(2)), 10.9) == "rate-limited"
    said = json.loads(words.reply("rate-limited", Played().state, Home(Path("/nowhere"))))
    assert (said["order"], said["state"], said["code"]) == (_order(2).id, "refused", "rate-limited")
    assert words.order(_request(_order(2)), 11.0) == _order(2)


def test_a_courier_hears_how_long_its_node_was_not_seen() -> None:
    """Outside the bound on orders; without news, or with news that is old, it hears null."""
    words, ask = OrderSocket(FED, LOG), b'{"v": 1, "call": "seen"}'

    assert words.seen(ask, 0.0) == b'{"v": 1, "seen_s": null}'
    words.heard({"node_seen_s": 5, "bridge_seen_s": 90}, 100.0)
    assert words.seen(ask, 130.0) == words.seen(ask, 130.0) == b'{"v": 1, "seen_s": 35}'
    assert words.order(_request(_order(1)), 130.0) == _order(1)
    assert words.seen(ask, 281.0) == b'{"v": 1, "seen_s": null}'
    words.heard({"node_seen_s": 5, "bridge_seen_s": 91}, 300.0)
    assert words.seen(ask, 300.0) == b'{"v": 1, "seen_s": null}'
    words.heard({"node_seen_s": None, "bridge_seen_s": None}, 300.0)
    assert words.seen(ask, 300.0) == b'{"v": 1, "seen_s": null}'
    for other in (
        b'{"v": true, "call": "seen"}',
        b'{"v": 1, "call": "seen", "x": 1}',
        b"",
        b"{" * 9,
    ):
        assert words.seen(other, 300.0) is None


def test_a_node_that_a_good_bridge_never_saw_is_silent_since_that_was_first_said() -> None:
    """It is after SuperLink lost its database, or the coordinator restarted (F14, L8)."""
    words, ask = OrderSocket(FED, LOG), b'{"v": 1, "call": "seen"}'
    never = {"node_seen_s": None, "bridge_seen_s": 2}

    words.heard(never, 100.0)
    words.heard(never, 160.0)
    assert words.seen(ask, 225.0) == b'{"v": 1, "seen_s": 125}'
    words.heard({"node_seen_s": None, "bridge_seen_s": 91}, 230.0)
    assert words.seen(ask, 230.0) == b'{"v": 1, "seen_s": null}'
    words.heard(never, 300.0)
    assert words.seen(ask, 310.0) == b'{"v": 1, "seen_s": 10}'
    words.heard({"node_seen_s": 1, "bridge_seen_s": 2}, 320.0)
    words.heard(never, 330.0)
    assert words.seen(ask, 331.0) == b'{"v": 1, "seen_s": 1}'


def test_the_socket_may_lie_where_another_account_may_enter(tmp_path: Path) -> None:
    """With its mode from the first moment; a file that is there stays, and is said."""
    place = tmp_path / "run"
    place.mkdir()
    with selectors.DefaultSelector() as selector:
        server = LineServer(place / "orders.sock", 0o660, lambda line: line, selector)
        assert (place / "orders.sock").stat().st_mode & 0o777 == 0o660
        server.close()
        (place / "orders.sock").write_text("mine")
        for path in (place / "orders.sock", tmp_path / "no" / "orders.sock"):
            with pytest.raises(InputError, match="cannot be a socket"):
                LineServer(path, 0o660, lambda line: line, selector)
    assert (place / "orders.sock").read_text() == "mine"


def test_a_request_is_a_hint_until_the_coordinator_says_the_same() -> None:
    """Unknown there, or another concept under the same id: refused, and nothing begins."""
    daemon = Played(phases={"anna-k7": "withdrawn"})
    hint, forged = _order(1), _order(1, concept="bear-b2")

    assert daemon.hear(Ordered(forged)) == [StartPoll()]
    assert daemon.answer(forged)["state"] == "queued"
    assert daemon.told(hint) == []
    assert daemon.hear(Ended()) == [Start("anna-k7")]
    assert daemon.answer(forged) == {"state": "refused", "code": "not-open", "step": 0}

    daemon.hear(Ordered(replace(hint, release=3)))
    assert daemon.answer(replace(hint, release=3))["code"] == "order-differs"


def test_a_hundred_copies_are_one_training_and_one_question_in_three_seconds() -> None:
    """Before the coordinator is asked, while it runs, after it is done."""
    daemon = Played(phases={"anna-k7": "withdrawn"})
    actions = [action for _ in range(100) for action in daemon.hear(Ordered(_order(1)))]
    actions += daemon.told(_order(1))
    actions += daemon.hear(Ended())
    actions += [action for _ in range(100) for action in daemon.hear(Ordered(_order(1)))]
    assert daemon.answer(_order(1))["state"] == "running"
    actions += daemon.hear(Ended())
    actions += [action for _ in range(100) for action in daemon.hear(Ordered(_order(1)))]
    actions += daemon.told(_order(1))

    assert actions == [StartPoll(), Start("anna-k7")]
    assert daemon.answer(_order(1))["state"] == "done"


@pytest.mark.parametrize(
    ("bug", "play"),
    [
        ("message-taken-for-order", test_a_request_is_a_hint_until_the_coordinator_says_the_same),
        (
            "order-taught-again",
            test_a_hundred_copies_are_one_training_and_one_question_in_three_seconds,
        ),
    ],
)
def test_a_seeded_bug_of_the_order_book_is_caught(bug: str, play: Callable[[], None]) -> None:
    """F10, F11: each planted in a copy; the play above must not stay green."""
    with Bug.named(bug).everywhere(), pytest.raises((AssertionError, IndexError)):
        play()


def test_a_stale_copy_does_not_teach_again_what_was_withdrawn_since() -> None:
    """The order is done for ever, over restarts too; a new one teaches anew."""
    daemon = Played()
    daemon.told(_order(1))
    assert daemon.answer(_order(1))["state"] == "done"

    daemon.phases["anna-k7"] = "withdrawn"
    daemon.hear(Found("anna-k7", "withdrawn"))
    assert daemon.told(_order(1)) == []
    assert daemon.told(_order(1), _order(2)) == [Start("anna-k7")]
    daemon.hear(Found("anna-k7", "withdrawn"))
    assert daemon.answer(_order(2))["state"] == "running"


@pytest.mark.parametrize(
    ("order", "phase", "code"),
    [
        (_order(1, concept="wolf-x9"), "receipted", "unknown-concept"),
        (_order(1, "score", "wolf-x9", 1), "receipted", "unknown-concept"),
        (_order(1, n=3), "withdrawn", "nothing-to-correct"),
        (_order(1, n=3), "leased", "nothing-to-correct"),
        (_order(1, n=3), "withdrawing", "being-withdrawn"),
        (_order(1), "withdrawing", "being-withdrawn"),
        (_order(1, "score", n=1), "leased", "nothing-to-score"),
        (_order(1, "score"), "receipted", "no-release"),
        (_order(1, "withdraw"), "leased", "nothing-to-withdraw"),
        (_order(1, "withdraw", "wolf-x9"), "", "nothing-to-withdraw"),
    ],
)
def test_what_the_owner_cannot_do_is_refused_with_its_reason(
    order: Order, phase: str, code: str
) -> None:
    """An order names a concept of the settings; everything else about it stays at home."""
    daemon = Played(phases={"anna-k7": phase, "wolf-x9": phase})

    assert daemon.told(order) == []
    assert daemon.answer(order) == {"state": "refused", "code": code, "step": 0}


def test_an_order_to_train_what_was_given_is_a_corrective_round() -> None:
    """Against the release that it names, once; a restart in between changes nothing."""
    daemon = Played()
    order = _order(1, n=3)

    assert daemon.told(order) == [Start("anna-k7", 3)]
    assert daemon.answer(order)["state"] == "running"
    assert daemon.hear(Ended("interrupted")) == [Start("anna-k7", 3)]
    tasks = tuple(Task(each.name) for each in SETTINGS.concepts)  # as a daemon that starts has them
    fresh = replace(daemon.state, tasks=tasks, job="", running="", pause=Word())
    daemon.state = fresh
    daemon.hear(Found("bear-b2", "receipted"))
    daemon.hear(Found("anna-k7", "receipted", 2))
    assert daemon.answer(order)["state"] == "queued", "a round against release 2 was another one"
    daemon.hear(Found("anna-k7", CORRECTING, 3))
    assert daemon.hear(Resumed()) == [Start("anna-k7", 3)]
    assert daemon.hear(Ended()) == []
    assert daemon.answer(order)["state"] == "done"
    assert daemon.told(order) == []
    daemon.hear(Found("anna-k7", "receipted", 3))
    assert daemon.tick(2) == []


def test_a_round_that_is_done_already_is_not_done_again() -> None:
    """The order came late: the session says against which release its last round was."""
    daemon = Played()
    daemon.state = replace(daemon.state, pause=Word())
    daemon.told(_order(1, n=3))

    daemon.hear(Found("anna-k7", "receipted", 3))

    assert daemon.answer(_order(1, n=3))["state"] == "done"


def test_while_a_round_is_under_way_what_stands_can_be_scored_and_withdrawn() -> None:
    """The contribution that it goes on from is in the ledger."""
    daemon = Played(replace(SETTINGS, withdraw="policy"), {"anna-k7": CORRECTING})
    score, out = _order(1, "score", n=2), _order(2, "withdraw")

    assert daemon.told(score, out) == [StartOrder(score)]
    assert daemon.hear(Ended()) == [StartOrder(out)]


def test_a_withdrawal_waits_for_the_owner() -> None:
    """`client withdraw` is the yes; the daemon sees it and the order is done."""
    daemon = Played()
    order = _order(1, "withdraw")

    assert daemon.told(order) == []
    assert daemon.answer(order)["code"] == "waiting-for-your-approval"
    daemon.hear(Found("anna-k7", "withdrawn"))
    assert daemon.answer(order)["state"] == "done"


def test_with_a_written_policy_a_withdrawal_does_not_wait_for_a_training() -> None:
    """The training saves and goes on behind it; neither a user at the keys holds it up."""
    settings = replace(SETTINGS, withdraw="policy")
    daemon = Played(settings, {"bear-b2": "withdrawn"})
    daemon.told(_order(1, concept="bear-b2"))
    order = _order(2, "withdraw")

    assert daemon.told(_order(1, concept="bear-b2"), order) == [Interrupt()]
    assert daemon.hear(Ended("interrupted")) == [StartOrder(order)]
    assert daemon.tick(2, replace(QUIET, idle_s=0)) == []
    assert daemon.hear(Ended()) == []
    assert daemon.tick(2) == [Start("bear-b2")]
    assert daemon.answer(order)["state"] == "done"


def test_a_score_waits_for_a_free_machine_and_is_tried_again() -> None:
    """It obeys what a training obeys; an absent coordinator is no refusal."""
    daemon = Played()
    order = _order(1, "score", n=2)
    daemon.tick(0, replace(QUIET, idle_s=0))

    assert daemon.told(order) == []
    assert daemon.tick(1) == [StartOrder(order)]
    assert daemon.hear(Paused()) == [Interrupt()]
    daemon.hear(Ended("interrupted"))
    daemon.state = replace(daemon.state, pause=None)
    assert daemon.tick(2) == [StartOrder(order)]
    assert daemon.hear(Ended("unreachable", roll=0.5)) == []
    assert daemon.answer(order) == {"state": "queued", "code": "unreachable", "step": 0}
    daemon.state = replace(daemon.state, poll_s=1e9)
    assert daemon.tick(31) == [StartOrder(order)]
    daemon.hear(Ended("no-such-release"))
    assert daemon.answer(order) == {"state": "refused", "code": "no-such-release", "step": 0}


def test_the_coordinator_is_asked_once_a_minute_and_seldom_while_it_is_away() -> None:
    """Pauses double to fifteen minutes, with jitter."""
    daemon = Played()

    assert daemon.tick(59) == []
    assert daemon.tick(1) == [StartPoll()]
    assert daemon.told() == []
    assert daemon.hear(Ended()) == []
    assert daemon.tick(59) == []
    for pause_s in (30, 60, 120, 240, 450, 450):
        assert daemon.tick(pause_s) == [StartPoll()]
        assert daemon.hear(Ended("unreachable", roll=0.0)) == []
        if pause_s > 30:
            assert daemon.tick(29) == []
            daemon.at_s -= 29


def test_while_a_training_runs_its_process_asks() -> None:
    """It has the home's lock; if it ends before it answers, a process of its own asks."""
    daemon = Played(phases={"anna-k7": "withdrawn"})
    daemon.told(_order(1))

    assert daemon.tick(60) == [PollThrough()]
    assert daemon.tick(60) == [], "once"
    assert daemon.hear(Unanswered(0.0)) == []
    assert daemon.tick(30) == [PollThrough()]
    assert daemon.hear(Ended("interrupted")) == [StartPoll()]


def test_an_order_that_is_taken_back_is_not_carried_out() -> None:
    """What the coordinator lists no more is refused, unless it is done."""
    daemon = Played()
    daemon.tick(0, replace(QUIET, idle_s=0))
    score, done = _order(1, "score", n=2), _order(2)

    daemon.told(score, done)
    daemon.told()

    assert daemon.answer(score) == {"state": "refused", "code": "not-open", "step": 0}
    assert daemon.answer(done)["state"] == "done"


def test_leaving_begins_no_order() -> None:
    """The concept in hand, and nothing more."""
    daemon = Played()
    daemon.hear(Leave())

    assert not any(
        isinstance(action, StartOrder) for action in daemon.told(_order(1, "score", n=1))
    )


def test_forged_ids_cannot_push_out_what_is_known() -> None:
    """A thousand of them; the done one is still done, and what is kept stays bounded."""
    daemon = Played()
    daemon.told(_order(1))
    for number in range(2, 1_002):
        daemon.hear(Ordered(_order(number)))
        daemon.told()

    book = daemon.state.book
    assert daemon.answer(_order(1))["state"] == "done"
    assert (len(book.held), len(book.doubtful), len(book.refused)) == (1, 0, 64)


def test_the_book_keeps_the_newest_thousand() -> None:
    """However many an operator gives over the years."""
    held = tuple(Held(_order(number), "done") for number in range(MOST_HELD))

    book = OrderBook(held).told([_order(5_000)], {_order(5_000).id: Held(_order(5_000))})

    assert len(book.held) == MOST_HELD
    assert book.of(_order(0).id) is None
    assert book.of(_order(5_000).id) is not None


def test_orders_outlive_a_restart(tmp_path: Path) -> None:
    """What was running is in the queue again; a damaged file forgets, and says nothing false."""
    daemon = Played()
    daemon.told(_order(1), _order(2, "score", n=7))
    assert daemon.state.order == _order(2).id
    remember(tmp_path, daemon.state)

    fresh = reminded(tmp_path, State(SETTINGS, daemon.now, ()))

    assert [(h.order, h.state) for h in fresh.book.held] == [
        (_order(1), "done"),
        (_order(2, "score", n=7), "queued"),
    ]
    (tmp_path / "state.json").write_bytes(b"{}")
    assert reminded(tmp_path, State(SETTINGS, daemon.now, ())).book == OrderBook()


def _given(
    fed: Running, member: str, number: int, kind: OrderKind, concept: str, n: int = 0
) -> Order:
    """Write one order into the coordinator's store, as its command does."""
    now, size = fed.clock.wall_s(), fed.house.store.run(head).size
    new = FleetOrder(bytes([number]) * 16, member, kind, concept, n, "open", now, now + 9_999, size)
    fed.house.store.run(lambda db: orders.add_order(db, new))
    return Order(new.id.hex(), kind, concept, n)


def _closed(fed: Running, order: Order) -> str:
    found = fed.house.store.run(lambda db: orders.order(db, bytes.fromhex(order.id)))
    assert found is not None
    return found.state


def _asks(home: Home, order: Order, /, **changed: object) -> dict[str, Any]:
    """Ask on orders.sock as a courier does, at most once a second."""
    time.sleep(1.05)
    member = home.membership()
    line = _request(order, fed=member.fed, log=member.log, **changed)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(home.folder / "orders.sock"))
        connection.sendall(line + b"\n")
        return json.loads(connection.makefile("rb").readline())


def _until(home: Home, order: Order, state: str) -> dict[str, Any]:
    end_s = time.monotonic() + 120
    while (said := _asks(home, order))["state"] != state:
        assert time.monotonic() < end_s, said
    return said


def test_train_score_and_withdraw_by_order(tmp_path: Path) -> None:
    """Real processes: a concept is taught by order, scored, corrected, withdrawn, taught again.

    Every order is asked for over and over, in between the daemon is killed; the ledger closes the
    orders to train and to withdraw, and has one contribution of each.
    """
    with running(founded(tmp_path)) as fed:
        (tmp_path / "quick.toml").write_text(TRAINING)
        write_images(tmp_path / "images", 6)
        home = Home.at(tmp_path / "home")
        join(home, fed.invite(), url=None, patience_s=20)
        member = Masters(home).newest().member(home.membership().log).public_hex
        with OwnerDaemon(home, queue(tmp_path, "wolf-a1", withdraw="policy")) as daemon:
            assert (home.folder / "orders.sock").stat().st_mode & 0o777 == 0o660
            train = _given(fed, member, 1, "train", "wolf-a1")
            assert _asks(home, train)["state"] in {"queued", "running"}
            assert _asks(home, train, concept="bear-b2")["state"] in {"queued", "refused"}
            daemon.send(signal.SIGKILL)
            daemon.ended()
            daemon.start()
            first = _until(home, train, "done")
            assert first["receipt"]
            assert _closed(fed, train) == "done"

            other = fed.member()
            lease = other.lease("bert", ("bert-k7",), vectors=(2,))
            other.contribute(other.pack(lease, size=1e-3))
            fed.release()
            score = _given(fed, member, 2, "score", "wolf-a1", 1)
            assert _until(home, score, "done")["receipt"] == ""
            kept = json.loads((home.run("wolf-a1") / "scores" / "release-1.json").read_bytes())
            assert set(kept) == {
                *("v", "release", "loss_base", "loss_single", "loss_merged", "retention"),
                *("pictures", "draws"),
            }
            assert _closed(fed, score) == "done"
            row, _ = fed.desk.ask("retention", {"release": 1})["concepts"]
            assert row["measured"]["merged_millionths"] == round(kept["loss_merged"] * 1e6)

            further = _given(fed, member, 5, "train", "wolf-a1", 1)
            assert _until(home, further, "done")["receipt"]
            assert _closed(fed, further) == "done"

            out = _given(fed, member, 3, "withdraw", "wolf-a1")
            assert _until(home, out, "done")["receipt"]
            assert _closed(fed, out) == "done"
            assert _asks(home, train)["state"] == "done"
            session = load(home.run("wolf-a1"))
            assert session is not None
            assert session.phase == "withdrawn", "a stale copy of an order teaches nothing"

            again = _given(fed, member, 4, "train", "wolf-a1")
            _until(home, again, "done")
            assert _closed(fed, again) == "done"

        leaves = fed.desk.ask("contributions", {})["contributions"]
        assert [(row["concept"], row["state"]) for row in leaves] == [
            *(("wolf-a1", "withdrawn"), ("bert", "accepted")),
            *(("wolf-a1", "withdrawn"), ("wolf-a1", "accepted")),
        ]
