"""Who holds which slot: ``step(state, event) -> (state, actions)``, without I/O or a clock.

    free --Ask--> leased --Commit--> filled --Withdraw | Reject--> emptying --Publish--> free
                    |-- GiveBack; Revoke                       `-- free at once if in no release
                    `-- an Ask after the deadline

    filled --Revise--> revising --Commit | GiveBack | Revoke--> filled    Keep: another one is live
Laws (reliability.md 3): a fence grows by 1 exactly when a lease is granted and never falls (I1); a
commit looks at client and fence, never at the deadline, so late but not overtaken still counts;
a deadline that passes changes nothing until somebody needs the slot; a restart gives each leased
slot a full term; a slot is not leased again while the newest release, or the plan that will become
one, holds its contribution (I5). A corrective lease is of a slot that its own member fills: what it
holds stays the live one (``kept``) through a deadline, a return and a revocation, until ``Keep``
says that another one is; so there is one at any time (I3), and nobody else gets the slot. A seat is
a slot without a block of its own, made when it is needed: whoever leases it trains against that of
its ``home``, and all laws hold for it as for any slot. A home is not free before its seats are (I5:
the block is in use), and seats that hold nothing yet end with what it holds. Times are
monotonic seconds inside events: safety reads no clock (I8). Not here: which of a concept's
contributions stands (holding.py), names, quotas a day, idempotence by request (enrolment.py,
removal.py), and what a release holds (publications.py), each in the same transaction.
"""

from dataclasses import replace
from typing import Final

from ..core.share import MOST_OWNERS
from .slot_events import (
    Action,
    Arrive,
    Ask,
    Back,
    Code,
    Commit,
    Discard,
    Draw,
    Empty,
    Event,
    Fill,
    Free,
    GiveBack,
    Grant,
    Hold,
    Join,
    Keep,
    Publish,
    Refuse,
    Reject,
    Rekey,
    Renew,
    Restart,
    Revise,
    Revoke,
    Withdraw,
)
from .slots import Slot, Slots

_LEASED: Final = ("leased", "revising")
_HOLDING: Final = ("filled", "revising")
_FREEING: Final = (GiveBack, Withdraw, Reject, Revoke, Publish, Discard)
"""After which a slot may be free that was emptying."""


Stepped = tuple[Slots, tuple[Action, ...]]


def step(state: Slots, event: Event) -> Stepped:
    """Advance by one event. Same state and event: same answer, always.

    No action: there was nothing to do, and that is right.
    """
    after, actions = _step(state, event)
    if after is state or not isinstance(event, _FREEING):
        return after, actions
    after, freed = _vacate(after)
    return after, (*actions, *freed)


def _step(state: Slots, event: Event) -> Stepped:  # noqa: C901, PLR0911, PLR0912  # one case an event
    match event:
        case Ask():
            return _ask(state, event)
        case Revise():
            return _revise(state, event)
        case Join():
            return _join(state, event)
        case Renew():
            return _renew(state, event)
        case Arrive():
            return _arrive(state, event)
        case GiveBack(client, index, fence):
            return _give_back(state, client, index, fence)
        case Commit(client, index, fence):
            return _commit(state, client, index, fence)
        case Keep(client, index, fence):
            return _keep(state, client, index, fence)
        case Withdraw(client, index, fence):
            slot = _slot(state, index)
            mine = slot is not None and (slot.keeper, slot.kept) == (client, fence)
            return _empty(state, index, fence) if mine else _not_filled(state, index, fence)
        case Reject(index, fence):
            return _empty(state, index, fence)
        case Revoke(member):
            return _revoke(state, member)
        case Rekey(old, new):
            mine = (replace(s, member=new) if s.member == old else s for s in state.slots)
            return replace(state, slots=tuple(mine)), ()
        case Draw(slots):
            return _draw(state, slots)
        case Publish():
            return _publish(state)
        case Discard():
            return _discard(state)
        case Restart(now_s):
            deadline_s = now_s + state.ttl_s
            restarted = (
                replace(s, seen_s=now_s, deadline_s=deadline_s, progress=-1) for s in state.slots
            )
            return replace(state, slots=tuple(restarted)), ()


def _ask(state: Slots, event: Ask) -> Stepped:
    if _has_live(state, event.member, event.now_s):
        return _quota_used(state)
    own = state.own
    open_slots = len(own) if event.operator else len(own) - state.num_kept
    index = _choose(own[:open_slots], event.now_s)
    if index is None:
        return _refuse(state, "no-free-slot", _full(state, event))
    granted = Slot(
        phase="leased",
        fence=state.slots[index].fence + 1,  # I1
        client=event.client,
        member=event.member,
        seen_s=event.now_s,
        deadline_s=event.now_s + state.ttl_s,
    )
    return _put(state, index, granted), (Grant(index, granted.fence),)


def _revise(state: Slots, event: Revise) -> Stepped:
    """Lease a slot to the member that fills it; what it holds stays (I3), nobody else asks (I5)."""
    if _has_live(state, event.member, event.now_s):
        return _quota_used(state)
    slot = _slot(state, event.slot)
    if (
        slot is None
        or slot.phase not in _HOLDING
        or (slot.member, slot.kept) != (event.member, event.fence)
    ):
        return _not_filled(state, event.slot, event.fence)
    granted = replace(
        slot,
        phase="revising",
        fence=slot.fence + 1,  # I1
        client=event.client,
        held_s=0,
        progress=-1,
        total=0,
        seen_s=event.now_s,
        deadline_s=event.now_s + state.ttl_s,
    )
    return _put(state, event.slot, granted), (Grant(event.slot, granted.fence),)


def _join(state: Slots, event: Join) -> Stepped:
    """Lease a seat beside a slot that holds something: a free one, a late one, or a new one."""
    if _has_live(state, event.member, event.now_s):
        return _quota_used(state)
    home = _slot(state, event.home)
    if home is None or home.is_seat or home.phase not in _HOLDING:
        return _refuse(state, "not-filled", f"slot {event.home} holds nothing to be joined")
    taken = state.seats(event.home)
    late = [
        (state.slots[i].deadline_s, i)
        for i in taken
        if state.slots[i].phase == "leased" and event.now_s >= state.slots[i].deadline_s
    ]
    if len(taken) < MOST_OWNERS - 1:
        index = next((i for i, s in enumerate(state.slots) if s.is_seat and s.phase == "free"), -1)
    elif late:
        index = min(late)[1]
    else:
        what = f"{len(taken) + 1} owners of the concept of slot {event.home}, allowed are"
        return _refuse(state, "no-seat", f"{what} {MOST_OWNERS}")
    if index < 0:
        index = len(state.slots)
        state = replace(state, slots=(*state.slots, Slot(home=event.home)))
    granted = Slot(
        phase="leased",
        fence=state.slots[index].fence + 1,  # I1
        client=event.client,
        member=event.member,
        seen_s=event.now_s,
        deadline_s=event.now_s + state.ttl_s,
        home=event.home,
    )
    return _put(state, index, granted), (Grant(index, granted.fence),)


def _has_live(state: Slots, member: str, now_s: float) -> bool:
    return any(
        s.phase in _LEASED and s.member == member and s.deadline_s > now_s for s in state.slots
    )


def _quota_used(state: Slots) -> Stepped:
    # T1: one live lease a member
    return _refuse(state, "quota-used", "1 live lease of this member, allowed is 1")


def _choose(slots: tuple[Slot, ...], now_s: float) -> int | None:
    """Return the first free slot; if none, the one longest past its deadline."""
    for index, slot in enumerate(slots):
        if slot.phase == "free":
            return index
    late = [
        (slot.deadline_s, index)
        for index, slot in enumerate(slots)
        if slot.phase == "leased" and slot.deadline_s <= now_s
    ]
    return min(late)[1] if late else None


def _full(state: Slots, event: Ask) -> str:
    own = state.own
    num_filled = sum(s.phase in (*_HOLDING, "emptying") for s in own)
    num_leased = sum(s.phase == "leased" for s in own)
    kept = "" if event.operator else f", {state.num_kept} kept for the operator"
    return (
        f"no free slot: of {len(own)} slots {num_filled} are filled and {num_leased} leased{kept}"
    )


def _renew(state: Slots, event: Renew) -> Stepped:
    slot = _leased(state, event.client, event.slot, event.fence)
    if slot is None:
        return _lost(state, event.slot, event.fence)
    passed = max(0, int(event.now_s - slot.seen_s))
    held = min(slot.held_s + min(passed, state.ttl_s), state.hold_s)
    renewed = replace(slot, held_s=held, seen_s=slot.seen_s + passed, total=event.total)
    if event.progress > slot.progress and held < state.hold_s:
        deadline = event.now_s + state.ttl_s
        renewed = replace(renewed, progress=event.progress, deadline_s=deadline)
    return _put(state, event.slot, renewed), (_hold(event.slot, renewed, event.now_s),)


def _arrive(state: Slots, event: Arrive) -> Stepped:
    slot = _leased(state, event.client, event.slot, event.fence)
    if slot is None:
        return _lost(state, event.slot, event.fence)
    if event.advanced and slot.held_s < state.hold_s:
        slot = replace(slot, deadline_s=event.now_s + state.ttl_s)
    return _put(state, event.slot, slot), (_hold(event.slot, slot, event.now_s),)


def _hold(index: int, slot: Slot, now_s: float) -> Hold:
    return Hold(index, ttl_s=max(0, int(slot.deadline_s - now_s)), held_s=slot.held_s)


def _give_back(state: Slots, client: str, index: int, fence: int) -> Stepped:
    slot = _slot(state, index)
    if slot is None or not slot.held_by(client, fence) or slot.phase == "emptying":
        return _lost(state, index, fence)
    if slot.phase == "revising":
        return _put(state, index, replace(slot, phase="filled")), (Back(index),)
    if slot.phase == "filled" and slot.kept == fence:
        return _lost(state, index, fence)
    if slot.phase != "leased":  # a resend
        return state, ()
    return _put(state, index, replace(slot, phase="free")), (Free(index),)


def _commit(state: Slots, client: str, index: int, fence: int) -> Stepped:
    slot = _leased(state, client, index, fence)
    # The deadline is not looked at: late but not overtaken still counts.
    if slot is None:
        return _lost(state, index, fence)
    if slot.phase == "leased":
        slot = replace(slot, kept=fence, keeper=client)
    return _put(state, index, replace(slot, phase="filled")), (Fill(index),)


def _keep(state: Slots, client: str, index: int, fence: int) -> Stepped:
    """Make another of the concept's contributions the live one; the asker says it is there."""
    slot = _slot(state, index)
    newest = slot.fence - (slot.phase == "revising") if slot is not None else 0
    if slot is None or slot.phase not in _HOLDING or not 1 <= fence <= newest:
        return _not_filled(state, index, fence)
    if slot.kept == fence:
        return state, ()
    return _put(state, index, replace(slot, kept=fence, keeper=client)), (Fill(index),)


def _empty(state: Slots, index: int, fence: int) -> Stepped:
    """Take the contribution out; I5: the slot is free only when no release holds it."""
    slot = _slot(state, index)
    if slot is None or slot.phase not in _HOLDING or slot.kept != fence:
        return _not_filled(state, index, fence)
    actions: list[Action] = []
    for seat in state.seats(index):  # who has sent nothing yet is in nothing: the owner's word ends
        if state.slots[seat].phase == "leased":
            state = _put(state, seat, replace(state.slots[seat], phase="free"))
            actions.append(Free(seat))
    if _is_bound(state, index):
        return _put(state, index, replace(slot, phase="emptying")), (*actions, Empty(index))
    return _put(state, index, _freed(slot)), (*actions, Free(index))


def _is_bound(state: Slots, index: int) -> bool:
    """Return whether a release, the open plan, or a seat still uses the slot's block (I5)."""
    if state.seats(index):
        return True
    return index in state.released or index in (state.planned or ())


def _vacate(state: Slots) -> Stepped:
    """Free what was emptying and is in use no more; seats first, their homes after them."""
    freed: list[Action] = []
    for index in sorted(
        (i for i, slot in enumerate(state.slots) if slot.phase == "emptying"),
        key=lambda i: (not state.slots[i].is_seat, i),
    ):
        if not _is_bound(state, index):
            state = _put(state, index, _freed(state.slots[index]))
            freed.append(Free(index))
    return state, tuple(freed)


def _freed(slot: Slot) -> Slot:
    return replace(slot, phase="free", kept=0, keeper="")


def _revoke(state: Slots, member: str) -> Stepped:
    """End every lease of the member, late ones too: a late commit must not count any more."""
    actions: list[Action] = []
    for index, slot in enumerate(state.slots):
        if slot.member != member or slot.phase not in _LEASED:
            continue
        if slot.phase == "leased":
            state = _put(state, index, replace(slot, phase="free"))
            actions.append(Free(index))
        else:
            state = _put(state, index, replace(slot, phase="filled"))
            actions.append(Back(index))
    return state, tuple(actions)


def _draw(state: Slots, slots: frozenset[int]) -> Stepped:
    filled = {index for index, slot in enumerate(state.slots) if slot.phase in _HOLDING}
    if state.planned is not None or not slots <= filled:
        what = "a plan that another one precedes, or that holds a slot without a contribution"
        return _refuse(state, "plan-differs", what)
    return replace(state, planned=slots), ()


def _publish(state: Slots) -> Stepped:
    """Make the plan the newest release; what it leaves out and was emptying is free."""
    if state.planned is None:
        return _refuse(state, "plan-differs", "no plan is open")
    return replace(state, released=state.planned, planned=None), ()


def _discard(state: Slots) -> Stepped:
    """Give the plan up; what was emptying for it alone is free."""
    if state.planned is None:
        return _refuse(state, "plan-differs", "no plan is open")
    return replace(state, planned=None), ()


def _slot(state: Slots, index: int) -> Slot | None:
    return state.slots[index] if 0 <= index < len(state.slots) else None


def _leased(state: Slots, client: str, index: int, fence: int) -> Slot | None:
    """Return the slot if this client holds it at this fence; T2: never by the fence alone."""
    slot = _slot(state, index)
    if slot is None or slot.phase not in _LEASED or not slot.held_by(client, fence):
        return None
    return slot


def _lost(state: Slots, index: int, fence: int) -> Stepped:
    what = f"slot {index} is not leased to this client at fence {fence}"
    return _refuse(state, "lease-lost", what)


def _not_filled(state: Slots, index: int, fence: int) -> Stepped:
    what = f"slot {index} holds no contribution of this client at fence {fence}"
    return _refuse(state, "not-filled", what)


def _refuse(state: Slots, code: Code, what: str) -> Stepped:
    return state, (Refuse(code, what),)


def _put(state: Slots, index: int, slot: Slot) -> Slots:
    return replace(state, slots=(*state.slots[:index], slot, *state.slots[index + 1 :]))
