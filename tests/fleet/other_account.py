"""A command as an account of its own, which owns nothing, as the courier's unit starts it.

Needs root, to become somebody else. Where this Python lies in a folder that is closed to others
(a root's home), the command sees that folder anew, with nothing but the Python in it: as a system's
own Python would lie. Everything else is where it is for everybody.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ACCOUNT = 61_584
"""Its number; it needs no name."""
NEEDS_ROOT = pytest.mark.skipif(
    sys.platform != "linux"
    or os.geteuid() != 0
    or not all(shutil.which(each) for each in ("unshare", "setpriv"))
    or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0,
    reason="another account needs root, unshare and setpriv on Linux",
)
_SEEN_ANEW = """
set -eu
kept=$1 closed=$2 python=$3; shift 3
if [ -n "$closed" ]; then
    mount --bind "$python" "$kept"
    mount -t tmpfs -o mode=755 none "$closed"
    mkdir -p "$python"
    mount --bind "$kept" "$python"
fi
exec "$@"
"""


def as_account(argv: list[str], *, kept: Path) -> list[str]:
    """Return ``argv`` as `ACCOUNT` runs it; ``kept`` is an empty folder that mounts may use."""
    python = Path(sys.base_prefix).resolve()
    closed = next((each for each in reversed(python.parents) if not each.stat().st_mode & 1), "")
    who = ("--reuid", str(ACCOUNT), "--regid", str(ACCOUNT), "--clear-groups", "--no-new-privs")
    privileges = ["setpriv", *who, "--bounding-set", "-all", *argv]
    seen = [str(kept), str(closed), str(python)]
    return ["unshare", "-m", "/bin/sh", "-c", _SEEN_ANEW, "sh", *seen, *privileges]
