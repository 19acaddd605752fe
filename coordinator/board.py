"""The slots in memory, kept in step with the store: one turn, one transaction.

Laws: a turn steps the state machine and writes the changed rows; memory takes the new state after
COMMIT, in the writer thread, so a rolled-back turn leaves no trace and no two turns overlap
(reliability.md 2.2); of turns that share a transaction, each starts from the one before. Deadlines
live in memory only (reliability.md 3), so what moves nothing else, nearly every renewal, takes no
turn: ``keep`` steps memory under a lock and waits for no disk. Only before the deadline: a turn
that is under way then cannot have given the slot to somebody else. Of the seconds held, fewer than
``_GRAIN_S`` are in memory alone: a restart forgets those. Not here: what is allowed (leases.py).
"""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from ..core.errors import LeaseLost, OrthoFedError, Refused
from . import leases, slot_rows
from .clock import Clock
from .slot_events import Action, Arrive, Commit, Event, Refuse, Renew
from .slots import Slot, Slots
from .store import Store

_GRAIN_S = 60
_T = TypeVar("_T")


class Turn:
    """One transaction over rows and slots."""

    def __init__(self, db: sqlite3.Connection, state: Slots) -> None:
        """Start from the committed state."""
        self.db = db
        self.state = state

    def step(self, event: Event) -> tuple[Action, ...]:
        """Step the slots and write what changed; raises what a Refuse means."""
        before = self.state
        self.state, actions = leases.step(before, event)
        _check(actions)
        for index, (old, new) in enumerate(zip(before.slots, self.state.slots, strict=False)):
            if old is new:  # all but one or two: with 1,000 slots that is most of a turn's time
                continue
            if _saved(old) != _saved(new):
                slot_rows.save(self.db, index, new, before=old)
        for index in range(len(before.slots), len(self.state.slots)):  # a new seat
            slot_rows.add_seat(self.db, index, self.state.slots[index])
        return actions

    def check_held(self, client: str, slot: int, fence: int) -> None:
        """Raise LeaseLost unless this client leases the slot at this fence; changes nothing."""
        _check(leases.step(self.state, Commit(client, slot, fence))[1])


class Board:
    """The slots; every look and every change is a turn, but for ``keep``."""

    def __init__(self, store: Store, state: Slots, clock: Clock) -> None:
        """Take over the committed state; after a restart with ``slot_events.Restart`` stepped."""
        self._store = store
        self._state = state
        self._clock = clock
        self._lock = threading.Lock()
        # Turns that are done and not yet on the disk, in order: before and after each.
        self._undecided: deque[tuple[Slots, Slots]] = deque()

    @property
    def state(self) -> Slots:
        """The committed slots of a moment ago, for looks that may be one turn late."""
        return self._state

    def check_held(self, client: str, slot: int, fence: int) -> None:
        """Raise LeaseLost unless the client holds the slot at this fence, as of a moment ago."""
        _check(leases.step(self._state, Commit(client, slot, fence))[1])

    def keep(self, event_at: Callable[[float], Renew | Arrive]) -> tuple[Action, ...]:
        """Step an event that moves a deadline, in memory where that is enough; give the time."""
        with self._lock:
            # Read here: a turn under way looked at the clock before, so if the deadline is not
            # over by now, no turn can have taken it for over.
            now_s = self._clock.monotonic_s()
            event = event_at(now_s)
            state, actions = leases.step(self._state, event)
            _check(actions)
            if _is_soft(self._state.slots[event.slot], state.slots[event.slot], now_s):
                self._state = state
                return actions
        return self.run(lambda turn: turn.step(event))

    def run(self, work: Callable[[Turn], _T], *, synced: bool = True) -> _T:
        """Return what ``work`` returns, once its turn is on the disk.

        Not ``synced``: a power cut may take it back, so ``work`` steps no slot.
        """

        def transact(db: sqlite3.Connection) -> _T:
            before = self._state
            for earlier in self._undecided:  # they share this transaction
                before = _joined(*earlier, before)
            turn = Turn(db, before)
            result = work(turn)
            self._undecided.append((before, turn.state))
            return result

        def adopt(_: _T) -> None:
            before, after = self._undecided.popleft()
            with self._lock:
                self._state = _joined(before, after, self._state)

        return self._store.run(transact, after=adopt, undo=self._drop_newest, synced=synced)

    def _drop_newest(self) -> None:
        self._undecided.pop()


def _saved(slot: Slot) -> tuple[str | int, ...]:
    """Return what a row has of a slot."""
    return slot.phase, slot.fence, slot.client, slot.member, slot.held_s, slot.kept, slot.home


def _is_soft(old: Slot, new: Slot, now_s: float) -> bool:
    """Return whether a step changed nothing that a row has to hold, nor one that is over."""
    return now_s < old.deadline_s and old.held_s // _GRAIN_S == new.held_s // _GRAIN_S


def _joined(before: Slots, after: Slots, now: Slots) -> Slots:
    """Return what a turn made of ``before``, with the deadlines that moved meanwhile."""
    if now is before:
        return after
    each = zip(
        before.slots, after.slots, now.slots, strict=False
    )  # seats that the turn made: after
    joined = tuple(n if b is a else a for b, a, n in each)
    return replace(after, slots=(*joined, *after.slots[len(joined) :]))


def _check(actions: tuple[Action, ...]) -> None:
    for action in actions:
        if isinstance(action, Refuse):
            raise _refusal(action)


def _refusal(action: Refuse) -> OrthoFedError:
    match action.code:
        case "lease-lost":
            return LeaseLost(
                action.what,
                why="it was given back, filled, or given to somebody who needed it",
                fix="lease again; A is trained again for the new slot",
                code=action.code,
            )
        case "no-free-slot":
            return Refused(
                action.what,
                why="every concept owns its slot, and the federation's spec fixes their number",
                fix="try again when a lease has ended, or ask the operator for another federation",
                code=action.code,
            )
        case "quota-used":
            return Refused(
                action.what,
                why="one member holds one lease at a time, so that no one squats on slots",
                fix="finish or give back the other lease first",
                code=action.code,
            )
        case "not-filled":
            return Refused(
                action.what,
                why="only a contribution that fills its slot can be taken out",
                fix="look at the status of the lease; it may be out already",
                code=action.code,
            )
        case "no-seat":
            return Refused(
                action.what,
                why="the weights of a shared concept stay a few whole 1024ths each",
                fix="ask its first owner; one of the others may leave it",
                code=action.code,
            )
        case "plan-differs":
            return OrthoFedError(
                action.what,
                why="the releases in the database and the slots in memory disagree",
                fix="restart the coordinator, then run orthofed doctor",
                code=action.code,
            )
