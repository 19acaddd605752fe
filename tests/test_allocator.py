"""The allocator of the process that serves has two arenas, however many threads it has."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator only")

SCRIPT = """
import ctypes, sys, threading
from orthofed.coordinator.allocator import few_arenas

if sys.argv[2] == "few":
    few_arenas()
together = threading.Barrier(8)
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p

def allocate():
    together.wait()
    for _ in range(200):
        libc.malloc(4000)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


def test_eight_threads_share_two_arenas(tmp_path: Path) -> None:
    """Counted by the allocator itself; without the call there are more."""
    assert arenas(tmp_path, "few") <= 2
    assert arenas(tmp_path, "many") > 2


def arenas(folder: Path, how: str) -> int:
    told = folder / f"{how}.xml"
    subprocess.run([sys.executable, "-P", "-c", SCRIPT, str(told), how], check=True)
    return told.read_text().count("<heap nr=")
