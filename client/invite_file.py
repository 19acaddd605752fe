"""Reads an invite from where secrets come from: a file, or the standard input.

Law: never from the command line, which every user of the machine can read while the command runs,
and which shells keep in a history. Source: security.md 3.
"""

import sys
from pathlib import Path

from ..core.errors import InputError

_MOST_CHARACTERS = 16 << 10
STDIN = "-"


def read_invite(where: str) -> str:
    """Return the text of the invite in the file ``where``, or on the standard input for ``-``.

    Raises InputError: it is the invite itself, or there is no such file.
    """
    if where.startswith("ofi1:"):
        raise InputError(
            "an invite among the arguments of a command",
            why="it is a secret, and every user of this machine can read a command's arguments",
            fix="save it in a file and give the file's name, or give - and paste it",
            code="secret-in-arguments",
        )
    if where == STDIN:
        return sys.stdin.read(_MOST_CHARACTERS)
    try:
        with Path(where).open(encoding="utf-8") as file:
            return file.read(_MOST_CHARACTERS)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{where} cannot be read as an invite",
            why="the option names the file that holds it",
            fix="give the file that `orthofed coordinator invite` was written to, or -",
            code="invite-unreadable",
        ) from error
