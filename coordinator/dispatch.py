"""Which node is told of which order now: ``step(state, event) -> (state, told)``, without I/O.

Laws: a node is told of one order at a time, the one it never heard of first, then the one that it
heard of longest ago; an order is told again after ``AGAIN_S``, or at once when another order of
that node has been closed since, which is when what it waited for may be there. Losing all of this
repeats a message and no more, since the client is idempotent by the order's id; so it lives in
memory and a restart begins anew. Times are monotonic seconds inside events.
Source: flower.md 6. Not here: which orders are open (orders.py), what a node is (node_keys.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

AGAIN_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """An open order and the node of its member."""

    order: bytes
    node: int


@dataclass(frozen=True, slots=True)
class Told:
    """When a node was told of an order last."""

    node: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What was told; of open orders alone, so it is as bounded as they are."""

    told: Mapping[bytes, Told] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Due:
    """Somebody asks what to tell these free nodes; ``waiting`` is every open order, in order."""

    now_s: float
    free: frozenset[int]
    waiting: tuple[Waiting, ...]


def step(state: Dispatch, event: Due) -> tuple[Dispatch, tuple[Waiting, ...]]:
    """Advance by one event; return what to tell, at most one order a node."""
    known = {each.order: each for each in event.waiting}
    closed = {last.node for order, last in state.told.items() if order not in known}
    told = {
        order: last
        for order, last in state.told.items()
        # A member's new node has heard nothing of what its old one was told.
        if order in known and known[order].node == last.node and last.node not in closed
    }
    chosen: dict[int, Waiting] = {}
    for each in sorted(event.waiting, key=lambda each: _last(told, each)):
        last = told.get(each.order)
        rested = last is None or event.now_s - last.at_s >= AGAIN_S
        if each.node in event.free and each.node not in chosen and rested:
            chosen[each.node] = each
    now = {each.order: Told(each.node, event.now_s) for each in chosen.values()}
    return Dispatch(MappingProxyType({**told, **now})), tuple(chosen.values())


def _last(told: Mapping[bytes, Told], each: Waiting) -> float:
    last = told.get(each.order)
    return float("-inf") if last is None else last.at_s
