"""A corrective round at home: a concept that was sent is trained further, in its own slot.

    home/runs/<concept>/                  the round: session, saves, then what is packed and sent
    home/runs/<concept>/replaced-<leaf>/  session, blob, manifest, receipt of what it goes on from
    home/runs/<concept>/against/          what the round reads of a release; goes with the receipt

Laws: what the round goes on from is whole in its folder before anything of the round is saved, so a
kill at any instruction costs nothing but another run; until the round's contribution has its
receipt the earlier one is what stands, and who withdraws gives the round up first. Not here: the
training (corrective_ground.py), the lease and the upload, which are those of any contribution.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from ..core.errors import InputError
from .home import sync_folder, write_whole
from .session import Session
from .state import ASKED, BLOB, MANIFEST, RECEIPT, load, save

AGAINST: Final = "against"
"""The folder of what is read of the release."""
CORRECTING: Final = "correcting"
"""What the phase of a concept is called while a round of it is not in the ledger."""
_FILES: Final = (BLOB, MANIFEST, RECEIPT)
_UNSENT: Final = frozenset({"joined", "leased", "trained", "packed", "approved"})


def begin(folder: Path, old: Session, *, leaf: int, release: int, fresh: Session) -> Session:
    """Keep ``old``, whose contribution is ``leaf``, aside, and save the round as ``fresh``.

    ``release``: the number of the one that it is trained against.
    """
    aside = folder / f"replaced-{leaf}"
    aside.mkdir(exist_ok=True)
    for name in _FILES:
        if not (aside / name).exists():
            os.link(folder / name, aside / name)
    if (folder / ASKED).exists() and not (aside / ASKED).exists():
        os.link(folder / ASKED, aside / ASKED)
    sync_folder(aside)
    save(aside, old)
    sync_folder(folder)
    begun = replace(fresh, replaces=leaf, release=release)
    save(folder, begun)
    return begun


def replaced(folder: Path, session: Session) -> tuple[Path, Session]:
    """Return folder and session of what the round ``session`` goes on from.

    Raises InputError: it is not there any more.
    """
    aside = folder / f"replaced-{session.replaces}"
    old = load(aside)
    if old is None:
        raise InputError(
            f"{aside} is gone",
            why="a corrective round goes on from the contribution that was kept there",
            fix="restore it from a backup of the home",
            code="replaced-missing",
        )
    return aside, old


def is_unsent(session: Session) -> bool:
    """Return whether a corrective round is under way and its contribution has no receipt yet."""
    return session.replaces >= 0 and session.phase in _UNSENT


def standing(folder: Path) -> tuple[Path, Session | None]:
    """Return folder and session of what stands of a concept: not that of a round under way."""
    session = load(folder)
    if session is None or not is_unsent(session):
        return folder, session
    return replaced(folder, session)


def give_up(folder: Path, session: Session) -> Session:
    """Put back what the round goes on from, as if it had not begun; return its session."""
    aside, old = replaced(folder, session)
    # Promises no file: a kill below leaves a round that begins anew, and that can be given up.
    save(folder, replace(session, phase="joined", blob="", document=""))
    for name in _FILES:
        write_whole(folder / name, (aside / name).read_bytes())
    if (aside / ASKED).exists():
        write_whole(folder / ASKED, (aside / ASKED).read_bytes())
    save(folder, old)
    return old
