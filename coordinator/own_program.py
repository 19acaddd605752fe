"""Runs a command of ours that needs torch, as a process of its own: the coordinator loads none.

Law: what the process has to say goes to stderr, where the operator sees it; its files are the
caller's to check.
"""

import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from ..core.errors import OrthoFedError

_PROGRAM: Final = "from orthofed.__main__ import main; main()"


def run_own(words: Sequence[str], *, doing: str, otherwise: str, code: str) -> None:
    """Run ``orthofed`` with ``words`` to its end.

    ``doing`` and ``otherwise`` are for the error: what failed, and how to go on without it. Raises
    OrthoFedError with ``code``: the process failed, having told why on stderr.
    """
    command = [sys.executable, "-P", "-c", _PROGRAM, *words]
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)  # noqa: S603  # our own program
    if ended.returncode:
        raise OrthoFedError(
            f"{doing} ended with exit code {ended.returncode}",
            why=f"orthofed {words[0]} told it above; it needs torch, which this does not",
            fix=f"install orthofed[client] here, or {otherwise}",
            code=code,
        )
