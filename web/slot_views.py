"""What the map of slots and the list of running leases say, from facts alone.

Law: what a client reported is shown as its word and decides nothing; a share is 0 to 100 whatever
it said. A contribution that waits is told from one that counts by word and not by colour alone.
"""

from dataclasses import dataclass

from .operator_facts import SlotFacts
from .wording import legible, span_text

LEASED = ("leased", "revising")
KINDS = {
    "free": "free",
    "leased": "leased",
    "filled": "contributed",
    "revising": "contributed, its owner trains again",
    "quarantined": "waits for you or the worker",
    "emptying": "withdrawn, in the newest release still",
}
_LEFT = "its first owner has left, others teach it on"

_KEY = 16


@dataclass(frozen=True, slots=True)
class SlotView:
    """One cell of the map."""

    number: int
    kind: str
    label: str
    concept: str
    note: str
    href: str


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """One lease that runs; ``percent``: how much is done, None where its client does not say."""

    slot: int
    fence: int
    concept: str
    member: str
    progress: str
    percent: int | None
    held: str
    left: str
    is_late: bool


def slot_view(slot: SlotFacts) -> SlotView:
    """Return one cell of the map."""
    if slot.kind in LEASED:
        note = "overdue" if slot.left_s <= 0 else f"{span_text(slot.left_s)} left"
        done = _percent(slot)
        note = note if done is None else f"{done} %, {note}"
        note = "uploading" if slot.is_uploading else note
    else:
        note = "for the operator" if slot.kept and slot.kind == "free" else ""
        note = f"{slot.owners} owners" if slot.owners > 1 else note
    href = "" if slot.leaf is None else f"/operator/contributions/{slot.leaf}"
    return SlotView(
        number=slot.index,
        kind=slot.kind,
        label=_LEFT if slot.kind == "emptying" and slot.owners else KINDS[slot.kind],
        concept=legible(slot.concept, 31),
        note=note,
        href=href,
    )


def lease_row(slot: SlotFacts) -> LeaseRow:
    """Return one running lease."""
    return LeaseRow(
        slot=slot.index,
        fence=slot.fence,
        concept=legible(slot.concept),
        member=slot.member[:_KEY],
        progress="uploading" if slot.is_uploading else _steps(slot),
        percent=_percent(slot),
        held=span_text(slot.held_s),
        left="overdue: it goes to who asks" if slot.left_s <= 0 else span_text(slot.left_s),
        is_late=slot.left_s <= 0,
    )


def _percent(slot: SlotFacts) -> int | None:
    """Return how much is done by the client's word, 0 to 100; None: it said no total."""
    if slot.progress < 0 or slot.total < 1:
        return None
    return min(100, 100 * slot.progress // slot.total)


def _steps(slot: SlotFacts) -> str:
    if slot.progress < 0:
        return "nothing reported yet"
    if slot.total < 1:
        return f"step {slot.progress:,}"
    if slot.progress >= slot.total:
        return f"step {slot.total:,} of {slot.total:,}, not sent yet"
    return f"step {slot.progress:,} of {slot.total:,}"
