"""GetContribution and ReadContribution: what a release was made of, as anyone may have it.

Laws: a blob is given when a published release holds its contribution, or when it is private and
stands: then it is ciphertext, and who has no key for it has nothing. A contribution in quarantine,
a rejected one and one that was never published look like what does not exist. After a withdrawal
the blob goes with the next release (sweeper.py), and the refusal then says what that ends
(reliability.md 2.7). A leaf's receipt is public in every case.
"""

import contextlib
import os
from threading import Lock

from ..core.errors import Refused
from ..proto import wire
from . import contribution_rows, publications, upload_rows
from .house import House


class Archive:
    """Gives contributions to whoever rebuilds a release."""

    def __init__(self, house: House) -> None:
        """Read what the house has published."""
        self._house = house
        self._lock = Lock()
        self._released: frozenset[int] = frozenset()
        self._seen_n = 0

    def proof(self, _key: str, request: wire.ContributionRequest) -> wire.ContributionReply:
        """Give the receipt of one contribution's leaf."""
        upload = self._house.store.run(lambda db: upload_rows.of_leaf(db, request.leaf))
        if upload is None or upload.receipt is None:
            raise _absent(request.leaf)
        wraps = b""
        if upload.wraps and self._stands(request.leaf):
            with contextlib.suppress(FileNotFoundError):
                wraps = self._house.folder.blob(upload.wraps).read_bytes()
        return wire.ContributionReply(upload.receipt, wraps)

    def read(self, _key: str, request: wire.ReadContributionRequest) -> wire.ReadReply:
        """Give one piece of one blob."""
        leaf = request.leaf
        upload = self._house.store.run(lambda db: upload_rows.of_leaf(db, leaf))
        given = self._stands if upload is not None and upload.wraps else self._is_released
        if upload is None or not given(leaf):
            raise _absent(leaf)
        if request.offset > upload.num_bytes:
            raise wire.malformed(f"offset {request.offset} in a blob of {upload.num_bytes} bytes")
        try:
            fd = os.open(self._house.folder.blob(upload.blob), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise self._gone(leaf) from error
        try:
            data = os.pread(fd, request.length, request.offset)
        finally:
            os.close(fd)
        return wire.ReadReply(data=data, total_bytes=upload.num_bytes)

    def _stands(self, leaf: int) -> bool:
        entry = self._house.store.run(lambda db: contribution_rows.of_leaf(db, leaf))
        return entry is not None and entry.state == "accepted"

    def _is_released(self, leaf: int) -> bool:
        with self._lock:
            if leaf not in self._released:
                found, self._seen_n = self._house.store.run(
                    lambda db: publications.released_leaves(db, after=self._seen_n)
                )
                self._released |= found
            return leaf in self._released

    def _gone(self, leaf: int) -> Refused:
        entry = self._house.store.run(lambda db: contribution_rows.of_leaf(db, leaf))
        if entry is None or entry.state != "withdrawn":
            return _absent(leaf)  # not ours to tell: `orthofed doctor` names a blob that is lost
        return Refused(
            f"contribution {leaf} was withdrawn",
            why="its bytes were deleted with the first release without it, as its owner asked",
            fix="rebuild a newer release; releases that hold it can no longer be rebuilt",
            code="withdrawn",
        )


def _absent(leaf: int) -> Refused:
    return Refused(
        f"no published release holds contribution {leaf}, nor is it a private one that stands",
        why="only what a release was made of can be read, and what its owner sealed",
        fix="take the leaves that a release's manifest names",
        code="no-such-contribution",
    )
