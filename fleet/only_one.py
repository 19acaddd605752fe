"""One supervisor a folder: two would start two runs."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import InputError


@contextmanager
def only_one(folder: Path) -> Generator[None]:
    """Hold ``folder`` for this process.

    Raises InputError (fleet-in-use): another process holds it.
    """
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder} is in use by another fleet process",
                why="two supervisors would start everything twice",
                fix="end the other one, or give this one a folder of its own",
                code="fleet-in-use",
            ) from None
        yield
    finally:
        os.close(handle)
