"""Keeps the C library's allocator from spreading over many arenas.

gRPC's threads and ours take a chunk's bytes in one thread and free them in another; glibc gives up
to eight arenas a core, each of which keeps what it once needed. With two, the peak of a coordinator
under load is a sixth lower (docs/log.md), and no slower. Elsewhere than on glibc nothing is done.
"""

import ctypes
import platform

_M_ARENA_MAX = -8


def few_arenas(num: int = 2) -> None:
    """Have at most ``num`` arenas from now on; call it before there are threads."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, num)
