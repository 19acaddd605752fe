"""A coordinator's folder in the making: beside its place, and renamed into it when it is whole.

Laws: whoever is killed leaves nothing that looks finished; whoever fails leaves nothing at all,
since private keys lie in it. What would make the rename fail is refused before the work.
Not here: what is written (founding.py, restore.py).
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import InputError
from .fs import Fs


def free_place(root: Path, *, why: str, fix: str) -> Path:
    """Return where the folder will lie, by its real name; it is absent or empty.

    ``why`` and ``fix`` are for the error where it is not empty. Raises InputError.
    """
    place = root.resolve()
    mount = os.path.ismount(place)
    own = {"lost+found"} if mount else set[str]()  # a new ext4 has it
    if place.exists() and (not place.is_dir() or {each.name for each in place.iterdir()} - own):
        raise InputError(f"{root} is not empty", why=why, fix=fix, code="folder-not-empty")
    if mount:
        raise InputError(
            f"{root} is a mount point",
            why="the folder is made beside its place and renamed into it, which a mount is not for",
            fix=f"give a folder in it, such as {root / 'federation'}",
            code="mount-point",
        )
    return place


@contextmanager
def new_folder(place: Path, doing: str, *, fs: Fs) -> Iterator[Path]:
    """Give an empty folder, for its owner alone, that takes ``place`` when the block ends.

    ``doing``: ends its name until then. Where the block fails it is removed.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    building = place.parent / f".{place.name}.{doing}"
    if building.exists():
        shutil.rmtree(building)
    building.mkdir(mode=0o700)
    try:
        yield building
        fs.rename(building, place)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
