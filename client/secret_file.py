"""A secret at rest: one file that its owner alone can read, or it is refused.

Law: as ssh does it, a key that others can read is not used, and the error says the command that
closes it; a secret is never part of an error (T27). Source: security.md 3.
"""

import stat
from pathlib import Path

from ..core.errors import InputError


def read_secret(path: Path, *, why: str, code: str) -> bytes:
    """Return the file's bytes.

    ``why`` says what a reader of it could do. Raises InputError: it is missing (``-missing`` after
    ``code``), too large, or open to others (``-open``).
    """
    if not path.is_file():
        raise InputError(
            f"{path} is missing",
            why="a secret is read from its file and from nowhere else",
            fix="give the path of the file, or restore it from your backup",
            code=f"{code}-missing",
        )
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise InputError(
            f"{path} has mode {mode:04o}, allowed is 0600",
            why=why,
            fix=f"run chmod 600 {path}",
            code=f"{code}-open",
        )
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)


_MOST_BYTES = 16 << 10
"""The largest secret is an invite; a longer file is another one, and its own reader says so."""
