"""Uploads on their way, as Put needs them: so that a chunk costs no trip to the store.

Law: this is a copy of rows and decides nothing. Who uses an entry checks that its lease is still
held (board.py) and that its part is still there (blobs.py); if either fails, the store is asked,
so an entry that outlived its upload costs one look and no more. Memory is bounded by the number of
chunk hashes, about 65 bytes each; the entry that was used longest ago goes first.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from .blobs import Plan

_CHUNKS = 1 << 18  # 64 GiB of uploads at once


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """One upload without a receipt: whose it is, and what it has to become."""

    client: str
    slot: int
    fence: int
    plan: Plan


class OpenUploads:
    """The open uploads that were used last, by id."""

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, OpenUpload] = OrderedDict()
        self._num_chunks = 0

    def get(self, upload_id: bytes) -> OpenUpload | None:
        """Return the upload if it is among them."""
        with self._lock:
            found = self._kept.get(upload_id)
            if found is not None:
                self._kept.move_to_end(upload_id)
            return found

    def keep(self, upload: OpenUpload) -> None:
        """Remember one."""
        with self._lock:
            self._drop(upload.plan.upload_id)
            self._kept[upload.plan.upload_id] = upload
            self._num_chunks += len(upload.plan.chunks)
            while self._num_chunks > _CHUNKS:
                self._drop(next(iter(self._kept)))

    def forget(self, upload_id: bytes) -> None:
        """Drop one, if it is there."""
        with self._lock:
            self._drop(upload_id)

    def _drop(self, upload_id: bytes) -> None:
        if (old := self._kept.pop(upload_id, None)) is not None:
            self._num_chunks -= len(old.plan.chunks)
