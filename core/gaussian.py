"""The paper's ablation: a frozen factor without orthogonality, drawn afresh for every slot.

An entry is the popcount of 32 stream bytes minus 128: an integer of mean 0 and variance 64, so
B = entry / (8 sqrt(m)) has columns of expected square norm 1. No libm, hence the same bytes on
every machine. Source: method.md 2.3. Cost: 32 m r bytes of SHAKE-256.
"""

import numpy as np
from jaxtyping import Int16

from .stream import Stream

_BYTES = 32


def gaussian_block(
    width: int, rank: int, *, slot: int, seed: bytes, layer: str
) -> Int16[np.ndarray, "m r"]:
    """Return 8 sqrt(m) B_i of ``slot``, as integers of -128..128.

    Shapes: m = ``width``, r = ``rank``. Slots have no limit here: none is orthogonal to another.
    """
    stream = Stream("gaussian", seed, width, index=slot, path=layer)
    return integer_normals(stream, width, rank)


def integer_normals(stream: Stream, width: int, count: int) -> Int16[np.ndarray, "m c"]:
    """Return the stream's next ``count`` columns of ``width`` integers of variance 64."""
    raw = np.frombuffer(stream.bytes(_BYTES * width * count), dtype=np.uint64)
    words = np.bitwise_count(raw).reshape(count, width, _BYTES // 8)
    return (words.sum(axis=2, dtype=np.int16) - np.int16(128)).T
