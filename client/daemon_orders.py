"""How orders enter into what the daemon does: judged by the owner's policy, tied to the queue.

    train      a concept of the queue: its task; withdrawn before, it is taught anew
    score      a concept that was packed here, against a published release; figures leave only with
               ``gate = "policy"``
    withdraw   the owner is asked, unless ``withdraw = "policy"``

Laws: an order of a train kind adds no second training, it follows the concept's own task; only the
settings name folders, an order names a concept; when nobody can be asked, pauses grow to fifteen
minutes, with jitter. Pure, as daemon.py is. Source: flower.md 6.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from .correction import CORRECTING
from .daemon_state import Ended, Opened, State
from .order_book import Held, Order, OrderState

_EVERY_S: Final = 60.0
_LONGEST_S: Final = 900.0
_HINTED_S: Final = 3.0
"""At least between two questions to the coordinator, however often a courier comes."""
_MOST_CODE: Final = 64
_STANDS: Final = frozenset({"receipted", CORRECTING})
"""Phases of a concept whose contribution is in the ledger."""
_PACKED: Final = frozenset({"packed", "approved", *_STANDS})


def hinted(state: State, order: Order) -> State:
    """Return the state after a courier's request: unknown orders are asked for soon."""
    book = state.book.asked(order)
    if book is state.book:
        return state
    soon_s = max(state.now.mono_s, state.polled_s + _HINTED_S)
    return replace(state, book=book, poll_s=min(state.poll_s, soon_s))


def opened(state: State, told: Opened) -> State:
    """Return the state after the coordinator said which orders are open."""
    judged: dict[str, Held] = {}
    for order in told.orders:
        if state.book.of(order.id) is None:
            state, judged[order.id] = _judged(state, order, told.phases.get(order.concept, ""))
    book = state.book.told(told.orders, judged)
    next_s = state.now.mono_s + _EVERY_S
    return replace(state, book=book, polling=False, poll_tries=0, poll_s=next_s)


def unanswered(state: State, roll: float) -> State:
    """Return the state after nobody could be asked."""
    longest = min(_LONGEST_S, _EVERY_S * 2.0 ** min(state.poll_tries, 10))
    next_s = state.now.mono_s + longest * (0.5 + roll / 2)
    return replace(state, polling=False, poll_tries=state.poll_tries + 1, poll_s=next_s)


def carried_out(state: State, ended: Ended, *, again: bool) -> State:
    """Return the state after the process of the order ended; ``again``: it goes on later."""
    order_id = state.order
    state = replace(state, order="")
    if not ended.code:
        return replace(state, book=state.book.now(order_id, "done"))
    if again:
        wait_s = 1.0 + ended.roll * _EVERY_S
        book = state.book.now(order_id, "queued", ended.code[:_MOST_CODE])
        return replace(state, book=book, orders_s=state.now.mono_s + wait_s)
    return replace(state, book=state.book.now(order_id, "refused", ended.code[:_MOST_CODE]))


def followed(state: State) -> State:
    """Return the state in which the orders to train stand where their concepts' tasks do."""
    book = state.book
    for each in book.held:
        if each.is_final or each.order.kind != "train" or not state.has(each.order.concept):
            continue
        task = state.task(each.order.concept)
        code = task.wait.reason.replace(" ", "-").lower() if task.wait is not None else ""
        if (each.state, each.code) != (task.state, code):
            book = book.now(each.order.id, task.state, code)
    return state if book is state.book else replace(state, book=book)


def found_withdrawn(state: State, concept: str) -> State:
    """Return the state after ``concept`` was seen to be withdrawn."""
    book = state.book
    for each in book.held:
        if (each.order.kind, each.order.concept) == ("withdraw", concept) and not each.is_final:
            book = book.now(each.order.id, "done")
    return replace(state, book=book)


def is_ordered(state: State, concept: str) -> bool:
    """Return whether somebody waits for ``concept`` to be taught."""
    return any(
        (each.order.kind, each.order.concept) == ("train", concept) and not each.is_final
        for each in state.book.held
    )


def against(state: State, concept: str) -> int:
    """Return the newest release against which ``concept`` is to be corrected, 0 for none."""
    wanted = (
        each.order.release
        for each in state.book.held
        if (each.order.kind, each.order.concept) == ("train", concept) and not each.is_final
    )
    return max(wanted, default=0)


def ready_order(state: State, kinds: Sequence[str]) -> Order | None:
    """Return the oldest order of these kinds that can be begun now."""
    if state.now.mono_s < state.orders_s:
        return None
    return next(
        (
            each.order
            for each in state.book.held
            if each.state == "queued" and each.order.kind in kinds
        ),
        None,
    )


def answered(state: State, order: Order) -> tuple[OrderState, str, int]:
    """Return what a courier hears of ``order``: state, code, step."""
    if order in state.book.refused:
        return "refused", "not-open", 0
    held = state.book.of(order.id)
    if held is None:
        return "queued", "asking-the-coordinator", 0
    if held.order != order:
        return "refused", "order-differs", 0
    step = state.task(order.concept).step if state.has(order.concept) else 0
    return held.state, held.code, step if held.state == "running" else 0


def _judged(state: State, order: Order, phase: str) -> tuple[State, Held]:
    """Return the order as the owner's policy takes it, and the state that it makes."""
    if order.kind == "withdraw":
        return state, _withdrawal(state, order, phase)
    if not state.has(order.concept):
        return state, Held(order, "refused", "unknown-concept")
    code = _score_code(order, phase) if order.kind == "score" else _train_code(order, phase)
    if code:
        return state, Held(order, "refused", code)
    task = state.task(order.concept)
    is_new = phase != "receipted"  # withdrawn, and wanted anew
    if order.kind == "train" and task.state == "done" and (is_new or order.release):
        fresh = replace(task, state="queued", step=0, steps=0)
        tasks = tuple(fresh if each is task else each for each in state.tasks)
        state = replace(state, tasks=tasks)
    return state, Held(order)  # that of a concept with a receipt is done when it is followed


def _score_code(order: Order, phase: str) -> str:
    if phase not in _PACKED:
        return "nothing-to-score"
    return "" if order.release else "no-release"


def _train_code(order: Order, phase: str) -> str:
    if phase == "withdrawing":
        return "being-withdrawn"
    return "nothing-to-correct" if order.release and phase not in _STANDS else ""


def _withdrawal(state: State, order: Order, phase: str) -> Held:
    if phase == "withdrawn":
        return Held(order, "done")
    if phase not in {*_STANDS, "withdrawing"}:
        return Held(order, "refused", "nothing-to-withdraw")
    if state.settings.withdraw == "policy" or phase == "withdrawing":
        return Held(order)
    return Held(order, "waiting", "waiting-for-your-approval")
