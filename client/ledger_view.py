"""One look at a ledger: its signed head and checkpoint, checked against the clock and the past.

    keyring, spec, log id   trust.py
    head, checkpoint        signed by the newest keyring's ledger key; of one size, one root
    expiry                  the keyring is in force
    freeze                  the head is no older than the keyring's ``fresh``            (T16)
    rollback                no fewer leaves, releases, keyrings than were seen           (T16)
    fork                    tiles prove that the ledger continues the one that was seen  (T17)

Laws: tiles are believed as far as they lead to a signed root; a fork leaves a file that proves it
to anybody (fork_proof.py); what was seen changes only by ``remember``, after everything passed.
Cost: O(log n) files. Source: security.md 4.6, 4.7.
"""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..core import document, merkle
from ..core.checkpoint import Checkpoint, open_checkpoint
from ..core.document import Document
from ..core.errors import Refused, VerificationFailed
from ..core.head import LedgerHead
from ..core.spec_parts import MAX_SPEC_BYTES
from ..core.tiled import TiledTree
from .fork_proof import ForkProof
from .home import write_whole
from .public_source import (
    CHECKPOINT_BYTES,
    HEAD_BYTES,
    KEYRING_BYTES,
    MOST_KEYRINGS,
    PublicSource,
    read_hashes,
)
from .seen_heads import Seen, SeenHeads
from .trust import TrustedFederation, check, mismatch, trusted_federation

CHECKPOINT: Final = "checkpoint"
HEAD: Final = "head.json"
SPEC: Final = "spec.json"
_TRIES: Final = 5
_PAUSE_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class LedgerView:
    """What was seen, signatures checked; ``files`` are the bytes by their names in the tree."""

    federation: TrustedFederation
    head: LedgerHead
    signed_head: Document
    checkpoint: Checkpoint
    files: dict[str, bytes]

    @property
    def note(self) -> bytes:
        """The checkpoint as it was signed."""
        return self.files[CHECKPOINT]

    @property
    def keyrings(self) -> tuple[bytes, ...]:
        """The keyring documents 1, 2, 3, ..."""
        return tuple(self.files[keyring_name(n + 1)] for n in range(len(self.federation.keyrings)))


def keyring_name(n: int) -> str:
    """Return the name of keyring ``n`` in the tree."""
    return f"keyring/{n}.json"


def kept_checkpoint(size: int) -> str:
    """Return where a published tree has the checkpoint of ``size`` leaves once more."""
    return f"checkpoints/{size}"


def read_view(source: PublicSource, log: str, *, tries: int = 1) -> LedgerView:
    """Return what ``source`` shows of the ledger ``log``, signatures checked; no clock is asked.

    ``tries``: a coordinator writes head after checkpoint, so they may differ for a moment. A
    published tree keeps the checkpoint of either head, for as long as they differ.

    Raises VerificationFailed: a check failed.
    """
    with check("spec"):
        files = {SPEC: source.read(SPEC, MAX_SPEC_BYTES)}
    with check("keyring"), contextlib.suppress(_Absent):
        for n in range(1, MOST_KEYRINGS + 1):
            name = keyring_name(n)
            files[name] = _read(source, name, KEYRING_BYTES, needed=n == 1)
    rings = [data for name, data in files.items() if name != SPEC]
    federation = trusted_federation(log, files[SPEC], rings)
    while True:
        tries -= 1
        with check("checkpoint"):
            files[CHECKPOINT] = source.read(CHECKPOINT, CHECKPOINT_BYTES)
            checkpoint = open_checkpoint(files[CHECKPOINT], federation.keyring.ledger, log)
        with check("head"):
            files[HEAD] = source.read(HEAD, HEAD_BYTES)
            signed = document.parse(files[HEAD], kind="head")
            signed.verify((federation.keyring.ledger,))
            signed.check_only((federation.keyring.ledger,))
            head = LedgerHead.from_document(signed)
            if head.log != log:
                raise mismatch("the head is of another ledger")
            if (head.size, head.root) == (checkpoint.size, checkpoint.root.hex()):
                return LedgerView(federation, head, signed, checkpoint, files)
            kept = _kept_checkpoint(source, head.size)
            if kept:
                old = open_checkpoint(kept, federation.keyring.ledger, log)
                if (head.size, head.root) == (old.size, old.root.hex()):
                    files[CHECKPOINT] = kept
                    return LedgerView(federation, head, signed, old, files)
            if not tries:
                raise mismatch(
                    f"a head of {head.size} leaves beside a checkpoint of {checkpoint.size}, or of"
                    " another root"
                )
        time.sleep(_PAUSE_S)


def look(source: PublicSource, log: str, seen: SeenHeads, *, now_s: int) -> LedgerView:
    """Return the newest state of the ledger: fresh, and continuing what was seen.

    Raises VerificationFailed: a check failed. Raises InputError: the memory is damaged.
    """
    before = seen.of(log)
    view = read_view(source, log, tries=_TRIES)
    keyring = view.federation.keyring
    with check("expiry"):
        keyring.check_time(now_s)
    with check("freeze"):  # T16
        view.head.check_age(now_s=now_s, most_s=keyring.fresh)
    if before is not None:
        with check("rollback"):  # T16
            _check_no_less(view, before, seen.path(log))
        with check("fork"):  # T17
            _check_continues(view, before, source, seen.path(log))
    return view


def remember(view: LedgerView, seen: SeenHeads) -> None:
    """Keep the view as what was seen."""
    kept = Seen(view.signed_head, view.note, len(view.federation.keyrings))
    seen.remember(view.federation.log, kept)


def _kept_checkpoint(source: PublicSource, size: int) -> bytes:
    try:
        return _read(source, kept_checkpoint(size), CHECKPOINT_BYTES, needed=False)
    except _Absent:
        return b""


def _check_no_less(view: LedgerView, before: Seen, memory: Path) -> None:
    told = before.told
    for what, now, then in (
        ("keyrings", len(view.federation.keyrings), before.keyrings),
        ("leaves", view.head.size, told.size),
        ("releases", view.head.release, told.release),
    ):
        if now < then:
            raise VerificationFailed(
                f"the ledger has {now} {what}, {then} were seen before",
                why="a ledger only grows: this is an old copy, or leaves were taken back",
                fix="try again later or elsewhere; if the operator says in public that the ledger"
                f" was restored from a backup, move {memory} away",
                code="went-back",
            )
    if view.head.release == told.release and view.head.manifest != told.manifest:
        raise VerificationFailed(
            f"release {told.release} has another manifest than was seen before",
            why="a release never changes once it is in the ledger",
            fix=f"tell others, and keep {memory}: it holds the head that says otherwise",
            code="release-changed",
        )


def _check_continues(view: LedgerView, before: Seen, source: PublicSource, memory: Path) -> None:
    told, now = before.told, view.checkpoint
    proof: tuple[bytes, ...] = ()
    root = now.root
    if now.size > told.size:
        tree = TiledTree(now.size, lambda tile: read_hashes(source, tile))
        try:
            root, proof = tree.root(told.size), tree.consistency_proof(told.size)
        except Refused as error:
            raise mismatch(
                f"the tiles are not there that prove the growth: {error.what}"
            ) from error
        merkle.verify_consistency(
            old_size=told.size, old_root=root, size=now.size, root=now.root, proof=proof
        )
    if root.hex() == told.root:
        return
    found = ForkProof(before.note, view.note, root, proof, view.keyrings)
    path = memory.with_name(f"{memory.stem}.fork-{told.size}-{now.size}.json")
    write_whole(path, found.to_bytes())
    raise VerificationFailed(
        f"the first {told.size} leaves are not those that were seen before",
        why="the coordinator signed two histories, or its key was stolen",
        fix=f"tell others and the operator; {path} proves it to anybody, by its signatures alone"
        " (orthofed ledger check)",
        code="forked",
    )


class _Absent(Exception):  # not an error: there is no further keyring
    """The file is not there."""


def _read(source: PublicSource, name: str, most: int, *, needed: bool) -> bytes:
    try:
        return source.read(name, most)
    except Refused as error:
        if needed or error.code != "not-found":
            raise
        raise _Absent from error
