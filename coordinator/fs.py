"""What the coordinator asks of the disk, so that a test can make the disk full or broken.

Laws (reliability.md 2.3): a file appears whole or not at all (F1: write beside, fsync, rename,
fsync the folder); a new folder is followed by an fsync of its parent (F2); a failed fsync, or EIO,
ends the process, since what reached the disk is unknown and only a fresh start may look (F4); no
room is an ordinary error (F5). Nothing here knows what the files mean.
"""

import errno
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from ..core.errors import Refused

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PIECE = 1 << 20
_F_FULLFSYNC = 51  # macOS: fsync alone leaves the bytes in the drive's cache (F6)


def no_room(what: str) -> Refused:
    """Return the error for a write that the disk has no room for."""
    return Refused(
        what,
        why="the coordinator keeps some space free, so that what it promised stays safe",
        fix="try again later, or ask the operator for more room",
        code="no-room",
    )


class Fs:
    """The local disk; ``reserve_bytes`` is what no upload and no release may eat into."""

    def __init__(self, *, reserve_bytes: int = 0) -> None:
        """Keep the reserve."""
        self.reserve_bytes = reserve_bytes

    def give_up(self, what: str, error: OSError) -> NoReturn:
        """End the process: what reached the disk is unknown (F4)."""
        sys.stderr.write(f"fatal: {what}: {error}; start again, nothing acknowledged is lost\n")
        sys.stderr.flush()
        os._exit(1)

    def free_bytes(self, path: Path) -> int:
        """Return the bytes that may still be written on the disk of ``path``."""
        return shutil.disk_usage(path).free - self.reserve_bytes

    def sync(self, fd: int, what: str) -> None:
        """Have the file's bytes on the disk, or end the process."""
        try:
            if sys.platform == "darwin":
                fcntl.fcntl(fd, _F_FULLFSYNC)
            else:
                os.fsync(fd)
        except OSError as error:
            self.give_up(f"fsync of {what} failed", error)

    def sync_file(self, path: Path) -> None:
        """Have a file that somebody else wrote on the disk, or end the process."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.sync(fd, path.name)
        finally:
            os.close(fd)

    def sync_folder(self, folder: Path) -> None:
        """Have the folder's names on the disk, or end the process."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sync(fd, str(folder))
        finally:
            os.close(fd)

    def make_folder(self, folder: Path, *, mode: int = 0o755) -> None:
        """Make one folder durably, if it is not there (F2).

        The parent is synced either way: who made the folder may have been killed before that.
        """
        with self._judged(f"{folder.name} cannot be made"):
            try:
                folder.mkdir(mode=mode)
            except FileExistsError:
                if not folder.is_dir():
                    raise
        self.sync_folder(folder.parent)

    def write_whole(self, path: Path, data: bytes, *, mode: int = 0o644) -> None:
        """Write the file durably: whole or not at all (F1)."""
        with self._judged(f"{path.name} cannot be written"):
            fd, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        try:
            try:
                self.write(fd, data)
                os.fchmod(fd, mode)
                self.sync(fd, path.name)
            finally:
                os.close(fd)
            self.rename(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def create(self, path: Path, flags: int, mode: int) -> int:
        """Open a file that may have to be made: a name takes room too (F5)."""
        with self._judged(f"{path.name} cannot be made"):
            return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, mode)

    def write(self, fd: int, data: bytes | memoryview, *, offset: int | None = None) -> None:
        """Write all of ``data``; raise Refused("no-room") when the disk is full (F5)."""
        view, at = memoryview(data), offset
        try:
            while view:
                done = os.write(fd, view) if at is None else os.pwrite(fd, view, at)
                view, at = view[done:], None if at is None else at + done
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise no_room(f"{len(data)} bytes do not fit on the disk") from error
            self.give_up("a write failed", error)

    def copy(self, source: Path, target: Path) -> None:
        """Copy a file's bytes durably to a new name; its folder is for the caller to sync."""
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with source.open("rb") as file:
                while piece := file.read(_PIECE):
                    self.write(fd, piece)
            self.sync(fd, target.name)
        finally:
            os.close(fd)

    def reserve(self, fd: int, num_bytes: int) -> None:
        """Make the file ``num_bytes`` long with room for each of them; raise Refused (T19)."""
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, num_bytes)
            os.ftruncate(fd, num_bytes)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise no_room(f"{num_bytes} bytes do not fit on the disk") from error
            self.give_up("reserving room failed", error)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name on the same disk, then sync that name's folder."""
        self.link_unsynced(source, target)
        self.sync_folder(target.parent)

    def link_unsynced(self, source: Path, target: Path) -> None:
        """Give a file a second name on the same disk; its folder is for the caller to sync."""
        with self._judged(f"{target.name} cannot be linked"):
            os.link(source, target)

    def rename(self, source: Path, target: Path) -> None:
        """Move within one disk, then sync the target's folder."""
        with self._judged(f"{target.name} cannot be renamed"):
            source.replace(target)
        self.sync_folder(target.parent)

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there; its absence need not survive a power cut."""
        with self._judged(f"{path.name} cannot be removed"):
            path.unlink(missing_ok=True)

    def remove_temporaries(self, folder: Path) -> None:
        """Remove what ``write_whole`` left in a folder when the process was killed."""
        for path in folder.glob(".*.tmp"):
            if path.is_file():
                self.remove(path)

    def lock_file(self, path: Path) -> int:
        """Open a lock's file, made where it is not; raises Refused ``no-room``: no room for it."""
        with self._judged(f"{path.name} cannot be made"):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def alone(self, folder: Path) -> Iterator[None]:
        """Have a folder that is written for others until the block ends.

        Where the disk knows no locks of folders, as some network ones, nobody is kept out. Raises
        Refused ``folder-in-use``: another process writes there.
        """
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Refused(
                    f"{folder} is being written by another process",
                    why="two at once would take each other's files away",
                    fix="wait until that command has ended, then run this one again",
                    code="folder-in-use",
                ) from error
            except OSError as error:
                if error.errno not in (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):
                    raise
            yield
        finally:
            os.close(fd)

    @contextmanager
    def _judged(self, what: str) -> Iterator[None]:
        """Turn a full disk into a refusal (F5), and end the process on a failing one (F4)."""
        try:
            yield
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise no_room(what) from error
            if error.errno == errno.EIO:
                self.give_up(what, error)
            raise
