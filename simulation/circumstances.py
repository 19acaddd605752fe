"""Where and on what a measurement ran: what every results file says beside its figures.

Law: the commit is that of the checkout that holds this package, and of no other repository that it
may be installed in: an installed package has none.
"""

import datetime as dt
import platform
import subprocess
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def circumstances() -> dict[str, str]:
    """Return ``date`` (UTC), ``commit`` and ``hardware``."""
    today = dt.datetime.now(dt.UTC).date().isoformat()
    return {"date": today, "commit": commit(), "hardware": hardware()}


def commit() -> str:
    """Return the checkout's commit, with ``-dirty`` when files differ from it."""
    if not (_ROOT / ".git").exists():
        return "unknown"
    command = ["git", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(  # noqa: S603  # one command, no shell
            command, cwd=_ROOT, capture_output=True, text=True, check=False
        )
    except OSError:  # a machine without git
        return "unknown"
    return found.stdout.strip() or "unknown"


def hardware() -> str:
    """Return the processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
