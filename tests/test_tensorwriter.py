"""One file of tensors, hashed on a thread beside the writing."""

import hashlib
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from orthofed.coordinator import tensorwriter
from orthofed.coordinator.tensorwriter import write_tensors
from orthofed.core.release_file import Buffer, TensorFile
from orthofed.core.tensorfile import parse_header

from .serving import FastFs

MIB = 1 << 20


def one(shape: tuple[int, ...], pieces: Iterable[Buffer]) -> TensorFile:
    """Return a file of one tensor, whose header says the tensor hash."""
    entries = (("w", "F16", shape),)
    return TensorFile("x", "lora", "F16", entries, pieces, lambda digest: {"hash": digest})


def test_the_hash_in_the_header_is_that_of_the_bytes(tmp_path: Path) -> None:
    """Pieces of any size, bytes and views, some of them empty."""
    values = np.random.default_rng(0).normal(size=(300, 70)).astype("<f2")
    raw = values.tobytes()
    pieces: list[Buffer] = [raw[:7], b"", memoryview(raw)[7:9000], values.data.cast("B")[9000:]]

    digest = write_tensors(tmp_path / "x.safetensors", one(values.shape, pieces), fs=FastFs())

    data = (tmp_path / "x.safetensors").read_bytes()
    header = parse_header(data, file_size=len(data))
    assert data[header.data_start :] == raw
    assert header.metadata == {"hash": digest}
    assert digest == hashlib.sha256(raw).hexdigest()


def test_a_large_file_is_never_whole_in_memory(tmp_path: Path) -> None:
    """128 MiB in pieces of 1 MiB: what waits for its hash has a limit."""

    def pieces() -> Iterator[bytes]:
        for number in range(128):
            yield bytes([number]) * MIB

    tracemalloc.start()
    try:
        file = one((128, MIB // 2), pieces())
        write_tensors(tmp_path / "x.safetensors", file, fs=FastFs())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 36 * MIB


def test_hashing_that_falls_behind_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for one piece the writer waits for each; the hash is the same."""
    monkeypatch.setattr(tensorwriter, "_MOST_BEHIND", 1)
    raw = bytes(range(256)) * 64
    parts = [raw[i : i + 1000] for i in range(0, len(raw), 1000)]

    file = one((len(raw) // 2,), parts)
    digest = write_tensors(tmp_path / "x.safetensors", file, fs=FastFs())

    assert digest == hashlib.sha256(raw).hexdigest()


def test_a_source_that_fails_leaves_no_thread_behind(tmp_path: Path) -> None:
    """Its own error comes out."""

    def pieces() -> Iterator[bytes]:
        yield b"x" * MIB
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_tensors(tmp_path / "x.safetensors", one((MIB,), pieces()), fs=FastFs())
