"""A folder as it is after months: so many ledger leaves and blobs, made in half a minute.

Rows are written by the coordinator's own code (ledger.py, lease_rows.py and its like), many to a
transaction, with manifests that are really signed. Blobs are holes of the right length under their
names: a start must not read them, and a test of a start needs no more; a test that releases gives
real ones.
Leaves beyond two a contribution are leases of the last slots, given back and leased again.
"""

import hashlib
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path

from orthofed.coordinator import (
    contribution_rows,
    lease_rows,
    member_rows,
    name_rows,
    slot_rows,
    upload_rows,
)
from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.contribution_rows import Contribution
from orthofed.coordinator.folder import DataFolder
from orthofed.coordinator.house import House
from orthofed.coordinator.lease_rows import Lease
from orthofed.coordinator.name_rows import Name
from orthofed.coordinator.slots import Slot
from orthofed.coordinator.upload_rows import Upload
from orthofed.core import names
from orthofed.core.basis_fingerprint import basis_fingerprint
from orthofed.core.contribution import ContributionManifest
from orthofed.core.document import sign
from orthofed.core.keys import SigningKey
from orthofed.core.leaf import document_leaf, lease_leaf

from .serving import FastFs

_BATCH = 1_000
_MEMBERS = 100
_SPARE = 32


class Grower:
    """Adds leases and contributions to one open house."""

    def __init__(
        self, house: House, *, blob_bytes: int = 0, blob_of: Callable[[int], bytes] | None = None
    ) -> None:
        """Register the members who did all this; ``blob_of``: what a slot's blob really is."""
        self._house = house
        self._blob_bytes = blob_bytes
        self._blob_of = blob_of
        self._members = [secrets.token_bytes(32).hex() for _ in range(_MEMBERS)]
        self._slots = len(house.store.run(slot_rows.every))
        self._fences = [0] * self._slots
        self._last: dict[int, Slot] = {}
        self._basis = basis_fingerprint(house.facts.spec, 0)
        house.store.run(self._join)

    def _join(self, db: sqlite3.Connection) -> None:
        invite = secrets.token_bytes(32).hex()
        member_rows.add_invite(db, invite, uses=0, until=0, operator=False)
        for key in self._members:
            member_rows.add(db, key, invite=invite, operator=False)

    def contribute(self, db: sqlite3.Connection, slot: int) -> None:
        """Fill a slot that was never leased."""
        key = SigningKey.from_seed(secrets.token_bytes(32))
        lease = self._lease(db, slot, key.public_hex)
        facts, data = self._house.facts, None if self._blob_of is None else self._blob_of(slot)
        num_bytes = self._blob_bytes if data is None else len(data)
        blob = hashlib.sha256(data or b"%d" % slot).hexdigest()
        manifest = ContributionManifest(
            basis=self._basis if data is None else self._house.fingerprint(slot),
            blob=blob,
            bytes=num_bytes,
            client=lease.client,
            concept=lease.concept,
            fed=facts.spec.id,
            fence=lease.fence,
            licence="CC0-1.0",
            log=facts.log,
            slot=slot,
            t=1_790_000_000,
            triggers=lease.triggers,
        )
        document = sign("contribution", manifest.body(), [key])
        leaf = self._house.ledger.append(db, document_leaf(document))
        upload = Upload(
            id=bytes.fromhex(document.id)[:16],
            slot=slot,
            fence=lease.fence,
            client=lease.client,
            document=document.to_bytes(),
            chunks=(bytes(32),),
            blob=blob,
            num_bytes=num_bytes,
        )
        upload_rows.put(db, upload)
        upload_rows.finish(db, upload.id, leaf=leaf.index, receipt=leaf.receipt)
        entry = Contribution(leaf.index, slot, lease.fence, "accepted", "", "{}", leaf.index)
        contribution_rows.add(db, entry)
        filled = Slot("filled", lease.fence, lease.client, lease.member, kept=lease.fence)
        slot_rows.save(db, slot, filled, before=Slot())
        path = self._house.folder.blob(blob)
        with path.open("wb") as file:
            file.write(data or b"")
            file.truncate(num_bytes)
        path.chmod(0o444)

    def lease_again(self, db: sqlite3.Connection, turn: int) -> None:
        """Lease one of the last slots and give it back."""
        slot = self._slots - 1 - turn % _SPARE
        lease = self._lease(db, slot, secrets.token_bytes(32).hex())
        after = Slot("free", lease.fence, lease.client, lease.member)
        slot_rows.save(db, slot, after, before=self._last.get(slot, Slot()))
        self._last[slot] = after

    def _lease(self, db: sqlite3.Connection, slot: int, client: str) -> Lease:
        self._fences[slot] += 1
        fence, name = self._fences[slot], f"wren-{slot}"
        body = lease_leaf(client=client, fence=fence, slot=slot, triggers=(name,))
        leaf = self._house.ledger.append(db, body)
        member = self._members[slot % _MEMBERS]
        lease = Lease(
            member=member,
            request=secrets.token_hex(16),
            slot=slot,
            fence=fence,
            client=client,
            concept=name,
            triggers=(name,),
            vectors=(1,),
            day=0,
            leaf=leaf.index,
        )
        lease_rows.add(db, lease)
        for kind in ("concept", "trigger"):
            claimed = Name(name, member, slot, fence)
            name_rows.claim(db, kind, names.skeleton(name), claimed)
        return lease


def grow(
    root: Path,
    *,
    num_leaves: int,
    num_blobs: int,
    blob_bytes: int = 0,
    blob_of: Callable[[int], bytes] | None = None,
) -> None:
    """Bring a freshly founded folder to this size; no coordinator has it open."""
    folder = DataFolder.open(root)
    with folder.locked(), House(folder, fs=FastFs(), clock=SystemClock()) as house:
        grower = Grower(house, blob_bytes=blob_bytes, blob_of=blob_of)
        todo = [("contribute", slot) for slot in range(num_blobs)]
        todo += [("lease", turn) for turn in range(num_leaves - 2 - 2 * num_blobs)]
        for start in range(0, len(todo), _BATCH):
            house.store.run(lambda db, s=start: _some(grower, db, todo[s : s + _BATCH]))


def _some(grower: Grower, db: sqlite3.Connection, todo: list[tuple[str, int]]) -> None:
    for what, number in todo:
        if what == "contribute":
            grower.contribute(db, number)
        else:
            grower.lease_again(db, number)
