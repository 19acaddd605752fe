"""One history of the real store: how a step is asked, killed, and held to what is due.

``_step`` asks the house (crash_house.py) and the model (store_world.py); with ``kill`` the life
ends at that moment of the step, or just after its answer. A killed step must have happened or not,
an answered one must have. Each history ends with every client asking for its receipt and the store
check of the closed folder. ``figures`` counts. Not here: what is asked (store_machine.py).
"""

import hashlib
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from hypothesis.stateful import RuleBasedStateMachine, invariant

from orthofed.core.errors import OrthoFedError
from orthofed.core.invite import Invite
from orthofed.core.keys import SigningKey
from orthofed.core.spec import FederationSpec

from .crash_house import CrashHouse
from .direct import Direct
from .member import Given, Leased, Member, Packed, Shared
from .store_check import check, check_open
from .store_rows import Known, rows
from .store_world import LOUD, Place, Upload, World
from .uploaders import quick_blob

T = TypeVar("T")


@dataclass(frozen=True)
class Founded:
    """A founded folder with members; every history starts from it."""

    folder: Path
    invite: Invite
    keys: tuple[SigningKey, ...]
    spec: FederationSpec


class StorePlay(RuleBasedStateMachine):
    """One history; who adds rules also says how an open release is finished."""

    founded: Founded
    figures: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        place = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # no disk is waited for
        self.scratch = Path(tempfile.mkdtemp(prefix="of-machine-", dir=place))
        self.house = CrashHouse(self.founded.folder, self.scratch)
        spec = self.founded.spec
        self.world = World(tuple(Place() for _ in range(spec.capacity)))
        self.asked: list[tuple[int, str, int | None, bool]] = []
        self.known = Known()
        self.receipts: dict[int, bytes] = {}
        self.heard: dict[int, bytes] = {}
        self.bodies: list[bytes] = []
        self.packed: dict[tuple[int, int], Packed] = {}
        self.blobs = [quick_blob(spec, seed=v, loud=v == LOUD) for v in range(2)]
        for variant, blob in enumerate(self.blobs):
            self.known.variants[hashlib.sha256(blob).hexdigest()] = variant

    def teardown(self) -> None:
        try:
            self._settle()
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def finish_release(self) -> None:
        """Build and publish until no plan is open."""
        raise NotImplementedError

    @invariant()
    def every_row_is_due_and_every_law_kept(self) -> None:
        found = self._rows()
        assert found == self.world.rows()
        checked = self._run(lambda db: check_open(db, self.house.folder.root))
        assert not checked.violations, checked.violations
        bodies = self._run(lambda db: [r[0] for r in db.execute("SELECT body FROM leaf")])
        assert bodies[: len(self.bodies)] == self.bodies, "I7: the ledger only grows"
        self.bodies = bodies

    def _step(
        self,
        due: Callable[[float], tuple[str, World]],
        ask: Callable[[], str],
        kill: int | None,
        start: int,
        *,
        half: Callable[[World], World] = lambda after: after,
    ) -> None:
        """Ask, and hold the answer and what is left after a kill to what is due."""
        clock = self.house.clock
        clock.monotonic += 1
        clock.wall += 1
        self.figures["steps"] += 1
        before = self.world
        wanted, after = due(clock.monotonic)
        with self.house.during(kill or 0):
            try:
                answer = ask()
            except OrthoFedError as error:
                answer = error.code
        assert answer == wanted, f"{answer} where {wanted} was due"
        self.world = after
        inside = self.house.imaged
        if not inside:  # else the answer was never sent
            self.receipts |= self.heard
        self.heard = {}
        if kill is None:
            return
        self.figures["kills inside a step" if inside else "kills after an answer"] += 1
        self.house.killed(start_moment=start)
        found = self._rows(), self._whole()
        possible = [before, half(after), after] if inside else [after]
        fits = [world for world in possible if (world.rows(), self._held(world)) == found]
        assert fits, "a killed step happened by half, or an answered one is lost"
        self.world = fits[-1].restarted(clock.monotonic)

    def _settle(self) -> None:
        """Let clients ask for their receipts, finish what is open, check the closed folder."""
        for (slot, fence), upload in self.world.uploads.items():
            if upload.leaf is not None:
                number = next(x.number for x in self.world.leases.values() if x.at == (slot, fence))
                self.house.clock.monotonic += 1
                receipt = self._member(0).commit(self._pack(number, upload.variant)).receipt
                self._receipt(receipt)
        self.receipts |= self.heard
        self.finish_release()
        self.house.house.sweep()
        self.house.close()
        granted = [
            (client_key(x.number).public_hex, x.slot, x.fence) for x in self.world.leases.values()
        ]
        receipts = list(self.receipts.values())
        found = check(self.house.folder.root, receipts, granted=granted, settled=True)
        assert not found.violations, found.violations
        self.figures["receipts"] += len(receipts)
        self.figures["releases"] += self.world.num_releases
        self.figures["histories"] += 1

    def _receipt(self, receipt: bytes) -> str:
        leaf = int(receipt.split(b"\n")[2].removeprefix(b"index "))
        assert self.receipts.get(leaf, receipt) == receipt, "another receipt than before"
        self.heard[leaf] = receipt
        return f"receipt {leaf}"

    def _member(self, number: int) -> Member:
        link = Direct(self.house.service, self.founded.invite, now_s=self.house.clock.wall_s)
        member = Member(link, self.founded.keys[number])
        member.spec = lambda: self.founded.spec
        return member

    def _pick(self, back: int) -> int:
        numbers = list(self.world.leases)
        return numbers[max(0, len(numbers) - 1 - back)]

    def _pick_contributed(self, back: int) -> int:
        """Return the number of a lease that has a contribution, if there is one."""
        made = {at for at, _ in self.world.contributions.values()}
        numbers = [x.number for x in self.world.leases.values() if x.at in made]
        return numbers[max(0, len(numbers) - 1 - back)] if numbers else self._pick(back)

    def _at(self, back: int, fence: int) -> tuple[int, int]:
        lease = self.world.leases[self._pick(back)]
        return lease.slot, max(1, lease.fence + fence)

    def _pack(self, number: int, variant: int) -> Packed:
        if (number, variant) not in self.packed:
            lease = self.world.leases[number]
            key = client_key(number)
            place = (lease.slot, lease.fence)
            given = self._given(lease.replaces) if lease.replaces else None
            share = self._shared(lease.share) if lease.share else None
            leased = Leased(key, lease.name, (lease.name,), (1,), *place, given, share)
            packed = self._member(0).pack(leased, blob=self.blobs[variant], count=1)
            self.packed[number, variant] = packed
        return self.packed[number, variant]

    def _given(self, leaf: int) -> Given:
        """Return a contribution as its owner knows it."""
        at, _ = self.world.contributions[leaf]
        number = next(x.number for x in self.world.leases.values() if x.at == at)
        return Given(leaf, client_key(number))

    def _shared(self, leaf: int) -> Shared:
        """Return the share that the owner of a contribution gives, always the same one."""
        at, _ = self.world.contributions[leaf]
        lease = next(x for x in self.world.leases.values() if x.at == at)
        secret = SigningKey.from_seed(hashlib.sha256(b"share %d" % leaf).digest())
        return self._member(0).share(
            Leased(client_key(lease.number), lease.name, (lease.name,), (1,), *at),
            leaf,
            images=1,
            uses=15,
            secret=secret,
        )

    def _rows(self) -> object:
        return self._run(lambda db: rows(db, self.known))

    def _run(self, look: Callable[[sqlite3.Connection], T]) -> T:
        return self.house.house.store.run(look)

    def _held(self, world: World) -> dict[tuple[int, int], tuple[bool, bool]]:
        return {at: (upload.part, upload.whole) for at, upload in _open(world).items()}

    def _whole(self) -> dict[tuple[int, int], tuple[bool, bool]]:
        """Return which uploads under way have their part on the disk, and their chunk in it."""
        found: dict[tuple[int, int], tuple[bool, bool]] = {}
        for slot, fence, upload_id, blob in self._run(
            lambda db: db.execute(
                "SELECT u.slot, u.fence, u.id, u.blob FROM upload u JOIN slot s ON s.id = u.slot"
                " AND s.fence = u.fence WHERE u.leaf IS NULL AND s.state IN ('leased', 'revising')"
            ).fetchall()
        ):
            part = self.house.folder.part / upload_id.hex()
            data = part.read_bytes() if part.exists() else b""
            found[slot, fence] = part.exists(), hashlib.sha256(data).hexdigest() == blob
        return found


def client_key(number: int) -> SigningKey:
    """Return the key of the ``number``-th request for a lease."""
    return SigningKey.from_seed(hashlib.sha256(b"client %d" % number).digest())


def _open(world: World) -> dict[tuple[int, int], Upload]:
    return {
        (slot, place.fence): world.uploads[slot, place.fence]
        for slot, place in enumerate(world.places)
        if place.state in ("leased", "revising")
        and (slot, place.fence) in world.uploads
        and world.uploads[slot, place.fence].leaf is None
    }
