"""The slots and seats as they are held at one moment: frozen, and compared by value.

A slot owns a block of the basis; a seat is a slot without one of its own, made when it is needed,
and trains against that of its ``home``. Times are monotonic seconds. Not here: what may follow
(leases.py), the rows (slot_rows.py).
"""

from dataclasses import dataclass
from typing import Literal

Phase = Literal["free", "leased", "filled", "revising", "emptying"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot. ``client`` and ``member`` are the last holder's; times are monotonic seconds.

    ``kept``: the fence of the contribution that the slot holds, 0 when it holds none; ``keeper``:
    whose client key that is. Both are the last holder's, but after a corrective lease. ``total``:
    what ``progress`` comes to, by the holder's word, 0 for not said; no law looks at it. ``home``:
    of a seat, the slot whose block its last lease is of; -1 for a slot.
    """

    phase: Phase = "free"
    fence: int = 0
    client: str = ""
    member: str = ""
    held_s: int = 0
    progress: int = -1
    seen_s: float = 0.0
    deadline_s: float = 0.0
    kept: int = 0
    keeper: str = ""
    total: int = 0
    home: int = -1

    @property
    def is_seat(self) -> bool:
        """Whether it has no block of its own."""
        return self.home >= 0

    def held_by(self, client: str, fence: int) -> bool:
        """Return whether this client holds the slot's newest fence; no clock is read."""
        return (self.client, self.fence) == (client, fence)


@dataclass(frozen=True, slots=True)
class Slots:
    """All slots, then all seats; the last ``num_kept`` slots are for the operator's members only.

    ``released``: slots whose contribution the newest release holds. ``planned``: those of the open
    plan, None when no plan is open.
    """

    slots: tuple[Slot, ...]
    ttl_s: int
    hold_s: int
    num_kept: int = 0
    released: frozenset[int] = frozenset()
    planned: frozenset[int] | None = None

    @property
    def num_free(self) -> int:
        """Slots that were never leased or given back, of those that are for everybody."""
        everybodys = self.own[: len(self.own) - self.num_kept]
        return sum(slot.phase == "free" for slot in everybodys)

    @property
    def own(self) -> tuple[Slot, ...]:
        """The slots without the seats."""
        return tuple(slot for slot in self.slots if not slot.is_seat)

    def seats(self, home: int) -> tuple[int, ...]:
        """Return the seats of a slot that are not free."""
        return tuple(
            index
            for index, slot in enumerate(self.slots)
            if slot.home == home and slot.phase != "free"
        )
