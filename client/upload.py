"""Sends one packed contribution until its receipt is here.

    Begin (manifest, SHA-256 of each chunk) -> Put (what is missing, two in flight) -> Commit

Laws (reliability.md 4): the bytes on the disk are what is sent, chunk by chunk; a rerun sends only
chunks that the coordinator does not have whole; all three calls may be repeated for ever, so
a cut anywhere costs at most the chunks in flight. An upload that the coordinator forgot begins
again, a few times. Cost: two chunks of memory. Not here: approval (the outbox refuses what was not
approved) and the receipt's meaning (train_command.py verifies it).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from ..core.errors import OrthoFedError, Refused, Unreachable
from ..core.keys import SigningKey
from ..proto import methods, wire
from .channel import Channel
from .throttle import Throttle

_IN_FLIGHT: Final = 2
_ROUNDS: Final = 8
"""How often an upload may start over before that counts as a failure of the other side."""


def chunk_hashes(blob: Path) -> tuple[bytes, ...]:
    """Return the SHA-256 of each chunk of the file."""
    with blob.open("rb") as file:
        chunks = iter(lambda: file.read(methods.CHUNK_BYTES), b"")
        return tuple(hashlib.sha256(chunk).digest() for chunk in chunks)


class Upload:
    """One contribution on its way: the channel, the client key, the two files."""

    def __init__(
        self,
        channel: Channel,
        *,
        key: SigningKey,
        document: bytes,
        blob: Path,
        wraps: bytes = b"",
        throttle: Throttle | None = None,
        on_bytes: Callable[[int, int], None],
    ) -> None:
        """Prepare; ``on_bytes(sent, total)`` hears how many bytes the coordinator has.

        ``wraps`` belong to a private contribution, whose ``blob`` is the ciphertext; ``throttle``
        bounds what is sent.
        """
        self._channel = channel
        self._key = key
        self._document = document
        self._blob = blob
        self._wraps = wraps
        self._throttle = throttle or Throttle()
        self._on_bytes = on_bytes
        self._chunks = chunk_hashes(blob)
        self._total = blob.stat().st_size
        self._done = 0

    def run(self) -> bytes:
        """Return the receipt.

        Raises LeaseLost: the slot went to somebody else. Raises ContributionRejected or Refused:
        the coordinator said no. Raises Unreachable: it did not answer; run again later.
        """
        for _ in range(_ROUNDS):
            try:
                return self._begin()
            except Refused as error:
                if error.code != "unknown-upload":
                    raise
        raise Unreachable(
            f"the coordinator forgot the upload {_ROUNDS} times",
            why="it lost its part file each time, so it may be short of space or failing",
            fix="tell the operator, then run the same command again",
            code="upload-forgotten",
        )

    def _begin(self) -> bytes:
        begun = self._channel.call(
            methods.BEGIN,
            wire.BeginRequest(self._document, self._chunks, self._wraps),
            wire.BeginReply,
            key=self._key,
        )
        if begun.receipt:
            return begun.receipt
        missing = [i for i in range(len(self._chunks)) if not _bit(begun.have, i)]
        self._done = self._total - sum(self._length(i) for i in missing)
        for _ in range(_ROUNDS):
            self._put_all(begun.upload_id, missing)
            commit = wire.CommitRequest(begun.upload_id)
            reply = self._channel.call(methods.COMMIT, commit, wire.CommitReply, key=self._key)
            if reply.receipt:
                return reply.receipt
            missing = [i for i in reply.missing if i < len(self._chunks)]
            self._done = self._total - sum(self._length(i) for i in missing)
        raise OrthoFedError(
            f"chunks {missing[:8]} were sent {_ROUNDS} times and are still missing",
            why="the coordinator's disk, or something between, loses them",
            fix="tell the operator, then run the same command again",
            code="chunks-vanish",
        )

    def _put_all(self, upload_id: bytes, missing: Iterable[int]) -> None:
        self._on_bytes(self._done, self._total)
        with ThreadPoolExecutor(_IN_FLIGHT) as pool:
            for index in _bounded(pool, lambda i: self._put(upload_id, i), missing):
                self._done += self._length(index)
                self._on_bytes(self._done, self._total)

    def _put(self, upload_id: bytes, index: int) -> int:
        with self._blob.open("rb") as file:
            file.seek(index * methods.CHUNK_BYTES)
            data = file.read(methods.CHUNK_BYTES)
        self._throttle.take(len(data))
        request = wire.PutRequest(upload_id, index, data)
        self._channel.call(methods.PUT, request, wire.PutReply, key=self._key)
        return index

    def _length(self, index: int) -> int:
        return min(methods.CHUNK_BYTES, self._total - index * methods.CHUNK_BYTES)


def _bit(bitmap: bytes, index: int) -> bool:
    return index // 8 < len(bitmap) and bool(bitmap[index // 8] >> index % 8 & 1)


def _bounded(
    pool: ThreadPoolExecutor, put: Callable[[int], int], indexes: Iterable[int]
) -> Iterator[int]:
    """Yield what ``put`` returns; the first failure keeps the rest from being sent."""
    waiting = [pool.submit(put, index) for index in indexes]
    try:
        for future in waiting:
            yield future.result()
    finally:
        for future in waiting:
            future.cancel()
