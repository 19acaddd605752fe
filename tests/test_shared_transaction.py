"""Closures that wait together share one COMMIT, and none of them notices (ADR 0023)."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import pytest

from orthofed.coordinator import board as boards
from orthofed.coordinator import meta_rows, name_rows, slot_rows
from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.fs import Fs
from orthofed.coordinator.name_rows import Name
from orthofed.coordinator.slot_events import Ask, Grant, Renew
from orthofed.coordinator.slots import Slot, Slots
from orthofed.coordinator.store import Store
from orthofed.core.errors import OrthoFedError, Refused

from .seeded import Bug

WAITING = 12


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    made = Store(tmp_path / "state.db", fs=Fs(), new=True)
    yield made
    made.close()


class Queue:
    """Work handed in while the writer is held up, in order."""

    def __init__(self, store: Store, pool: ThreadPoolExecutor) -> None:
        self._store = store
        self._pool = pool
        self.asked: list[Future[Any]] = []

    def put(self, ask: Callable[..., Any], *arguments: Any, **more: Any) -> Future[Any]:
        """Ask from a thread of its own; return when it stands in the queue."""
        before = self._store._queue.qsize()
        self.asked.append(self._pool.submit(ask, *arguments, **more))
        while self._store._queue.qsize() == before:
            assert not self.asked[-1].done()
        return self.asked[-1]


@contextmanager
def held_up(store: Store) -> Iterator[tuple[Queue, list[str]]]:
    """Let work pile up behind a closure that waits; give the SQL that ran once all is done."""
    began, go_on = threading.Event(), threading.Event()
    ran: list[str] = []

    def hold(db: sqlite3.Connection) -> None:
        began.set()
        assert go_on.wait(30)
        db.set_trace_callback(ran.append)

    with ThreadPoolExecutor(WAITING + 2) as pool:
        holding = pool.submit(store.run, hold)
        assert began.wait(30)
        queue = Queue(store, pool)
        yield queue, ran
        go_on.set()
        wait([holding, *queue.asked], timeout=30)


def write(key: str) -> Callable[[sqlite3.Connection], str]:
    def work(db: sqlite3.Connection) -> str:
        meta_rows.set_values(db, [(key, b"x")])
        return key

    return work


def keys(store: Store) -> list[str]:
    return [k for (k,) in store.run(lambda db: db.execute("SELECT key FROM meta").fetchall())]


def commits(ran: list[str]) -> int:
    return sum(line.startswith("COMMIT") for line in ran)


def test_who_waits_together_shares_one_commit(store):
    """Twelve writes behind a slow one: its own COMMIT and one more, each with its own answer."""
    with held_up(store) as (queue, ran):
        asked = [queue.put(store.run, write(f"k{n}")) for n in range(WAITING)]

    assert [each.result() for each in asked] == [f"k{n}" for n in range(WAITING)]
    assert commits(ran) == 2
    assert sorted(keys(store)) == sorted(f"k{n}" for n in range(WAITING))


def test_one_that_raises_changes_nothing_and_hurts_no_other(store):
    """Rows of the one before and of the one behind it are there, its own are not."""

    def half(db: sqlite3.Connection) -> None:
        meta_rows.set_values(db, [("half", b"x")])
        raise Refused("no", why="y", fix="f", code="busy")

    with held_up(store) as (queue, ran):
        before = queue.put(store.run, write("before"))
        bad = queue.put(store.run, half)
        behind = queue.put(store.run, write("behind"))

    assert (before.result(), behind.result()) == ("before", "behind")
    with pytest.raises(Refused):
        bad.result()
    assert commits(ran) == 2
    assert sorted(keys(store)) == ["before", "behind"]


def test_a_broken_rule_of_the_database_is_only_its_makers(store):
    """SQLite's own errors undo the transaction; the others are done again and answered."""
    store.run(lambda db: name_rows.claim(db, "trigger", "anna", Name("anna", "m", 0, 1)))

    with held_up(store) as (queue, _):
        before = queue.put(store.run, write("before"))
        bad = queue.put(store.run, lambda db: db.execute("DELETE FROM name"))
        behind = queue.put(store.run, write("behind"))

    assert (before.result(), behind.result()) == ("before", "behind")
    with pytest.raises(sqlite3.IntegrityError):
        bad.result()
    assert sorted(keys(store)) == ["before", "behind"]


def test_a_full_disk_refuses_who_needs_room_and_answers_who_reads(store):
    """F5: the large write finds no room; a read and a small write beside it are answered."""
    pages = store.run(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    store.run(lambda db: db.execute(f"PRAGMA max_page_count = {pages + 4}").fetchall())

    def large(db: sqlite3.Connection) -> None:
        meta_rows.set_values(db, [("large", bytes(1 << 20))])

    with held_up(store) as (queue, _):
        small = queue.put(store.run, write("small"))
        full = queue.put(store.run, large)
        read = queue.put(store.run, lambda db: db.execute("SELECT 7").fetchone()[0])

    assert (small.result(), read.result()) == ("small", 7)
    with pytest.raises(Refused) as refused:
        full.result()
    assert refused.value.code == "no-room"
    assert keys(store) == ["small"]


def board_of(store: Store, num: int) -> boards.Board:
    store.run(lambda db: slot_rows.make(db, num))
    return boards.Board(store, Slots((Slot(),) * num, ttl_s=900, hold_s=900), SystemClock())


def ask_all(store: Store, board: boards.Board, num: int) -> list[Any]:
    """Let ``num`` members ask in one transaction; return what each was told."""

    def ask(n: int) -> Any:
        try:
            return board.run(lambda turn: turn.step(Ask(0, f"client-{n}", f"member-{n}")))
        except (OrthoFedError, AssertionError, IndexError) as error:
            return getattr(error, "code", "fault")

    with held_up(store) as (queue, _):
        asked = [queue.put(ask, n) for n in range(num)]
    return [each.result() for each in asked]


def test_turns_of_one_transaction_follow_each_other(store):
    """Three slots, four members at once: each slot is granted once and the fourth is refused."""
    board = board_of(store, 3)

    told = ask_all(store, board, 4)

    assert told == [*((Grant(n, 1),) for n in range(3)), "no-free-slot"]
    assert [slot.client for slot in store.run(slot_rows.every)] == [f"client-{n}" for n in range(3)]
    assert [slot.client for slot in board.state.slots] == [f"client-{n}" for n in range(3)]


def test_a_turn_that_was_rolled_back_with_others_leaves_no_trace(store):
    """The transaction is undone by a third party; both turns are done again, from the rows."""
    board = board_of(store, 2)

    with held_up(store) as (queue, _):
        one = queue.put(board.run, lambda turn: turn.step(Ask(0, "ana", "a")))
        bad = queue.put(store.run, lambda db: db.execute("INSERT INTO meta VALUES (NULL, NULL)"))
        two = queue.put(board.run, lambda turn: turn.step(Ask(0, "ben", "b")))

    assert (one.result(), two.result()) == ((Grant(0, 1),), (Grant(1, 1),))
    assert isinstance(bad.exception(), sqlite3.Error)
    assert [slot.fence for slot in board.state.slots] == [1, 1]


def test_a_deadline_that_moves_between_two_turns_is_seen_by_the_second(store):
    """A renewal answered while the first of two turns is under way keeps its slot from the next."""
    board = board_of(store, 2)
    now_s = board._clock.monotonic_s()
    board.run(lambda turn: turn.step(Ask(now_s, "ana", "a")))
    began, go_on = threading.Event(), threading.Event()

    def slow(turn):
        began.set()
        assert go_on.wait(30)
        return turn.step(Ask(now_s, "ben", "b"))

    with held_up(store) as (queue, _):
        first = queue.put(board.run, slow)
        second = queue.put(board.run, lambda turn: turn.step(Ask(now_s + 901, "eve", "e")))
        threading.Thread(target=renew_then, args=(board, now_s, began, go_on)).start()

    assert first.result() == (Grant(1, 1),)
    assert second.result() == (Grant(1, 2),), "ben's slot is over by then, ana's is not"


def renew_then(
    board: boards.Board, now_s: float, began: threading.Event, go_on: threading.Event
) -> None:
    """Move ana's deadline by two seconds while a turn is under way, then let it go on."""
    assert began.wait(30)
    board.keep(lambda _: Renew(now_s + 2, "ana", 0, 1, 1))
    go_on.set()


def test_a_closure_that_wants_to_be_alone_is(store):
    """What its end changes in memory is there before the next closure begins."""
    seen: list[str] = []
    told: list[str] = []

    with held_up(store) as (queue, ran):
        queue.put(store.run, write("before"))
        queue.put(store.run, write("alone"), after=told.append, alone=True)
        queue.put(store.run, lambda _: seen.extend(told))

    assert seen == ["alone"]
    assert commits(ran) == 4


@pytest.mark.parametrize("bug", ["turn-from-committed-slots", "undo-forgotten"])
def test_a_seeded_bug_of_shared_turns_is_caught(tmp_path, bug):
    """A turn starts from the committed slots; a turn that was undone is adopted all the same."""
    with Bug.named(bug).everywhere():
        store = Store(tmp_path / "state.db", fs=Fs(), new=True)
        board = board_of(store, 3)
        with held_up(store) as (queue, _):
            one = queue.put(board.run, lambda turn: turn.step(Ask(0, "ana", "a")))
            queue.put(store.run, lambda db: db.execute("INSERT INTO meta VALUES (NULL, NULL)"))
            two = queue.put(board.run, lambda turn: turn.step(Ask(0, "ben", "b")))
        right = not (one.exception() or two.exception())
        told = [one.result(), two.result(), *ask_all(store, board, 2)] if right else []
        store.close()

    assert told != [*((Grant(n, 1),) for n in range(3)), "no-free-slot"]


def synchronous(db: sqlite3.Connection) -> int:
    return db.execute("PRAGMA synchronous").fetchone()[0]


def test_what_a_power_cut_may_take_waits_for_no_sync(store):
    """ADR 0024: NORMAL for such a closure, FULL for the next one."""
    assert store.run(synchronous, synced=False) == 1
    assert store.run(synchronous) == 2


def test_one_that_has_to_last_takes_the_others_with_it(store):
    """In a shared transaction the strictest decides for all, whatever the order."""
    with held_up(store) as (queue, _):
        asked = [queue.put(store.run, synchronous, synced=n == 1) for n in range(3)]

    assert [each.result() for each in asked] == [2, 2, 2]
