"""Which files this process opens, makes, renames or removes while a block runs.

Python tells an audit hook before each of these; a hook stays for ever, so one is set and listens
only inside ``opened()``. Calls that libraries make below Python (SQLite's) are not seen.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_EVENTS = {
    "open": 1,
    "os.listdir": 1,
    "os.mkdir": 1,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.truncate": 1,
    "os.scandir": 1,
    "os.rename": 2,
    "os.link": 2,
    "os.symlink": 2,
}
_lists: list[list[str]] = []
_lock = threading.Lock()


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if _lists and (num := _EVENTS.get(event)):
        paths = [
            os.fsdecode(a) for a in arguments[:num] if isinstance(a, str | bytes | os.PathLike)
        ]
        for heard in _lists:
            heard.extend(paths)


@contextmanager
def opened() -> Iterator[list[str]]:
    """Give the list that fills with every path used until the block ends."""
    with _lock:
        if not getattr(sys, "_orthofed_tests_hear", False):
            sys.addaudithook(_hear)
            sys._orthofed_tests_hear = True  # type: ignore[attr-defined]  # once a process
    heard: list[str] = []
    _lists.append(heard)
    try:
        yield heard
    finally:
        _lists.remove(heard)


def outside(paths: list[str], *roots: Path) -> set[str]:
    """Return the paths that lead out of all of ``roots`` and of Python's own files."""
    own = [*(str(root.resolve()) for root in roots), sys.prefix, sys.base_prefix, "/dev/", "/proc/"]
    found = {os.path.realpath(path) for path in paths if "\0" not in path}
    return {path for path in found if not path.startswith(tuple(own))}
