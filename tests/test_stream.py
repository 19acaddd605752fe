"""The stream of public words: one input, one answer."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.core.errors import SpecError
from orthofed.core.stream import Stream

SEED = bytes(range(32))


def test_a_stream_is_shake_256_of_its_prefix() -> None:
    """The input is spelt out here byte by byte, apart from the code."""
    stream = Stream("gaussian", SEED, 320, index=7, path="unet.test")
    text = b"orthofed/basis/gaussian/v1\0" + SEED + b"\x40\x01\0\0" + b"\x07\0\0\0" + b"unet.test"

    first, second = stream.bytes(5), stream.bytes(5000)

    assert first + second == hashlib.shake_256(text).digest(5005)


def test_reading_in_any_portions_gives_the_same_bytes() -> None:
    """Read-ahead is refilled beyond its end without a seam."""
    whole = Stream("draw", SEED, 4).bytes(4000)
    stream = Stream("draw", SEED, 4)

    parts = b"".join(stream.bytes(k) for k in (1, 2, 3, 994, 3000))

    assert parts == whole


@settings(derandomize=True, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.lists(st.integers(1, 65536), max_size=60))
def test_below_takes_the_next_word_that_is_not_rejected(seed: bytes, bounds: list[int]) -> None:
    """Compared with the words themselves, one bound after the other; nothing is read too far."""
    stream = Stream("hadamard", seed, 12)
    raw = Stream("hadamard", seed, 12).bytes(4096)
    words = iter(int.from_bytes(raw[i : i + 2], "little") for i in range(0, 4096, 2))
    expected, read = [], 0
    for bound in bounds:
        for word in words:
            read += 1
            if word < 65536 - 65536 % bound:
                expected.append(word % bound)
                break

    assert stream.below(np.array(bounds, dtype=np.int64)).tolist() == expected
    assert stream.position == 2 * read


def test_a_word_is_taken_even_for_one_choice() -> None:
    """So that the position does not depend on the bound."""
    stream = Stream("hadamard", SEED, 12)

    assert stream.below(np.array([1, 1])).tolist() == [0, 0]
    assert stream.position == 4


@pytest.mark.parametrize(
    ("seed", "width", "index", "path"),
    [
        (b"short", 4, None, "a"),
        (SEED, 0, None, "a"),
        (SEED, 65537, None, "a"),
        (SEED, 4, -1, "a"),
        (SEED, 4, 2**32, "a"),
        (SEED, 4, None, "a b"),
        (SEED, 4, None, "a" * 256),
    ],
)
def test_inputs_out_of_bounds_are_refused(
    seed: bytes, width: int, index: int | None, path: str
) -> None:
    """What has no fixed spelling gets no stream."""
    with pytest.raises(SpecError) as caught:
        Stream("hadamard", seed, width, index=index, path=path)

    assert caught.value.code == "bad-stream"
