"""Reads an invite, or a share, from where secrets come from: a file, or the standard input.

Law: never from the command line, which every user of the machine can read while the command runs,
and which shells keep in a history. Source: security.md 3.
"""

import sys
from pathlib import Path

from ..core import invite
from ..core.errors import InputError
from ..core.secret_word import MOST_CHARACTERS
from . import share_text
from .share_text import ShareText

STDIN = "-"


def read_invite(where: str) -> str:
    """Return the text of the invite in the file ``where``, or on the standard input for ``-``.

    Raises InputError: it is the invite itself, or there is no such file.
    """
    return _read(where, "an invite", made_by="orthofed coordinator invite")


def read_share(where: str) -> ShareText:
    """Return the share in the file ``where``, or on the standard input for ``-``.

    Raises InputError: as above, or it is none.
    """
    return ShareText.from_text(_read(where, "a share", made_by="orthofed client share"))


def _read(where: str, what: str, *, made_by: str) -> str:
    if where.startswith((invite.PREFIX, share_text.PREFIX)):
        raise InputError(
            f"{what} among the arguments of a command",
            why="it is a secret, and every user of this machine can read a command's arguments",
            fix="save it in a file and give the file's name, or give - and paste it",
            code="secret-in-arguments",
        )
    if where == STDIN:
        return sys.stdin.read(MOST_CHARACTERS)
    try:
        with Path(where).open(encoding="utf-8") as file:
            return file.read(MOST_CHARACTERS)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{where} cannot be read as {what}",
            why="the option names the file that holds it",
            fix=f"give the file that `{made_by}` was written to, or -",
            code=f"{what.split()[1]}-unreadable",
        ) from error
