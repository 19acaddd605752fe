"""The coordinator's one database: one connection, one writer thread, one commit point.

Laws (reliability.md 2.2, 2.4): all reads and writes are closures in one bounded queue, each one
``BEGIN IMMEDIATE ... COMMIT``; what a closure returns leaves this module only after COMMIT, so a
receipt that somebody holds is always durable. ``synchronous=FULL`` and ``locking_mode=EXCLUSIVE``:
no second connection exists, which also keeps clear of SQLite's WAL fault below 3.51.3. An
unexpected error of COMMIT ends the process (F4); a full disk rolls back and is an ordinary refusal
(F5). Not here: what the rows mean (leases.py, ledger.py, service.py).
"""

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import OrthoFedError, Refused, Unreachable, VerificationFailed
from .fs import Fs, no_room

_T = TypeVar("_T")

APPLICATION_ID = 0x4F46_4431  # "OFD1"
FORMAT = 1
_QUEUE = 256
_WAL_BYTES = 64 << 20

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE head (
  id INTEGER PRIMARY KEY CHECK (id = 0), size INTEGER NOT NULL, peaks BLOB NOT NULL,
  checkpoint BLOB NOT NULL) STRICT;
CREATE TABLE keyring (n INTEGER PRIMARY KEY, document BLOB NOT NULL) STRICT;
CREATE TABLE invite (
  key TEXT PRIMARY KEY, uses_left INTEGER NOT NULL CHECK (uses_left >= 0),
  until INTEGER NOT NULL, operator INTEGER NOT NULL) STRICT;
CREATE TABLE member (
  key TEXT PRIMARY KEY, invite TEXT NOT NULL REFERENCES invite (key),
  operator INTEGER NOT NULL) STRICT;
CREATE TABLE slot (
  id INTEGER PRIMARY KEY, state TEXT NOT NULL, fence INTEGER NOT NULL, client TEXT NOT NULL,
  member TEXT NOT NULL, held_s INTEGER NOT NULL) STRICT;
CREATE TABLE lease (
  member TEXT NOT NULL REFERENCES member (key), request TEXT NOT NULL, slot INTEGER NOT NULL,
  fence INTEGER NOT NULL, client TEXT NOT NULL UNIQUE, concept TEXT NOT NULL,
  triggers TEXT NOT NULL, vectors TEXT NOT NULL, day INTEGER NOT NULL, leaf INTEGER NOT NULL,
  PRIMARY KEY (member, request), UNIQUE (slot, fence)) STRICT;
CREATE TABLE name (
  kind TEXT NOT NULL CHECK (kind IN ('concept', 'trigger')), skeleton TEXT NOT NULL,
  name TEXT NOT NULL, member TEXT NOT NULL, slot INTEGER NOT NULL, fence INTEGER NOT NULL,
  PRIMARY KEY (kind, skeleton)) STRICT;
CREATE TABLE upload (
  id BLOB PRIMARY KEY, slot INTEGER NOT NULL, fence INTEGER NOT NULL, client TEXT NOT NULL,
  document BLOB NOT NULL, chunks BLOB NOT NULL, blob TEXT NOT NULL, bytes INTEGER NOT NULL,
  leaf INTEGER UNIQUE, receipt BLOB,
  UNIQUE (slot, fence), CHECK ((leaf IS NULL) = (receipt IS NULL))) STRICT;
CREATE TABLE leaf (
  idx INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TRIGGER leaf_no_update BEFORE UPDATE ON leaf BEGIN SELECT RAISE (ABORT, 'append-only'); END;
CREATE TRIGGER leaf_no_delete BEFORE DELETE ON leaf BEGIN SELECT RAISE (ABORT, 'append-only'); END;
CREATE TRIGGER name_no_delete BEFORE DELETE ON name BEGIN SELECT RAISE (ABORT, 'for ever'); END;
CREATE TABLE contribution (
  leaf INTEGER PRIMARY KEY REFERENCES leaf (idx), slot INTEGER NOT NULL, fence INTEGER NOT NULL,
  state TEXT NOT NULL
    CHECK (state IN ('pending', 'accepted', 'quarantined', 'rejected', 'withdrawn')),
  why TEXT NOT NULL, figures TEXT NOT NULL, UNIQUE (slot, fence)) STRICT;
CREATE TABLE release (
  n INTEGER PRIMARY KEY, state TEXT NOT NULL CHECK (state IN ('planned', 'published')),
  plan BLOB NOT NULL, document BLOB, leaf INTEGER UNIQUE, receipt BLOB) STRICT;
"""

_BROKEN = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PRIMARY = 0xFF  # the low byte of SQLite's extended result codes


_Job = tuple[Callable[[sqlite3.Connection], Any], Callable[[Any], None] | None, Future[Any]]


class Store:
    """Runs closures on the one connection, in order, each in its own transaction."""

    def __init__(self, path: Path, *, fs: Fs) -> None:
        """Open the database, made new if it is not there, and start the writer thread."""
        self._path = path
        self._fs = fs
        self._queue: queue.Queue[_Job | None] = queue.Queue(maxsize=_QUEUE)
        self._closed = threading.Event()
        opened: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._serve, args=(opened,), name="store", daemon=True
        )
        self._thread.start()
        opened.result()

    def run(
        self,
        work: Callable[[sqlite3.Connection], _T],
        *,
        after: Callable[[_T], None] | None = None,
    ) -> _T:
        """Return what ``work`` returns, after its transaction is on the disk.

        ``after`` runs between COMMIT and the next closure, in the writer thread: memory that
        mirrors rows is changed there and nowhere else.

        Raises what ``work`` raises, and then nothing is changed; Refused("busy") when the queue is
        full; Refused("no-room") when the disk is.
        """
        if self._closed.is_set():
            raise _draining()
        future: Future[_T] = Future()
        try:
            self._queue.put_nowait((work, after, future))
        except queue.Full:
            raise Refused(
                f"{_QUEUE} operations wait already",
                why="the coordinator is busier than its disk",
                fix="try again in a moment",
                code="busy",
            ) from None
        try:
            return future.result()
        finally:
            del future  # an error holds this frame; holding its future back would be a cycle

    def close(self) -> None:
        """Finish what is queued and close the database."""
        if not self._closed.is_set():
            self._closed.set()
            self._queue.put(None)
        self._thread.join()

    def _serve(self, opened: Future[None]) -> None:
        try:
            connection = self._open()
        except BaseException as error:  # noqa: BLE001  # handed to the thread that opens the store
            opened.set_exception(error)
            return
        opened.set_result(None)
        with contextlib.closing(connection):
            while (job := self._queue.get()) is not None:
                work, after, future = job
                try:
                    result = self._transact(connection, work)
                    if after is not None:
                        after(result)
                except BaseException as error:  # noqa: BLE001  # handed to the asking thread
                    future.set_exception(error)
                else:
                    future.set_result(result)
                del job, work, after, future  # keeps no request's bytes alive while waiting
        while not self._queue.empty():  # raced with close
            job = self._queue.get()
            if job is not None:
                job[2].set_exception(_draining())

    def _open(self) -> sqlite3.Connection:
        new = not self._path.exists()
        connection = sqlite3.connect(self._path, isolation_level=None)
        for pragma in (
            "locking_mode=EXCLUSIVE",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "trusted_schema=OFF",
            "mmap_size=0",
            f"journal_size_limit={_WAL_BYTES}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if new:
            self._create(connection)
        found = [connection.execute(f"PRAGMA {p}").fetchone()[0] for p in _IDENTITY]
        if found != [APPLICATION_ID, FORMAT]:
            connection.close()
            raise VerificationFailed(
                f"{self._path.name} has application id {found[0]:#x} and format {found[1]}",
                why=f"this program writes {APPLICATION_ID:#x} and format {FORMAT}",
                fix="start the program of the version that wrote it, or restore a backup",
                code="unknown-database",
            )
        return connection

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id={APPLICATION_ID};"
            f" PRAGMA user_version={FORMAT}; {_SCHEMA} COMMIT;"
        )
        self._path.chmod(0o600)
        self._fs.sync_folder(self._path.parent)

    def _transact(
        self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], _T]
    ) -> _T:
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._judge(error)
            raise
        self._commit(connection)
        return result

    def _judge(self, error: BaseException) -> None:
        """Turn a full disk into a refusal, and end the process on a failing one (F4, F5)."""
        if not isinstance(error, sqlite3.Error):
            return
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
        if code == sqlite3.SQLITE_FULL:
            raise no_room("the database cannot grow") from error
        if code in _BROKEN:
            self._fs.give_up("the database failed", OSError(str(error)))

    def _commit(self, connection: sqlite3.Connection) -> None:
        """Have the transaction on the disk, or roll it back for want of room, or end (F4, F5)."""
        try:
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL and connection.in_transaction:
                connection.execute("ROLLBACK")
                raise no_room("the database cannot grow") from error
            self._fs.give_up("COMMIT failed", OSError(str(error)))


_IDENTITY = ("application_id", "user_version")


def _draining() -> OrthoFedError:
    return Unreachable(
        "the coordinator is stopping",
        why="its operator stops or restarts it",
        fix="try again in a moment",
        code="draining",
    )
