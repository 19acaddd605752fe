"""The coordinator's one database: one connection, one writer thread, one commit point.

Laws (reliability.md 2.2, 2.4): all reads and writes are closures in one bounded queue, done one
after the other; those that wait together share one ``BEGIN IMMEDIATE ... COMMIT`` and so one sync,
each in a savepoint of its own, so that one that raises changes nothing and hurts no other (ADR
0023). What a closure returns leaves this module only after COMMIT, so a receipt that somebody holds
is always durable; closures that may be lost with the power, and only those, wait for no sync (ADR
0024). ``synchronous=FULL`` for all others, and ``locking_mode=EXCLUSIVE``: no second connection
exists, which also keeps clear of SQLite's WAL fault below 3.51.3. An unexpected error of COMMIT
ends the process (F4); a full disk rolls back and is an ordinary refusal (F5). A snapshot is made by
that same connection, some pages at a time, between transactions. Not here: the schema
(migrations.py), what the rows mean (leases.py, ledger.py, slot_rows.py
and its like).
"""

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from ..core.errors import OrthoFedError, Refused, Unreachable, VerificationFailed
from . import migrations
from .fs import Fs, no_room
from .store_jobs import Copy, Job

_T = TypeVar("_T")

_QUEUE = 256
_TOGETHER = 64
"""The most closures that share a sync: what the first of them waits for the others stays short."""
_PAGES = 256
_WAL_BYTES = 64 << 20

_FULL = "2"  # NORMAL loses acknowledged work at a power cut
_NORMAL = "1"

_PRAGMAS = (
    ("locking_mode", "exclusive"),
    ("journal_mode", "wal"),
    ("synchronous", _FULL),
    ("foreign_keys", "1"),
    ("trusted_schema", "0"),
    ("mmap_size", "0"),
    ("journal_size_limit", str(_WAL_BYTES)),
)
_BROKEN = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PRIMARY = 0xFF  # the low byte of SQLite's extended result codes


class Store:
    """Runs closures on the one connection, in order; each changes all that it does, or nothing."""

    def __init__(self, path: Path, *, fs: Fs, new: bool = False) -> None:
        """Open the database and start the writer thread; ``new`` makes one that is not there."""
        self._path = path
        self._new = new
        self._fs = fs
        self._queue: queue.Queue[Job | Copy | None] = queue.Queue(maxsize=_QUEUE)
        self._closed = threading.Event()
        self._ended = False
        self._synced = True  # as _PRAGMAS left it
        self._copying = threading.Lock()
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
        undo: Callable[[], None] | None = None,
        alone: bool = False,
        synced: bool = True,
    ) -> _T:
        """Return what ``work`` returns, after its transaction is on the disk.

        ``after`` runs behind COMMIT, in the order of the closures, in the writer thread: memory
        that mirrors rows is changed there and nowhere else. A closure may see the rows of one
        before it whose ``after`` has not run; who mirrors rows keeps what it made of them
        meanwhile, and ``undo`` takes that back when they are rolled back after all. ``alone``: no
        closure shares the transaction, since what comes next needs what ``after`` changes. Not
        ``synced``: a kill keeps what it wrote, a power cut may take it back (ADR 0024).

        Raises what ``work`` raises, and then nothing is changed; Refused("busy") when the queue is
        full; Refused("no-room") when the disk is.
        """
        future: Future[_T] = Future()
        self._put(Job(work, future, after, undo, alone, synced))
        try:
            return future.result()
        finally:
            del future  # an error holds this frame; holding its future back would be a cycle

    def snapshot(self, target: Path) -> None:
        """Copy the database as it is when this returns; other work goes on between the pages.

        What is written meanwhile goes into the copy too, since the same connection writes it.

        Raises Refused("busy") while another copy is made, Refused("no-room") when it does not fit.
        """
        if not self._copying.acquire(blocking=False):
            raise Refused(
                "a copy of the database is being made already",
                why="one at a time",
                fix="wait until the other backup has ended",
                code="busy",
            )
        future: Future[None] = Future()
        try:
            self._put(Copy(target, future))
            future.result()
        finally:
            self._copying.release()

    def _put(self, job: Job | Copy) -> None:
        if self._closed.is_set():
            raise draining()
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            raise Refused(
                f"{_QUEUE} operations wait already",
                why="the coordinator is busier than its disk",
                fix="try again in a moment",
                code="busy",
            ) from None

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
            while not self._ended:
                self._take(connection, self._queue.get())
        while not self._queue.empty():  # raced with close
            job = self._queue.get()
            if isinstance(job, Job):
                job.error = draining()
                job.answer()
            elif job is not None:
                job.future.set_exception(draining())

    def _take(self, connection: sqlite3.Connection, first: Job | Copy | None) -> None:
        """Do one thing, and what waits behind it as far as it can share a transaction."""
        jobs: list[Job] = []
        following: Job | Copy | None = first
        while isinstance(following, Job):
            if following.alone and jobs:
                self._share(connection, jobs)
                jobs = []
            jobs.append(following)
            if following.alone or len(jobs) == _TOGETHER:
                break
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
        if jobs:
            self._share(connection, jobs)
        if following is None:  # close
            self._ended = True
        elif isinstance(following, Copy):
            self._snapshot(connection, following)

    def _snapshot(self, connection: sqlite3.Connection, job: Copy) -> None:
        try:
            self._copy(connection, job.target)
        except BaseException as error:  # noqa: BLE001  # handed to the asking thread
            job.target.unlink(missing_ok=True)
            job.future.set_exception(error)
        else:
            job.future.set_result(None)

    def _open(self) -> sqlite3.Connection:
        if self._path.exists() == self._new:
            raise _misplaced(self._path, self._new)
        connection = sqlite3.connect(self._path, isolation_level=None)
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")  # before the first look: no -shm
            found = self._check_format(connection)
            _set_up(connection, self._path)
            self._migrate(connection, found)
            # SQLite syncs the name of its log too, but goes on when that fails (F4).
            self._fs.sync_folder(self._path.parent)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_format(self, connection: sqlite3.Connection) -> int:
        """Return the database's format, 0 for a new one; refuse a foreign or newer one."""
        found, number = migrations.found_format(connection)
        if not self._new and (found != migrations.APPLICATION_ID or number > migrations.FORMAT):
            raise VerificationFailed(
                f"{self._path.name} has application id {found:#x} and format {number}",
                why=f"this program reads {migrations.APPLICATION_ID:#x}, formats 1 to"
                f" {migrations.FORMAT}",
                fix="start the program of the version that wrote it, or restore a backup",
                code="unknown-database",
            )
        return number

    def _migrate(self, connection: sqlite3.Connection, number: int) -> None:
        """Bring an older database to this version's format; what it was is kept beside it."""
        if self._new:
            self._path.chmod(0o600)
        elif number < migrations.FORMAT:
            kept = self._path.with_name(f"{self._path.stem}.format-{number}.db")
            self._copy(connection, kept)
        if number < migrations.FORMAT:
            migrations.migrate(connection)

    def _copy(self, connection: sqlite3.Connection, target: Path) -> None:
        """Write the copy durably, whole or not at all."""
        beside = target.with_name(f".{target.name}.tmp")
        beside.unlink(missing_ok=True)
        try:
            with contextlib.closing(sqlite3.connect(beside)) as copy:
                copy.execute("PRAGMA synchronous=OFF")  # synced once, below
                beside.chmod(0o600)
                connection.backup(copy, pages=_PAGES, progress=lambda *_: self._others(connection))
            self._fs.sync_file(beside)
            self._fs.rename(beside, target)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & _PRIMARY == sqlite3.SQLITE_FULL:
                raise no_room("a copy of the database does not fit") from error
            raise
        finally:
            beside.unlink(missing_ok=True)

    def _others(self, connection: sqlite3.Connection) -> None:
        """Do what came meanwhile, some of it, so that a copy keeps nobody waiting."""
        with contextlib.suppress(queue.Empty):
            self._take(connection, self._queue.get_nowait())

    def _share(self, connection: sqlite3.Connection, jobs: list[Job]) -> None:
        """Do the closures in one transaction; when that cannot be had, each in its own."""
        try:
            self._transact(connection, jobs)
        except BaseException as error:  # noqa: BLE001  # handed to the asking threads
            for job in reversed(jobs):
                job.forget()
            if len(jobs) > 1:  # a full disk refuses who needs room, and nobody else (F5)
                for job in jobs:
                    self._share(connection, [job])
                return
            jobs[0].error = error
        for job in jobs:
            job.answer()

    def _transact(self, connection: sqlite3.Connection, jobs: list[Job]) -> None:
        """Do the closures and COMMIT; raises when all of them were rolled back."""
        try:
            self._sync_if(connection, synced=any(job.synced for job in jobs))
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._work(connection, job)
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._judge(error)
            raise
        self._commit(connection)

    def _sync_if(self, connection: sqlite3.Connection, *, synced: bool) -> None:
        """Have the next COMMIT wait for the disk, or not."""
        if synced != self._synced:
            connection.execute(f"PRAGMA synchronous={_FULL if synced else _NORMAL}")
            self._synced = synced

    def _work(self, connection: sqlite3.Connection, job: Job) -> None:
        """Do one closure in a savepoint; an error of its own is its own."""
        connection.execute("SAVEPOINT one")
        try:
            job.result = job.work(connection)
            job.done = True
        except sqlite3.Error:
            raise  # of the disk, perhaps: nothing of this transaction may be kept
        except BaseException as error:  # noqa: BLE001  # handed to the asking thread
            connection.execute("ROLLBACK TO one")
            job.error = error
        connection.execute("RELEASE one")

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
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
            if code != sqlite3.SQLITE_FULL:
                self._fs.give_up("COMMIT failed", OSError(str(error)))
            if connection.in_transaction:  # a log that could not grow was rolled back already
                connection.execute("ROLLBACK")
            raise no_room("the database cannot grow") from error


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    for pragma, wanted in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}={wanted}")
        found = str(connection.execute(f"PRAGMA {pragma}").fetchone()[0])
        if found != wanted:
            raise OrthoFedError(
                f"SQLite has {pragma} = {found} for {path.name}, needed is {wanted}",
                why="with that a power cut could take what was acknowledged",
                fix="use a local disk, and a Python whose SQLite was built without other settings",
                code="unfit-database",
            )


def _misplaced(path: Path, new: bool) -> OrthoFedError:  # noqa: FBT001  # of one caller
    if new:
        what, fix = f"{path.name} is there already", "give a folder that does not exist yet"
    else:
        what, fix = f"{path.name} is missing", "put it back, or restore a backup"
    return VerificationFailed(
        what,
        why="a coordinator starts from its own database and from no other, empty ones least of all",
        fix=fix,
        code="database-misplaced",
    )


def draining() -> OrthoFedError:
    """Return the error for what comes while the coordinator stops."""
    return Unreachable(
        "the coordinator is stopping",
        why="its operator stops or restarts it",
        fix="try again in a moment",
        code="draining",
    )
