"""Where a benchmark ran: what every results file says beside its figures."""

import platform
import subprocess
from pathlib import Path


def commit() -> str:
    """Return the checkout's commit, with ``-dirty`` when files differ from it."""
    command = ["git", "describe", "--always", "--dirty"]
    folder = Path(__file__).parent
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def hardware() -> str:
    """Return the processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
