"""Fetches files in chunks, several at once, from one origin or from several that have the same.

    workers      take the next chunk of any file, in order; what an earlier process left of it is
                 hashed, the rest is asked for; a chunk counts when its hash is the signed one
    this thread  follows behind in order, hashes each whole file, and hands it over

Laws: bytes are hashed as they arrive and only hashed bytes are handed over; a wrong chunk (16 MiB
of a release's file, the whole of a contribution's blob) is thrown away and fetched once more,
alone, then from the next origin; the last origin's second wrong answer ends the download. Origins
but the last are mirrors: one that fails three times is left alone. What was written is never asked
for again (part_file.py). Source: reliability.md R17; T16. Cost: one piece of memory a worker.
"""

import contextlib
import hashlib
import queue
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..core.errors import OrthoFedError, Refused, Unreachable, VerificationFailed
from .origin import Origin, Wanted
from .part_file import PartFile

STREAMS: Final = 8
_TRIES: Final = 2
_FAULTS: Final = 3
_JOIN_S: Final = 5.0

OnBytes = Callable[[str, int, int], None]


class _Stopped(Exception):  # not an error: the workers' sign to end
    """The download ends."""


@dataclass(slots=True)
class _Chunk:
    """One chunk of one part, and what became of it."""

    part: PartFile
    index: int
    done: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


class Download:
    """Some files on their way; ``on_bytes(name, done, total)`` hears the progress."""

    def __init__(self, origins: Sequence[Origin], parts: Path, on_bytes: OnBytes) -> None:
        """Prepare to fetch into the folder ``parts``; the last of ``origins`` is asked last."""
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
        parts = [PartFile(each, self._parts / each.entry.sha256) for each in wanted]
        chunks = [[_Chunk(p, i) for i in range(len(p.wanted.entry.chunks))] for p in parts]
        waiting: queue.SimpleQueue[_Chunk] = queue.SimpleQueue()
        for chunk in (each for some in chunks for each in some):
            waiting.put(chunk)
        num = min(waiting.qsize(), STREAMS, sum(origin.streams for origin in self._origins))
        workers = [
            threading.Thread(target=self._work, args=(waiting, turn), daemon=True)
            for turn in range(num)
        ]
        for worker in workers:
            worker.start()
        try:
            for part, mine in zip(parts, chunks, strict=True):
                self._follow(part, mine)
                arrived(part.wanted, part.path)
        finally:
            self._stop.set()
            for worker in workers:  # daemons: one that waits for a dead line is left behind
                worker.join(_JOIN_S)
            for part in parts:
                if not any(worker.is_alive() for worker in workers):
                    part.close()

    def _follow(self, part: PartFile, chunks: Sequence[_Chunk]) -> None:
        """Wait for the chunks of one file in order, hashing the whole behind them."""
        whole, entry = hashlib.sha256(), part.wanted.entry
        for chunk in chunks:
            while not chunk.done.wait(1.0):
                pass  # a wait without end would not hear Ctrl-C on every system
            if chunk.error is not None:
                raise chunk.error
            start, end = part.span(chunk.index)
            if len(chunks) > 1:  # else the chunk's hash was the whole's
                for piece in part.pieces(chunk.index, end - start):
                    whole.update(piece)
        found = whole.hexdigest() if len(chunks) != 1 else entry.chunks[0]
        if found != entry.sha256:
            part.remove()
            raise part.wanted.wrong("its chunks are right and the whole is not")
        part.finish()

    def _work(self, waiting: "queue.SimpleQueue[_Chunk]", turn: int) -> None:
        while not self._stop.is_set():
            try:
                chunk = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._fetch(chunk, turn)
            except BaseException as error:  # noqa: BLE001  # raised again by the thread that waits
                chunk.error = error
            chunk.done.set()
            if chunk.error is not None:
                return

    def _fetch(self, chunk: _Chunk, turn: int) -> None:
        """Make one chunk right: from the disk, as far as it is there, then from an origin."""
        part, index = chunk.part, chunk.index
        start, end = part.span(index)
        digest, filled = hashlib.sha256(), 0
        for data in part.pieces(index, part.filled(index)):
            digest.update(data)
            filled += len(data)
        self._tell(part, filled)
        last: OrthoFedError = _nobody(part.wanted)
        for origin in self._tries(turn):
            alone = filled == 0
            try:
                for data in _asked(origin, part.wanted, start + filled, end - start - filled):
                    if self._stop.is_set():
                        raise _Stopped
                    part.write(index, filled, data)
                    digest.update(data)
                    filled += len(data)
                    self._tell(part, len(data))
                if digest.hexdigest() == part.wanted.entry.chunks[index]:
                    return
                last = part.wanted.wrong(f"chunk {index} was wrong")
            except (Refused, Unreachable) as error:
                last = error
                self._blame(origin)
                continue  # what came before stays, and the next origin goes on behind it
            except VerificationFailed as error:
                last = error
            if alone:  # else the bytes of before may be the wrong ones
                self._blame(origin)
            part.drop(index)
            self._tell(part, -filled)
            digest, filled = hashlib.sha256(), 0
        raise last

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

    def _tell(self, part: PartFile, more: int) -> None:
        with self._lock:
            self._done += more
            done = self._done
        if more:
            self._on_bytes(part.wanted.entry.name, done, self._total)


def _asked(origin: Origin, wanted: Wanted, offset: int, length: int) -> Generator[bytes]:
    """Give exactly ``length`` bytes, whoever the origin is (T16)."""
    left = length
    if not length:
        return
    with contextlib.closing(origin.stretch(wanted, offset, length)) as pieces:
        for piece in pieces:
            left -= len(piece)
            if left < 0:
                raise wanted.wrong(f"more than the {length} bytes that were asked for came")
            yield piece
    if left:
        raise wanted.wrong(f"{length - left} bytes came, {length} were asked for")


def _nobody(wanted: Wanted) -> Refused:
    return Refused(
        f"nobody has {wanted.entry.name} of {wanted.of}",
        why="every mirror failed before",
        fix="run the same command again later, or tell the operator",
        code="not-found",
    )
