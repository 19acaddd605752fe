"""Ties a program to the process that starts it: Linux ends it when that one dies, however it died.

``leashed(argv)`` is the command line that does so; run as a program, this file asks the kernel for
the signal and becomes the program. Law: no Flower process outlives its supervisor, SIGKILL
included. Elsewhere than on Linux the supervisor's own clean end and the service manager do it.
"""

import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def leashed(argv: Sequence[str]) -> list[str]:
    """Return the command line of ``argv``, tied to this process."""
    return [sys.executable, "-P", "-m", __name__, str(os.getpid()), *argv]


def _main() -> None:
    """Ask for the signal, see that nobody died meanwhile, and become the program."""
    parent, argv = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415  # only Linux needs it

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(argv[0], argv)  # noqa: S606  # the point of this file


if __name__ == "__main__":
    _main()
