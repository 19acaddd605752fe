"""Attaches strace to a running coordinator: to see its system calls, or to make one of them fail.

strace counts the calls of each thread by itself, so one thread is traced at a time where a fault
has to hit one call exactly. It is a Debian package (``apt-get install strace``) and needs the right
to trace, which containers may withhold; ``missing`` says which of the two is the reason.
"""

import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(r"^(\d+)\s+(\w+)\((.*)$")


@functools.cache
def missing() -> str:
    """Return why strace cannot be used here, or nothing."""
    if shutil.which("strace") is None:
        return "strace is not installed (apt-get install strace)"
    code = "import time; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as sleeper:
        assert sleeper.stdout is not None
        sleeper.stdout.readline()
        command = ["timeout", "3", "strace", "-q", "-p", str(sleeper.pid), "-e", "trace=close"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        sleeper.kill()
    refused = "not permitted" in done.stderr or "ptrace" in done.stderr
    return f"this machine allows no tracing: {done.stderr.strip()}" if refused else ""


@contextmanager
def traced(pid: int, output: Path, *options: str) -> Iterator[None]:
    """Trace until the block ends; what strace writes is whole afterwards."""
    command = ["strace", "-o", str(output), *options, "-p", str(pid)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    told = process.stderr.readline()
    assert "attached" in told, told
    try:
        yield
    finally:
        process.terminate()
        process.communicate()


@dataclass(frozen=True)
class Call:
    """One system call as it began: the thread, its name, and its arguments as strace shows them."""

    thread: int
    name: str
    arguments: str


def calls(output: Path) -> list[Call]:
    """Return the calls of a trace made with ``-f``, in the order in which they began."""
    found = (_LINE.match(line) for line in output.read_text("latin-1").splitlines())
    return [Call(int(m[1]), m[2], m[3]) for m in found if m is not None]
