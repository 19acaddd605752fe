"""Who gave an order on this machine, as the system knows it.

A service's commands are mostly run by ``sudo -u orthofed``, and then the user says nothing. Linux
keeps who logged in (``/proc/PID/loginuid``), which no command can change; where it is known it
stands first.
"""

import pwd
from pathlib import Path

_NOBODY = 2**32 - 1
"""What Linux says of a process that no login started."""


def who_runs(process: int, uid: int) -> str:
    """Return the user of a process, and who logged in to become that user.

    ``anna as orthofed``, or ``orthofed`` where the login is not known or the same.
    """
    user = _name(uid)
    try:
        login = int(Path(f"/proc/{process}/loginuid").read_text("ascii"))
    except (OSError, ValueError):
        return user
    return user if login in (_NOBODY, uid) else f"{_name(login)} as {user}"


def _name(uid: int) -> str:
    """Return a user's name, or the number of one who has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
