"""A folder in which a page's `make` runs as in a checkout, without building its environment.

`.venv` there is this environment by links, and marked as newer than what it is built from, so that
the page's own command, unchanged, goes straight to what its target does.
"""

import sys
from pathlib import Path


def ready_to_make(folder: Path) -> Path:
    """Make ``.venv`` in ``folder``; the caller gives the checkout's files. Return ``folder``."""
    place = folder / ".venv"
    place.mkdir()
    for each in Path(sys.prefix).iterdir():
        if each.name != ".installed":
            (place / each.name).symlink_to(each)
    (place / ".installed").touch()
    return folder
