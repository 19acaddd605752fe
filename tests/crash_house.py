"""A coordinator's house in this process that can be killed at any moment of a step.

A moment is the beginning or the end of each thing it asks of the disk (``Fs``), and each BEGIN and
COMMIT of its database. ``during`` counts them and, at the wished one, copies the folder as it then
is: what SIGKILL would leave. The step goes on, but nobody hears of it: ``killed`` throws that life
away and opens the copy. Clocks are the test's. The public files are written when ``house.heads`` is
told to and not by a thread, so that the same step has the same moments again.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from orthofed.coordinator.desk import Desk
from orthofed.coordinator.folder import DataFolder
from orthofed.coordinator.house import House
from orthofed.coordinator.removal import Removal
from orthofed.coordinator.service import Service

from .serving import FastFs


class HandClock:
    """Both clocks, moved by hand; the monotonic one starts below zero, as it may."""

    def __init__(self) -> None:
        self.wall = 1_790_000_000
        self.monotonic = -2_000.0

    def wall_s(self) -> int:
        return self.wall

    def monotonic_s(self) -> float:
        return self.monotonic


class _TellingFs(FastFs):
    """A disk that tells before and after each thing asked of it."""

    def __init__(self, moment) -> None:
        super().__init__()
        self._moment = moment
        self.linked_into: set[str] = set()

    @contextmanager
    def _told(self) -> Iterator[None]:
        self._moment()
        yield
        self._moment()

    def sync(self, fd, what):
        with self._told():
            super().sync(fd, what)

    def make_folder(self, folder, *, mode=0o755):
        with self._told():
            super().make_folder(folder, mode=mode)

    def create(self, path, flags, mode):
        with self._told():
            return super().create(path, flags, mode)

    def write(self, fd, data, *, offset=None):
        with self._told():
            super().write(fd, data, offset=offset)

    def reserve(self, fd, num_bytes):
        with self._told():
            super().reserve(fd, num_bytes)

    def link(self, source, target):
        self.linked_into.add(target.parent.name)
        with self._told():
            super().link(source, target)

    def rename(self, source, target):
        with self._told():
            super().rename(source, target)

    def remove(self, path):
        with self._told():
            super().remove(path)


class CrashHouse:
    """One coordinator's lives, one after the other."""

    def __init__(self, founded: Path, scratch: Path) -> None:
        """Open a copy of a founded folder."""
        self.clock = HandClock()
        self.fs = _TellingFs(self._moment)
        self._paths = (scratch / "one", scratch / "other")
        self._left = 0
        self._imaged = False
        self._fault: Exception | None = None
        self._life = ExitStack()
        for path in self._paths:
            shutil.copytree(founded, path)
        self._open()

    @contextmanager
    def during(self, moment: int) -> Iterator[None]:
        """Take the image at the ``moment``-th moment of the block, or never when it is 0."""
        self._left, self._imaged = moment, False
        try:
            yield
        finally:
            self._left = 0
            if self._fault is not None:
                raise self._fault

    @property
    def imaged(self) -> bool:
        """Whether the wished moment came."""
        return self._imaged

    def killed(self, *, start_moment: int = 0) -> None:
        """Go on from the image, or from now; the start may be killed too."""
        if not self._imaged:
            self._image()
        self._turn()
        with self.during(start_moment):
            self._open()
        if self._imaged:
            self._turn()
            self._open()

    def restarted(self) -> None:
        """Stop as SIGTERM does, and start."""
        self.house.heads.write()
        self.house.close()
        self._life.close()
        self._open()

    def close(self) -> None:
        """End this life cleanly."""
        self.house.heads.write()
        self.house.close()
        self._life.close()

    def _open(self) -> None:
        self.folder = DataFolder.open(self._paths[0])
        self._life = ExitStack()
        self._life.enter_context(self.folder.locked())
        self.house = House(self.folder, fs=self.fs, clock=self.clock)
        left, self._left = self._left, 0
        self.house.heads.close()  # its thread; from now on the test says when
        self.service, self.desk = Service(self.house), Desk(self.house)
        self.removal = Removal(self.house)
        self.house.store.run(lambda db: db.set_trace_callback(self._statement))
        self._left = left

    def _turn(self) -> None:
        """End this life without a word, and lay the image in its place."""
        self.house.store.close()
        self._life.close()
        self._paths = self._paths[::-1]

    def _statement(self, text: str) -> None:
        if text.startswith(("BEGIN", "COMMIT")):
            self._moment()

    def _moment(self) -> None:
        if self._left > 0:
            self._left -= 1
            if self._left == 0:
                try:
                    self._image()
                except OSError as error:
                    self._fault = error  # SQLite would swallow it

    def _image(self) -> None:
        self._imaged = True
        source, target = self._paths
        for name in ("public", "data/part", "data/snapshot"):
            shutil.rmtree(target / name, ignore_errors=True)
            shutil.copytree(source / name, target / name)
        for name in (".", "data"):
            for path in (target / name).iterdir():
                if path.is_file():
                    path.unlink()
            for path in (source / name).iterdir():
                if path.is_file():
                    shutil.copyfile(path, target / name / path.name)
        for name in self.fs.linked_into:  # 256 listings would take most of the test's time
            here, there = source / "data" / "blobs" / name, target / "data" / "blobs" / name
            kept = {path.name for path in here.iterdir()}
            known = {path.name for path in there.iterdir()}
            for spare in known - kept:
                (there / spare).unlink()
            for new in kept - known:
                shutil.copyfile(here / new, there / new)
