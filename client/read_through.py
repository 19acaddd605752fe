"""One file from a server without ranges: read from its first byte to the last that is missing.

Laws: its chunks cost one way through the file and not one each; what is there already, from an
earlier process too, is passed over and not written again; a wrong chunk is dropped and taken from a
second way, not from a third (T16). A cut costs the way to where it was (http_origin.py).
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import Final

from .chunk import Chunk
from .origin import Wanted

Ask = Callable[[Wanted, int, int], Generator[bytes]]
"""Gives exactly ``length`` bytes from ``offset`` on."""

_TRIES: Final = 2


def read_through(chunks: Sequence[Chunk], ask: Ask) -> None:
    """Make all of one file's ``chunks`` whole, once whoever else is at work on one lets go of it.

    Raises VerificationFailed: a chunk came wrong twice. Raises Unreachable, Refused: as ``ask``.
    """
    wanted, wrong = chunks[0].part.wanted, Counter[int]()
    with contextlib.ExitStack() as stack:
        for chunk in chunks:
            stack.enter_context(chunk.lock)
            if not chunk.done.is_set():
                chunk.begin()
                chunk.is_whole()
        while any(not chunk.done.is_set() for chunk in chunks):
            _once(chunks, ask(wanted, 0, wanted.entry.bytes), wrong)
            for index, times in wrong.items():
                if times >= _TRIES:
                    raise wanted.wrong(f"chunk {index} was wrong")


def _once(chunks: Sequence[Chunk], pieces: Generator[bytes], wrong: Counter[int]) -> None:
    """Take what is missing out of one way through the file; hang up behind the last of it."""
    waiting, at = [chunk for chunk in chunks if not chunk.done.is_set()], 0
    with contextlib.closing(pieces):
        for data in pieces:
            view = memoryview(data)
            for chunk in waiting:
                place = chunk.start + chunk.filled
                if at <= place < at + len(view):  # dropped ones lie behind, until the next way
                    chunk.add(view[place - at : chunk.end - at])
                    if not chunk.left and not chunk.is_whole():
                        wrong[chunk.index] += 1
            at += len(view)
            waiting = [chunk for chunk in waiting if chunk.end > at]
            if not waiting:
                return
