"""Fetches files in chunks, several at once, from one origin or from several that have the same.

    workers      take the next chunk of any file, in order; what an earlier process left of it is
                 hashed, the rest is asked for; a chunk counts when its hash is the signed one
    this thread  follows behind in order, hashes each whole file, and hands it over

Laws: bytes are hashed as they arrive and only hashed bytes are handed over; a wrong chunk (16 MiB
of a release's file, the whole of a contribution's blob) is thrown away and fetched once more,
alone, then from the next origin; the last origin's second wrong answer ends the download. Origins
but the last are mirrors: one that fails three times is left alone. What was written is never asked
for again (part_file.py), except of a last origin without ranges (read_through.py).
Source: reliability.md R17; T16. Cost: one piece of memory a worker; one hash a byte in the workers,
and one behind them where a file has several chunks.
"""

import contextlib
import hashlib
import queue
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Final

from ..core.errors import OrthoFedError, Refused, Unreachable, VerificationFailed
from .chunk import Chunk
from .origin import NoRanges, Origin, Wanted
from .part_file import PartFile
from .read_through import read_through

STREAMS: Final = 8
_TRIES: Final = 2
_FAULTS: Final = 3
_JOIN_S: Final = 5.0

OnBytes = Callable[[str, int, int], None]


class _Stopped(Exception):  # not an error: the workers' sign to end
    """The download ends."""


class _File:
    """One file on its way."""

    def __init__(self, part: PartFile, tell: Callable[[str, int], None]) -> None:
        name = part.wanted.entry.name
        self.part = part
        self.chunks = tuple(
            Chunk(part, index, lambda more: tell(name, more))
            for index in range(len(part.wanted.entry.chunks))
        )
        self.through = threading.Lock()  # one way through it at a time


class Download:
    """Some files on their way; ``on_bytes(name, done, total)`` hears the progress.

    ``fetched_bytes``: what the origins gave so far, also what was thrown away.
    """

    def __init__(self, origins: Sequence[Origin], parts: Path, on_bytes: OnBytes) -> None:
        """Prepare to fetch into the folder ``parts``; the last of ``origins`` is asked last."""
        self.fetched_bytes = 0
        self._origins = tuple(origins)
        self._parts = parts
        self._on_bytes = on_bytes
        self._faults = Counter[int]()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._done = 0
        self._total = 0

    def run(self, wanted: Sequence[Wanted], arrived: Callable[[Wanted, Path], None]) -> None:
        """Fetch all of ``wanted``; ``arrived`` gets each whole part, synced, in that order.

        Raises VerificationFailed: no origin has the bytes that were signed. Raises Refused,
        Unreachable: the last origin does not give them. Raises OrthoFedError (disk-full).
        """
        self._total = sum(each.entry.bytes for each in wanted)
        files = [
            _File(PartFile(each, self._parts / each.entry.sha256), self._tell) for each in wanted
        ]
        waiting: queue.SimpleQueue[tuple[_File, Chunk]] = queue.SimpleQueue()
        for file in files:
            for chunk in file.chunks:
                waiting.put((file, chunk))
        num = min(waiting.qsize(), STREAMS, sum(origin.streams for origin in self._origins))
        workers = [
            threading.Thread(target=self._work, args=(waiting, turn), daemon=True)
            for turn in range(num)
        ]
        for worker in workers:
            worker.start()
        try:
            for file in files:
                self._follow(file)
                arrived(file.part.wanted, file.part.path)
        finally:
            self._stop.set()
            for worker in workers:  # daemons: one that waits for a dead line is left behind
                worker.join(_JOIN_S)
            for file in files:
                if not any(worker.is_alive() for worker in workers):
                    file.part.close()

    def _follow(self, file: _File) -> None:
        """Wait for the chunks of one file in order, hashing the whole behind them."""
        part, entry, whole = file.part, file.part.wanted.entry, hashlib.sha256()
        for chunk in file.chunks:
            while not chunk.done.wait(1.0):
                pass  # a wait without end would not hear Ctrl-C on every system
            if chunk.error is not None:
                raise chunk.error
            if len(file.chunks) > 1:  # else the chunk's hash was the whole's
                for piece in part.pieces(chunk.index, chunk.end - chunk.start):
                    whole.update(piece)
        found = whole.hexdigest() if len(file.chunks) != 1 else entry.chunks[0]
        if found != entry.sha256:
            part.remove()
            raise part.wanted.wrong("its chunks are right and the whole is not")
        part.finish()

    def _work(self, waiting: "queue.SimpleQueue[tuple[_File, Chunk]]", turn: int) -> None:
        while not self._stop.is_set():
            try:
                file, chunk = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._fetch(file, chunk, turn)
            except BaseException as error:  # noqa: BLE001  # raised again by the thread that waits
                chunk.error = error
                chunk.done.set()
                return

    def _fetch(self, file: _File, chunk: Chunk, turn: int) -> None:
        """Make one chunk whole: from the disk, as far as it is there, then from an origin."""
        with chunk.lock:
            if chunk.done.is_set():  # a way through its file met it
                return
            chunk.begin()
            last = self._from_ranges(chunk, turn)
        if not isinstance(last, NoRanges):
            if last is not None:
                raise last
            return
        with file.through:  # the last origin has no ranges
            if not chunk.done.is_set():
                self._through(file)

    def _through(self, file: _File) -> None:
        origin = self._origins[-1]
        try:
            read_through(file.chunks, lambda *asked: self._asked(origin, *asked))
        except BaseException as error:
            for chunk in file.chunks:  # else each of them would try that way anew
                if not chunk.done.is_set():
                    chunk.error = error
                    chunk.done.set()
            raise

    def _from_ranges(self, chunk: Chunk, turn: int) -> OrthoFedError | None:
        """Ask one origin after the other; return the last one's error, None once it is whole."""
        last: OrthoFedError = _nobody(chunk.part.wanted)
        for origin in self._tries(turn):
            alone = chunk.filled == 0
            try:
                offset = chunk.start + chunk.filled
                for data in self._asked(origin, chunk.part.wanted, offset, chunk.left):
                    chunk.add(data)
                if chunk.is_whole():
                    return None
                last = chunk.part.wanted.wrong(f"chunk {chunk.index} was wrong")
            except (Refused, Unreachable) as error:
                last = error
                self._blame(origin)
                continue  # what came before stays, and the next origin goes on behind it
            except VerificationFailed as error:
                last = error
                chunk.drop()
            if alone:  # else the bytes of before may be the wrong ones
                self._blame(origin)
        return last

    def _tries(self, turn: int) -> Iterator[Origin]:
        """Give the origins to ask for one chunk: mirrors by turns, each twice, the last to end."""
        *mirrors, last = range(len(self._origins))
        turned = mirrors[turn % len(mirrors) :] + mirrors[: turn % len(mirrors)] if mirrors else []
        for place in (*turned, last):
            for _ in range(_TRIES):
                if place == last or self._faults[place] < _FAULTS:
                    yield self._origins[place]

    def _blame(self, origin: Origin) -> None:
        with self._lock:
            self._faults[self._origins.index(origin)] += 1

    def _tell(self, name: str, more: int) -> None:
        with self._lock:
            self._done += more
            done = self._done
        self._on_bytes(name, done, self._total)

    def _asked(self, origin: Origin, wanted: Wanted, offset: int, length: int) -> Generator[bytes]:
        """Give what ``origin`` gives, counted, until the download ends."""
        if not length:
            return
        with contextlib.closing(origin.stretch(wanted, offset, length)) as pieces:
            for piece in pieces:
                if self._stop.is_set():
                    raise _Stopped
                with self._lock:
                    self.fetched_bytes += len(piece)
                yield piece


def _nobody(wanted: Wanted) -> Refused:
    return Refused(
        f"nobody has {wanted.entry.name} of {wanted.of}",
        why="every mirror failed before",
        fix="run the same command again later, or tell the operator",
        code="not-found",
    )
