"""Reads what the operator's pages show: the desk's own answers, and the committed slots.

Law: nothing is changed here; what changes something goes through the audited desk
(operator_pages.py). Cost: a page is some look-ups in one transaction each.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from ..coordinator import (
    contribution_rows,
    evidence,
    lease_rows,
    publications,
    scores,
    upload_rows,
)
from ..coordinator.backup import last_backup_s
from ..coordinator.control import Desk
from ..coordinator.evidence import LIVE as _LIVE
from ..coordinator.evidence_taken import PICTURED
from ..coordinator.house import House
from ..coordinator.lease_rows import Lease
from ..coordinator.measured import MEASURED
from ..coordinator.slots import Slot
from ..coordinator.tls import certificate_until_s
from ..coordinator.verdicts import APPROVED
from ..core.errors import Refused
from ..core.slots import upload_bytes
from .operator_facts import (
    ContributionFacts,
    HouseFacts,
    InviteFacts,
    JobFacts,
    Kind,
    PolicyFacts,
    ScoreFacts,
    SlotFacts,
)

_RELEASES = 8
"""Releases of the retention matrix: the newest ones."""
_F16_BYTES = 2
_HELD = ("filled", "revising", "emptying")
_WAITS = ("quarantined", "pending")


class OperatorReader:
    """The operator's side of one coordinator; for any number of threads."""

    def __init__(self, house: House, desk: Desk, job: Callable[[], JobFacts | None]) -> None:
        """Look through ``desk``, at what changes nothing."""
        self._house = house
        self._desk = desk
        self._job = job

    def mark(self) -> object:
        """Return what differs when there is news for the operator."""
        state, now_s = self._house.board.state, self._house.clock.monotonic_s()
        slots = [
            (s.phase, s.fence, s.progress, s.total, s.phase == "leased" and s.deadline_s > now_s)
            for s in state.slots
        ]
        status = self._desk.ask("status", {})
        numbers = [status[key] for key in ("ledger_size", "newest_release", "plan_open", "members")]
        return repr((slots, numbers, self._house.store.run(scores.mark), self._job()))

    def house(self) -> HouseFacts:
        """Return the house as a whole."""
        house, status = self._house, self._desk.ask("status", {})
        spec, folder = house.facts.spec, house.folder
        contributions = self.contributions()
        released = house.store.run(publications.newest)
        ranks = [spec.layer_rank(layer) for layer in spec.layers]
        sides = [layer.out + layer.width for layer in spec.layers]
        return HouseFacts(
            name=status["name"],
            folder=folder.root.name,
            now=house.clock.wall_s(),
            capacity=status["capacity"],
            kept_for_operator=status["kept_for_operator"],
            slots=self._slots(contributions, status["kept_for_operator"]),
            contributions=contributions,
            members=status["members"]["standing"],
            revoked=status["members"]["revoked"],
            ledger_size=status["ledger_size"],
            newest_release=status["newest_release"],
            released=0 if released is None else released.plan.t,
            plan_open=status["plan_open"],
            free_bytes=status["free_bytes"],
            upload_bytes=upload_bytes(spec.layers, dict(spec.ranks)),
            concept_bytes=_F16_BYTES * sum(r * s for r, s in zip(ranks, sides, strict=True)),
            last_backup=last_backup_s(folder),
            certificate_until=int(certificate_until_s(folder.keys)),
            keyring_until=house.facts.ring.until,
            policy=self._policy(),
            job=self._job(),
        )

    def contributions(self) -> tuple[ContributionFacts, ...]:
        """Return every contribution by leaf."""
        listed = self._desk.ask("contributions", {})["contributions"]
        return tuple(_contribution(each) for each in listed)

    def invites(self) -> tuple[InviteFacts, ...]:
        """Return every invite, the newest first."""
        return tuple(
            InviteFacts(
                key=each["key"],
                uses_left=each["uses_left"],
                until=each["until"],
                is_operators=bool(each["operator"]),
                members=each["members"],
            )
            for each in self._desk.ask("invites", {})["invites"]
        )

    def scores(self) -> tuple[ScoreFacts, ...]:
        """Return what owners measured in the newest releases."""
        numbers = self._house.store.run(publications.numbers)[-_RELEASES:]
        found = list[ScoreFacts]()
        for n in numbers:
            table = self._desk.ask("retention", {"release": n})
            found += [
                ScoreFacts(
                    concept=row["concept"],
                    leaf=row["leaf"],
                    release=n,
                    retention=row["retention"],
                    suffers=row["suffers"],
                    pictures=0 if row["measured"] is None else row["measured"]["pictures"],
                )
                for row in table["concepts"]
            ]
        return tuple(found)

    def contribution(self, leaf: int) -> ContributionFacts:
        """Return one contribution. Raises Refused: there is none."""
        for each in self.contributions():
            if each.leaf == leaf:
                there = evidence.names(self._house.folder, leaf) if each.state in _LIVE else ()
                return replace(each, pictures=there)
        raise Refused(
            f"leaf {leaf} is no contribution",
            why="the number of a contribution is that of its leaf in the ledger",
            fix="choose one from the list",
            code="not-found",
        )

    def picture(self, leaf: int, name: str) -> bytes:
        """Return a picture of one contribution that is there. Raises Refused: there is none."""
        if name not in self.contribution(leaf).pictures:
            name = ""
        return evidence.picture(self._house.folder, leaf, name)

    def policy(self) -> PolicyFacts:
        """Return the thresholds in force."""
        return self._policy()

    def _policy(self) -> PolicyFacts:
        policy = self._house.settings.admission
        limits = {
            each.name: value
            for each in fields(policy)
            if type(value := getattr(policy, each.name)) is int
        }
        prompt = self._house.facts.spec.prompt
        return PolicyFacts(limits, policy.kept_percent, policy.worker, policy.pictures, prompt)

    def _slots(
        self, contributions: tuple[ContributionFacts, ...], kept: int
    ) -> tuple[SlotFacts, ...]:
        state, now_s = self._house.board.state, self._house.clock.monotonic_s()

        def look(
            db: sqlite3.Connection,
        ) -> tuple[dict[tuple[int, int], Lease], dict[tuple[int, int], int], set[int]]:
            leases = {(lease.slot, lease.fence): lease for lease in lease_rows.every(db)}
            leaves = {(each.slot, each.fence): each.leaf for each in contribution_rows.every(db)}
            return leases, leaves, {slot for _, slot in upload_rows.still_open(db)}

        leases, leaves, uploading = self._house.store.run(look)
        by_leaf = {each.leaf: each for each in contributions}
        owners = Counter(
            slot.home if slot.is_seat else index
            for index, slot in enumerate(state.slots)
            if slot.kept and slot.phase != "emptying"
        )
        found = list[SlotFacts]()
        for index, slot in enumerate(state.slots):
            lease = leases.get((index, slot.fence))
            leaf = leaves.get((index, slot.kept)) if slot.phase in _HELD else None
            held = None if leaf is None else by_leaf.get(leaf)  # not the newest: what it holds
            found.append(
                SlotFacts(
                    index=index,
                    kind=_kind(slot, held),
                    kept=not slot.is_seat and index >= len(state.own) - kept,
                    concept="" if lease is None or slot.phase == "free" else lease.concept,
                    member="" if slot.phase == "free" else slot.member,
                    fence=slot.fence,
                    left_s=slot.deadline_s - now_s,
                    held_s=slot.held_s,
                    progress=slot.progress,
                    total=slot.total,
                    is_uploading=index in uploading,
                    leaf=None if held is None else held.leaf,
                    home=slot.home,
                    owners=owners[index],
                )
            )
        return tuple(found)


def _kind(slot: Slot, held: ContributionFacts | None) -> Kind:
    if slot.phase == "filled" and held is not None and held.state in _WAITS:
        return "quarantined"
    return slot.phase


def _contribution(said: dict[str, Any]) -> ContributionFacts:
    figures: dict[str, Any] = said["figures"]
    return ContributionFacts(
        leaf=said["leaf"],
        slot=said["slot"],
        concept=said["concept"],
        triggers=tuple(said["triggers"]),
        member=said["member"],
        is_revoked=said["revoked"],
        state=said["state"],
        why=said["why"],
        is_approved=bool(figures.get(APPROVED)),
        figures={
            key: float(value)
            for key, value in figures.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        },
        layers=tuple(float(each) for each in figures.get("layers", ())),
        pairs={int(k): (float(a), float(b)) for k, (a, b) in figures.get("pairs", {}).items()},
        on_base={int(k): float(v) for k, v in figures.get(MEASURED, {}).items()},
        drawn_with=int(figures.get(PICTURED, 0)),
    )
