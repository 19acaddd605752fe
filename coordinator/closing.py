"""The sum of a database that was closed: SHA-256 and length, while no coordinator runs.

Laws: it is written after the last close and removed before the next open, so where it stands it is
the whole file's, down to bytes that no row and no check reads; a kill leaves none, and then only
the rows can be checked. Whatever opens the database compares first, a command beside a stopped
coordinator too, or it would sign for a change that is not its own. Source: reliability.md 2.7, R16.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

from ..core.errors import Refused, VerificationFailed
from .folder import DataFolder
from .fs import Fs


def write_sum(folder: DataFolder, *, fs: Fs) -> None:
    """Write the sum of the database, which nobody has open; without room there is none."""
    data = json.dumps(_sum(folder)).encode() + b"\n"
    try:
        fs.write_whole(folder.database_sum, data, mode=0o600)
    except Refused as error:
        if error.code != "no-room":
            raise


def forget_sum(folder: DataFolder, *, fs: Fs) -> None:
    """Remove the sum: the database is about to change."""
    fs.remove(folder.database_sum)
    fs.sync_folder(folder.data)


@contextmanager
def opening(folder: DataFolder, *, fs: Fs) -> Iterator[None]:
    """Compare and remove the sum around what opens the database; write it anew where that fails.

    A start that was refused has ended, so all that differs then is its own, such as a new format.
    Who fails has closed the database. Raises VerificationFailed ``database-changed``.
    """
    check_sum(folder)
    was_known = folder.database_sum.is_file()
    forget_sum(folder, fs=fs)
    try:
        yield
    except BaseException:
        if was_known:
            write_sum(folder, fs=fs)
        raise


def sum_fault(folder: DataFolder) -> str:
    """Say how the closed database differs from its sum; empty when it does not, or has none."""
    try:
        wanted = json.loads(folder.database_sum.read_bytes())
    except FileNotFoundError:
        return ""
    except ValueError:
        return "its sum, data/state.sum, cannot be read"
    if wanted == _sum(folder):
        return ""
    return "is not what it was when the coordinator ended: its SHA-256 differs"


def check_sum(folder: DataFolder) -> None:
    """Refuse a database that somebody, or a disk, changed since the coordinator ended.

    Cost: the file is read once. Raises VerificationFailed ``database-changed``.
    """
    fault = sum_fault(folder)
    if fault:
        raise VerificationFailed(
            f"{folder.database} {fault}",
            why="whatever changed it, this coordinator did not, and would sign what it now says",
            fix="orthofed doctor says what is wrong; restore a backup, or, if you changed it"
            f" yourself and know why, remove {folder.database_sum} and start again",
            code="database-changed",
        )


def _sum(folder: DataFolder) -> dict[str, object]:
    with folder.database.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": folder.database.stat().st_size, "sha256": digest}
