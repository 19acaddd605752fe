"""The store: one commit point, nothing before it, everything after it."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from orthofed.coordinator import contribution_rows, meta_rows, name_rows, slot_rows, upload_rows
from orthofed.coordinator.board import Board
from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.contribution_rows import Contribution
from orthofed.coordinator.fs import Fs
from orthofed.coordinator.ledger import Ledger, head
from orthofed.coordinator.name_rows import Name
from orthofed.coordinator.slot_events import Ask, Commit, Grant, Hold, Renew
from orthofed.coordinator.slots import Slot, Slots
from orthofed.coordinator.store import Store
from orthofed.coordinator.upload_rows import Upload
from orthofed.core.errors import LeaseLost, OrthoFedError, Refused, VerificationFailed
from orthofed.core.keys import SigningKey
from orthofed.core.leaf import lease_leaf, spec_leaf
from orthofed.core.receipt import verify_receipt

LOG = "5" * 64
KEY = SigningKey.from_seed(b"\2" * 32)


class Stopped(Exception):
    """The process would have ended here."""


class WatchedFs(Fs):
    """Says so instead of ending the process."""

    def give_up(self, what, error):
        raise Stopped(f"{what}: {error}")


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "state.db", fs=WatchedFs(), new=True)
    yield made
    made.close()


def test_what_a_closure_returns_is_on_the_disk(store, tmp_path):
    """A value returned is found again by another process that opens the file."""
    store.run(lambda db: meta_rows.set_values(db, [("log", b"x")]))
    store.close()

    again = Store(tmp_path / "state.db", fs=Fs())

    assert again.run(lambda db: meta_rows.value(db, "log")) == b"x"
    again.close()


def test_a_closure_that_raises_changes_nothing(store):
    """Half of a transaction is none, and the error reaches who asked."""

    def half(db):
        meta_rows.set_values(db, [("log", b"x")])
        raise Refused("no", why="y", fix="f", code="busy")

    with pytest.raises(Refused):
        store.run(half)

    count = store.run(lambda db: db.execute("SELECT COUNT(*) FROM meta").fetchone()[0])
    assert count == 0


def test_no_second_connection_gets_in(store, tmp_path):
    """One connection in the world: a second one, even of this process, finds it locked."""
    store.run(lambda db: meta_rows.set_values(db, [("log", b"x")]))
    other = sqlite3.connect(tmp_path / "state.db", timeout=0.1)

    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("SELECT * FROM meta").fetchall()

    other.close()


def test_leaves_and_names_are_for_ever(store):
    """Triggers of the database itself forbid what no code should do."""
    ledger = Ledger(KEY, LOG)
    store.run(lambda db: ledger.append(db, spec_leaf("1" * 64)))
    store.run(lambda db: name_rows.claim(db, "trigger", "anna", Name("anna", "m", 0, 1)))

    for statement in ("UPDATE leaf SET kind = 'x'", "DELETE FROM leaf", "DELETE FROM name"):
        with pytest.raises(sqlite3.IntegrityError):
            store.run(lambda db, s=statement: db.execute(s))


def test_a_taken_skeleton_is_refused_by_the_database_itself(store):
    """I6 holds even if a check before it were forgotten."""
    first, second = Name("anna", "m1", 0, 1), Name("ann4", "m2", 1, 1)
    store.run(lambda db: name_rows.claim(db, "trigger", "anna", first))

    with pytest.raises(sqlite3.IntegrityError):
        store.run(lambda db: name_rows.claim(db, "trigger", "anna", second))


def test_every_receipt_of_a_growing_ledger_verifies(store):
    """I7: each leaf's receipt, made at its append, proves its place under its own checkpoint."""
    ledger = Ledger(KEY, LOG)
    bodies = [spec_leaf("1" * 64)]
    bodies += [lease_leaf(client="2" * 64, fence=i, slot=0, triggers=["abc"]) for i in range(1, 20)]

    receipts = [store.run(lambda db, b=body: ledger.append(db, b)).receipt for body in bodies]

    for i, (body, data) in enumerate(zip(bodies, receipts, strict=True)):
        receipt = verify_receipt(data, log=LOG, ledger_key=KEY.public_hex)
        assert (receipt.index, receipt.leaf_body) == (i, body)
    assert store.run(head).size == 20


def test_a_rolled_back_leaf_leaves_no_trace(store):
    """A checkpoint that was signed in a transaction that failed is nowhere."""
    ledger = Ledger(KEY, LOG)
    store.run(lambda db: ledger.append(db, spec_leaf("1" * 64)))

    def append_and_fail(db):
        ledger.append(db, lease_leaf(client="2" * 64, fence=1, slot=0, triggers=["abc"]))
        raise LeaseLost("x", why="y", fix="z", code="lease-lost")

    with pytest.raises(LeaseLost):
        store.run(append_and_fail)

    assert store.run(head).size == 1


def test_memory_follows_the_database_and_not_a_failed_turn(store):
    """A turn that steps and then fails changes neither rows nor slots."""
    store.run(lambda db: slot_rows.make(db, 1))
    board = Board(store, Slots((Slot(),), ttl_s=900, hold_s=900), SystemClock())

    def ask_and_fail(turn):
        turn.step(Ask(0, "ana", "a"))
        raise Refused("no", why="y", fix="f", code="busy")

    with pytest.raises(Refused):
        board.run(ask_and_fail)
    granted = board.run(lambda turn: turn.step(Ask(0, "ben", "b")))

    assert granted == (Grant(0, 1),)
    assert store.run(slot_rows.every)[0].client == "ben"


def test_a_renewal_waits_for_no_turn_and_no_turn_forgets_it(store):
    """While a turn is under way a deadline moves; the turn's end keeps it, and its own slot's."""
    clock = ByHand()
    board = leased_twice(store, clock)
    began, go_on = threading.Event(), threading.Event()

    def commit(turn):
        began.set()
        assert go_on.wait(10)
        return turn.step(Commit("ben", 1, 1))

    with ThreadPoolExecutor(1) as pool:
        filled = pool.submit(board.run, commit)
        assert began.wait(10)
        clock.now_s = 50.0
        held = board.keep(lambda now_s: Renew(now_s, "ana", 0, 1, 1))
        board.keep(lambda now_s: Renew(now_s, "ben", 1, 1, 1))
        go_on.set()
        filled.result()

    assert held == (Hold(0, ttl_s=900, held_s=50),)
    assert board.state.slots[0].deadline_s == 950
    assert board.state.slots[1].phase == "filled"


@pytest.mark.parametrize(
    ("seconds", "saved"), [((30, 59), [0, 0]), ((59, 60), [0, 60]), ((61, 119), [61, 61])]
)
def test_seconds_held_reach_the_disk_a_minute_at_a_time(store, seconds, saved):
    """A restart may forget fewer than sixty of them, and no more (T1)."""
    clock = ByHand()
    board = leased_twice(store, clock)
    found: list[int] = []

    for progress, clock.now_s in enumerate(seconds):
        board.keep(lambda now_s, progress=progress: Renew(now_s, "ana", 0, 1, progress))
        found.append(store.run(slot_rows.every)[0].held_s)

    assert found == saved
    assert board.state.slots[0].held_s == seconds[-1]


def test_a_renewal_after_the_deadline_takes_its_turn(store):
    """A turn under way may be giving the slot away: the renewal waits for it, and is refused."""
    clock = ByHand()
    board = leased_twice(store, clock)
    began, go_on = threading.Event(), threading.Event()

    def ask(turn):
        granted = turn.step(Ask(900, "eve", "e"))
        began.set()
        assert go_on.wait(10)
        return granted

    with ThreadPoolExecutor(2) as pool:
        clock.now_s = 900.0
        granted = pool.submit(board.run, ask)
        assert began.wait(10)
        renewed = pool.submit(board.keep, lambda now_s: Renew(now_s, "ana", 0, 1, 1))
        with pytest.raises(TimeoutError):
            renewed.result(0.2)
        go_on.set()
        with pytest.raises(LeaseLost):
            renewed.result()

    assert granted.result() == (Grant(0, 2),)


def leased_twice(store: Store, clock: "ByHand") -> Board:
    """Return two slots that ana and ben hold since second 0, on the disk and in memory."""
    store.run(lambda db: slot_rows.make(db, 2))
    board = Board(store, Slots((Slot(), Slot()), ttl_s=900, hold_s=9_000), clock)
    for name in ("ana", "ben"):
        board.run(lambda turn, name=name: turn.step(Ask(0, name, name[0])))
    return board


class ByHand(SystemClock):
    """A clock that is set by hand."""

    now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s


def test_sixty_four_commits_at_once_fill_one_slot_once(store):
    """The race for one fence: one turn fills, all others are refused (I2, I3)."""
    store.run(lambda db: slot_rows.make(db, 1))
    board = Board(store, Slots((Slot(),), ttl_s=900, hold_s=900), SystemClock())
    board.run(lambda turn: turn.step(Ask(0, "ana", "a")))
    said: list[str] = []

    def commit() -> None:
        try:
            board.run(lambda turn: turn.step(Commit("ana", 0, 1)))
            said.append("filled")
        except LeaseLost:
            said.append("lost")

    threads = [threading.Thread(target=commit) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(said) == ["filled"] + ["lost"] * 63


def test_an_upload_is_finished_once(store):
    """I4: the receipt is stored with the upload and is never replaced."""
    new = Upload(b"i" * 16, 0, 1, "c", b"d", (bytes(32),), "b", 5)
    ledger = Ledger(KEY, LOG)
    store.run(lambda db: upload_rows.put(db, new))
    store.run(lambda db: ledger.append(db, spec_leaf("1" * 64)))
    store.run(lambda db: upload_rows.finish(db, new.id, leaf=0, receipt=b"r"))
    entry = Contribution(0, 0, 1, "accepted", "", "{}", 0)
    store.run(lambda db: contribution_rows.add(db, entry))

    with pytest.raises(AssertionError):
        store.run(lambda db: upload_rows.finish(db, new.id, leaf=0, receipt=b"s"))
    with pytest.raises(sqlite3.IntegrityError):
        store.run(lambda db: contribution_rows.add(db, entry))

    store.run(lambda db: upload_rows.drop(db, new.id))
    assert store.run(lambda db: upload_rows.of_id(db, new.id)).receipt == b"r"


def test_a_full_database_is_an_ordinary_refusal(store):
    """F5: SQLITE_FULL rolls back, answers no-room, and reading goes on."""
    store.run(lambda db: meta_rows.set_values(db, [("log", b"x")]))
    pages = store.run(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    store.run(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone())

    with pytest.raises(Refused) as refused:
        store.run(lambda db: meta_rows.set_values(db, [("big", bytes(1 << 20))]))

    assert refused.value.code == "no-room"
    assert store.run(lambda db: meta_rows.value(db, "log")) == b"x"


def test_the_name_of_the_log_is_synced_before_anything_is_promised(tmp_path):
    """F4: SQLite ignores a failed fsync of its folder, so the store makes one that it judges."""
    logs: list[bool] = []

    class Watching(Fs):
        def sync_folder(self, folder):
            logs.append((folder / "state.db-wal").exists())
            super().sync_folder(folder)

    Store(tmp_path / "state.db", fs=Fs(), new=True).close()
    opened = Store(tmp_path / "state.db", fs=Watching())

    assert logs == [True]
    opened.close()


def test_a_foreign_or_newer_database_is_not_opened(tmp_path):
    """Another program's file, and a format of the future, are refused by name."""
    path = tmp_path / "state.db"
    sqlite3.connect(path).execute("CREATE TABLE t (x)").connection.close()

    with pytest.raises(VerificationFailed) as refused:
        Store(path, fs=Fs())

    assert refused.value.code == "unknown-database"


def test_a_closed_store_says_that_it_stops(store):
    """Calls that come too late are told to try again."""
    store.close()

    with pytest.raises(OrthoFedError) as refused:
        store.run(head)

    assert refused.value.code == "draining"
