"""Everything one running coordinator owns, opened in the order that makes restart the only repair.

Order (reliability.md 2.6): the caller holds the lock; refuse a database that was changed since it
was closed; open it, and bring it to this version's format; refuse it if it is behind the high-water
mark; remove what no row knows; give each leased slot a full term; write the public files again.
Laws: nothing here but that sum is proportional to stored bytes, and no command is needed after any
crash. Not here: what the calls do (service.py, desk.py).
"""

import json
import os
import sqlite3
from collections import OrderedDict
from dataclasses import dataclass
from typing import Self, cast

from ..core.basis_fingerprint import basis_fingerprint
from ..core.document import parse
from ..core.keyring import Keyring
from ..core.layout import ContributionLayout
from ..core.spec import FederationSpec
from . import keyring_proofs, leases, meta_rows, publications, slot_events, slot_rows, upload_rows
from .blobs import Blobs
from .board import Board
from .clock import Clock
from .closing import opening, write_sum
from .folder import DataFolder
from .fs import Fs
from .heads import Heads
from .keyfile import check_all_closed, find_key
from .ledger import Ledger
from .mark import check_mark
from .sightings import Sightings
from .slots import Slots
from .store import Store
from .sweeper import sweep

_LAYOUTS = 64


@dataclass(frozen=True, slots=True)
class Facts:
    """What changes with a new keyring alone while the coordinator runs."""

    spec: FederationSpec
    fed: str  # the spec's id; to work it out again at each Begin took a tenth of it
    log: str
    keyrings: tuple[bytes, ...]
    keyring_proofs: tuple[bytes, ...]
    norms: dict[str, float]

    @property
    def ring(self) -> Keyring:
        """The newest keyring."""
        return Keyring.from_body(parse(self.keyrings[-1], kind="keyring").body)


class House:
    """The opened folder."""

    def __init__(self, folder: DataFolder, *, fs: Fs, clock: Clock) -> None:
        """Open the folder, whose lock the caller holds."""
        self.folder = folder
        self.settings = folder.settings()
        self.fs = fs
        self.clock = clock
        self.sightings = Sightings()
        with opening(folder, fs=fs):
            self._open()
        self._layouts: OrderedDict[tuple[int, ...], ContributionLayout] = OrderedDict()
        self._fingerprints: dict[int, str] = {}

    def __enter__(self) -> Self:
        """Use the house until the block ends."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close everything."""
        self.close()

    def close(self) -> None:
        """Finish what is queued, write the public files, close the database."""
        self.heads.close()
        self.store.close()
        write_sum(self.folder, fs=self.fs)

    def sweep(self) -> int:
        """Remove blobs that no row asks for; return how many."""
        return sweep(self.store, self.folder, fs=self.fs)

    def layout(self, vectors: tuple[int, ...]) -> ContributionLayout:
        """Return the layout of a lease; the last few are kept."""
        found = self._layouts.pop(vectors, None) or ContributionLayout(self.facts.spec, vectors)
        self._layouts[vectors] = found
        while len(self._layouts) > _LAYOUTS:
            self._layouts.popitem(last=False)
        return found

    def fingerprint(self, slot: int) -> str:
        """Return the fingerprint of a slot's block; computed once a slot (T11)."""
        if slot not in self._fingerprints:
            self._fingerprints[slot] = basis_fingerprint(self.facts.spec, slot)
        return self._fingerprints[slot]

    def _open(self) -> None:
        folder, fs = self.folder, self.fs
        self.store = Store(folder.database, fs=fs)
        try:
            self.store.run(lambda db: check_mark(db, folder.mark_file()))
            self.store.run(keyring_proofs.complete)
            self.facts = self.store.run(_facts)
            check_all_closed(folder.keys)
            key = find_key(folder.keys, "ledger", (self.facts.ring.ledger,))
            self.ledger = Ledger(key, self.facts.log)
            self.heads = Heads(self.store, self.ledger, folder, fs=fs, clock=self.clock)
            self.blobs = Blobs(folder, fs=fs)
            self.blobs.drop_unknown({row[0] for row in self.store.run(upload_rows.still_open)})
            fs.make_folder(folder.snapshots, mode=0o700)
            fs.make_folder(folder.releases)  # a copy that left empty folders out has none
            # Made here and never later: a full disk has room for no name, and removal helps then.
            os.close(fs.create(folder.removal_lock, os.O_RDWR, 0o600))
            for place in (folder.root, folder.keys, folder.data, folder.public):
                fs.remove_temporaries(place)
            self.board = Board(self.store, self._restart(), self.clock)
            self.heads.start()
        except BaseException:
            self.store.close()
            raise

    def _restart(self) -> Slots:
        limits = self.facts.spec.limits
        slots = self.store.run(slot_rows.every)
        released, planned = self.store.run(_held_slots)
        state = Slots(
            slots=slots,
            released=released or frozenset(),
            planned=planned,
            ttl_s=limits.ttl_s,
            hold_s=limits.hold_s,
            num_kept=self.facts.spec.capacity * limits.operator_slots_percent // 100,
        )
        return leases.step(state, slot_events.Restart(self.clock.monotonic_s()))[0]


def _held_slots(db: sqlite3.Connection) -> tuple[frozenset[int] | None, frozenset[int] | None]:
    """Return the slots whose contribution the newest release holds, and those of the open plan."""
    newest = publications.newest(db)
    return (
        None if newest is None else newest.plan.slots,
        None if (plan := publications.planned(db)) is None else plan.slots,
    )


def _facts(db: sqlite3.Connection) -> Facts:
    spec = FederationSpec.from_bytes(meta_rows.value(db, "spec"))
    return Facts(
        spec=spec,
        fed=spec.id,
        log=meta_rows.value(db, "log").decode(),
        keyrings=meta_rows.keyrings(db),
        keyring_proofs=keyring_proofs.stored(db),
        norms=cast("dict[str, float]", json.loads(meta_rows.value(db, "norms"))),
    )
