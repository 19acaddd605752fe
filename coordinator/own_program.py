"""Runs a command of ours as a process of its own, such as one that needs torch, which we load not.

Laws: it is started as a person would, so that an error is three lines and its own exit code; what
the process has to say goes to stderr, where the operator sees it; its files are the caller's to
check.
"""

import subprocess
import sys
from collections.abc import Sequence

from ..core.errors import OrthoFedError


def own_command(words: Sequence[str]) -> list[str]:
    """Return the command line that runs ``orthofed`` with ``words`` by this very program."""
    return [sys.executable, "-P", "-m", "orthofed", *words]


def run_own(words: Sequence[str], *, doing: str, otherwise: str, code: str) -> None:
    """Run ``orthofed`` with ``words`` to its end.

    ``doing`` and ``otherwise`` are for the error: what failed, and how to go on without it. Raises
    OrthoFedError with ``code``: the process failed, having told why on stderr.
    """
    ended = subprocess.run(own_command(words), stdout=subprocess.DEVNULL, check=False)  # noqa: S603  # our own program
    if ended.returncode:
        raise OrthoFedError(
            f"{doing} ended with exit code {ended.returncode}",
            why=f"orthofed {words[0]} told it above; it needs torch, which this does not",
            fix=f"install orthofed[client] here, or {otherwise}",
            code=code,
        )
