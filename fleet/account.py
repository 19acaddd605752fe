"""Whether this process may be a fleet process: under the owner's own account it may not.

Law: Flower delivers code, and what it delivers runs under the account of the fleet process. So that
account must not be the one that owns images, keys or the ledger (flower.md: third rule). The owner
of the socket that leads to them is whom we ask about; root owns everything.
"""

import os
from pathlib import Path

from ..core.errors import InputError


def refuse_the_owners_account(socket: Path, *, holds: str, allowed: bool) -> None:
    """Return if this account is another one than the owner's, or if ``allowed``.

    ``holds`` says what the owner's account can read. Raises InputError (owners-account).
    """
    there = next((each for each in (socket, *socket.parents) if _owner(each) is not None), None)
    uid = os.geteuid()
    if allowed or (uid != 0 and there is not None and _owner(there) != uid):
        return
    raise InputError(
        f"account {uid} owns {there}",
        why=f"code that the fleet engine delivers would run as this account, which reads {holds}",
        fix="run it as a locked account of its own, as in deploy/README.md, or add --same-account"
        f" where whoever operates the other side may read {holds}",
        code="owners-account",
    )


def _owner(path: Path) -> int | None:
    """Return the account that owns ``path``, None if it cannot be seen."""
    try:
        return path.stat().st_uid
    except OSError:
        return None
