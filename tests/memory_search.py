"""Looks for planted bytes in a process of ours and in its folder: what it holds, what it stored."""

import re
from collections.abc import Iterable
from pathlib import Path

_PIECE = 16 << 20
_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (r\S+) \S+ \S+ \S+ *(.*)")


def in_memory(pid: int, planted: Iterable[bytes]) -> set[bytes]:
    """Return what of ``planted`` lies anywhere in the readable memory of a process."""
    wanted, found = set(planted), set[bytes]()
    longest = max(map(len, wanted))
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for start, end in _regions(pid):
            tail = b""
            for at in range(start, end, _PIECE):
                try:
                    memory.seek(at)
                    data = tail + memory.read(min(_PIECE, end - at))
                except (OSError, OverflowError):  # a page of the kernel's own
                    break
                found |= {each for each in wanted - found if each in data}
                tail = data[-longest:]
    return found


def in_files(folder: Path, planted: Iterable[bytes]) -> set[bytes]:
    """Return what of ``planted`` lies in any file below ``folder``."""
    wanted, found = set(planted), set[bytes]()
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found |= {each for each in wanted - found if each in data}
    return found


def _regions(pid: int) -> Iterable[tuple[int, int]]:
    """Yield the readable parts of the address space that no file fills."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        match = _LINE.match(line)
        if match and not match[4].startswith(("/usr", "/lib", "[v")):
            yield int(match[1], 16), int(match[2], 16)
