"""The one source of pseudo-random numbers: a SHAKE-256 stream of public words.

The input is "orthofed/basis/" + family + "/v1" + NUL + seed + u32(m) [+ u32(index)] + path. What
precedes the path has a fixed length for each family, so no two inputs collide. Law: the same
arguments give the same bytes on every machine; no global generator is touched.
Source: method.md 2.1. Cost: one Keccak pass over what is read, at most doubled by read-ahead.
"""

import hashlib
import re
import struct

import numpy as np
from jaxtyping import Int64

from .errors import SpecError
from .layer import MAX_WIDTH

_WORDS = 65536
_PATH = re.compile(r"[A-Za-z0-9_.#]{0,255}")
_SEED_BYTES = 32


class Stream:
    """A stream of bytes and small integers, read from its first byte."""

    __slots__ = ("_buffer", "_shake", "position")

    def __init__(
        self, family: str, seed: bytes, width: int, *, index: int | None = None, path: str = ""
    ) -> None:
        """Open the stream of one basis ``family`` for a layer's input ``width``.

        Raises SpecError: a seed that is not 32 bytes, or a width, index or path out of bounds.
        """
        if len(seed) != _SEED_BYTES or not 1 <= width <= MAX_WIDTH or not _PATH.fullmatch(path):
            raise SpecError(
                f"stream of a {len(seed)}-byte seed, width {width}, path {path[:80]!r}",
                why=f"a seed has 32 bytes, a width is 1 to {MAX_WIDTH}, a path 255 characters",
                fix="take seed, widths and layer paths from the federation's spec",
                code="bad-stream",
            )
        if index is not None and not 0 <= index < 2**32:
            raise SpecError(
                f"stream number {index}",
                why="slots and concepts are counted in 32 bits",
                fix="give a number from 0 to 4294967295",
                code="bad-stream",
            )
        number = b"" if index is None else struct.pack("<I", index)
        head = b"orthofed/basis/" + family.encode("ascii") + b"/v1\0"
        self._shake = hashlib.shake_256(
            head + seed + struct.pack("<I", width) + number + path.encode("ascii")
        )
        # Hadamard reads about width / 8 + 2 width bytes: one pass is enough for it.
        self._buffer = self._shake.digest(3 * width + 64)
        self.position = 0

    def bytes(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        end = self.position + count
        if end > len(self._buffer):
            self._buffer = self._shake.digest(max(end, 2 * len(self._buffer)))
        part = self._buffer[self.position : end]
        self.position = end
        return part

    def below(self, bounds: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return, for each bound in turn, the next integer of 0..bound - 1; a word even for 1.

        Words have 16 bits on purpose: rejection then happens at real widths, and the golden values
        test it. Each bound is 1 to 65536.
        """
        limits = (_WORDS - _WORDS % bounds).tolist()
        kept: list[int] = []
        while missing := len(bounds) - len(kept):  # each bound needs a word: none is read too many
            for word in np.frombuffer(self.bytes(2 * missing), dtype="<u2").tolist():
                if word < limits[len(kept)]:
                    kept.append(word)
        return np.array(kept, dtype=np.int64) % bounds
