"""Decides what the owner's daemon does next; it reads no file, clock, socket or sensor.

    queued -> running -> done                the receipt is here
       ^         |-----> waiting             until a time, for the owner's yes, or for the owner
       |_________|_______|                   interrupted, tried again, approved

`step(state, event) -> (state, actions)`: daemon_shell.py carries the actions out and reports what
came of them. One concept is worked on at a time, in the order of the settings; what waits lets the
next one go ahead. Laws: nothing runs while there is a reason to wait; what runs when one appears is
interrupted, and killed where it does not end in time (10 s for the GPU's sake; a stop of the daemon
waits for the step, much longer); a concept that is done is not begun again by itself; time is an
event, and pauses between tries grow to the settings' bound, with full jitter, for ever. Cost: small
values; no import of numpy or torch. Source: house-style.md rule 4, product.md 5, reliability.md 5.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from . import daemon_orders as ordering
from .daemon_state import (
    Action,
    Chosen,
    End,
    Ended,
    Event,
    Found,
    Interrupt,
    Keep,
    Kill,
    Leave,
    Opened,
    Ordered,
    Paused,
    PollThrough,
    Resumed,
    Start,
    StartOrder,
    StartPoll,
    State,
    Stop,
    Task,
    Tick,
    Told,
    Unanswered,
    Word,
)
from .daemon_waits import Reason, Wait, machine_wait

PAUSE_GRACE_S: Final = 8.0
"""From an interrupt to a kill, so that memory and GPU are free within 10 s (product.md 5)."""
STOP_GRACE_S: Final = 90.0
"""The same where the daemon itself ends: a long step on a CPU is finished and saved."""
_FIRST_S: Final = 5.0
_MOST_CRASHES: Final = 5
"""In a row without one step in between; after them the owner is needed."""
_MINUTES: Final = 60.0

_TRIED_AGAIN: Final[dict[str, Reason]] = {
    "busy": "coordinator unreachable",
    "disk-full": "disk low",
    "home-in-use": "home in use",
    "lease-lost": "lease lost",
    "no-free-slot": "no slot is free",
    "no-room": "coordinator unreachable",
    "quota-used": "quota",
    "rate-limited": "coordinator unreachable",
    "too-much": "coordinator unreachable",
    "unreachable": "coordinator unreachable",
}
"""By the code of a failure: what passes by itself."""


def step(  # noqa: C901  # one case an event
    state: State, event: Event
) -> tuple[State, tuple[Action, ...]]:
    """Advance by one event. Same state and event: same answer, always."""
    before = state
    match event:
        case Tick(now, seen):
            state = _woken(replace(state, now=now, seen=seen))
        case Told():
            state = _told(state, event)
        case Ended():
            state = _ended(state, event)
        case Found():
            state = _found(state, event)
        case Paused(for_s):
            state = replace(state, pause=Word.spoken(None, for_s, state.now.wall))
        case Chosen(mode, for_s):
            chosen = Word.spoken(mode, for_s, state.now.wall)
            state = replace(state, pause=None, chosen=chosen)
        case Resumed():
            freed = tuple(_freed(task) for task in state.tasks)
            state = replace(state, pause=None, chosen=None, tasks=freed)
        case Leave():
            state = replace(state, leaving=state.running)
        case Ordered(order):
            state = ordering.hinted(state, order)
        case Opened():
            state = ordering.opened(state, event)
        case Unanswered(roll):
            state = ordering.unanswered(state, roll)
        case Stop():
            state = replace(state, stopping=True, hurried=state.stopping)
    state, actions = _decided(ordering.followed(state))
    state = ordering.followed(state)
    return state, actions if _kept(before) == _kept(state) else (Keep(), *actions)


def _kept(state: State) -> tuple[object, ...]:
    """Return what outlives a restart."""
    return state.pause, state.chosen, state.day, state.sent_bytes, state.book.held


def _woken(state: State) -> State:
    """Return the state of this moment: words and waits that are over are gone."""
    now = state.now
    pause, chosen = (word and word.at(now.wall) for word in (state.pause, state.chosen))
    tasks = tuple(
        replace(task, state="queued", wait=None, until_s=None)
        if task.until_s is not None and task.until_s <= now.mono_s
        else task
        for task in state.tasks
    )
    today = now.wall.date().isoformat()
    sent = state.sent_bytes if today == state.day else 0
    return replace(state, pause=pause, chosen=chosen, tasks=tasks, day=today, sent_bytes=sent)


def _told(state: State, said: Told) -> State:
    if not state.running:
        return state
    task = state.task(state.running)
    if said.name == "uploading":
        new = max(0, said.sent - task.sent) if task.doing == "uploading" else 0
        state = replace(state, sent_bytes=state.sent_bytes + new)
    came = replace(task, doing=said.name, sent=said.sent)
    if said.name == "step":
        came = replace(came, step=said.step, steps=said.steps, eta_s=said.eta_s, tries=0)
    return _with(state, came)


def _ended(state: State, ended: Ended) -> State:
    """Return the state after the process ended."""
    job, was_asked = state.job, state.interrupted_s is not None
    state = replace(state, job="", interrupted_s=None, killed=False)
    if job == "train":
        return _taught(state, ended, was_asked=was_asked)
    if job == "orders":  # what it heard came before
        return ordering.unanswered(state, ended.roll) if state.polling else state
    if job:
        passes = was_asked or ended.code in {"interrupted", "crashed"} or ended.code in _TRIED_AGAIN
        return ordering.carried_out(state, ended, again=passes)
    return state


def _taught(state: State, ended: Ended, *, was_asked: bool) -> State:
    """Return the state after a concept's process ended, and with what the concept waits for."""
    task = replace(state.task(state.running), doing="", sent=0, eta_s=0.0)
    task = replace(task, code=ended.code, fix=ended.fix)
    soon_s = min(state.poll_s, state.now.mono_s) if state.polling else state.poll_s
    state = replace(state, running="", polling=False, poll_s=soon_s)
    if not ended.code or task.state == "done":  # done already: found receipted while it ran
        task = replace(task, state="done", tries=0, fix="")
    elif was_asked or ended.code == "interrupted":
        task = replace(task, state="queued")
    elif ended.code == "lease-lost" and not task.tries:
        # Its files lie aside, the session is new (session.py): go on at once, the first time.
        task = replace(task, state="queued", tries=1)
    elif ended.code == "egress-declined":
        task = _waits(task, Wait("waiting for your approval", detail=ended.what), None)
    elif ended.code == "upload-quota":
        midnight = (state.now.wall + timedelta(days=1)).replace(hour=0, minute=0, second=5)
        left_s = (midnight - state.now.wall).total_seconds()
        task = _waits(task, Wait("quota", midnight, ended.what), state.now.mono_s + left_s)
    else:
        task = _again(state, task, ended)
    return _with(state, task)


def _again(state: State, task: Task, ended: Ended) -> Task:
    """Return the task with its next try, or with the word that the owner is needed."""
    reason = _TRIED_AGAIN.get(ended.code)
    task = replace(task, tries=task.tries + 1)
    if reason is None and (ended.code != "crashed" or task.tries >= _MOST_CRASHES):
        return _waits(task, Wait("failed", detail=ended.what), None)
    longest = min(
        _FIRST_S * 2.0 ** min(task.tries - 1, 30), state.settings.retry_minutes * _MINUTES
    )
    pause_s = 1.0 + ended.roll * longest  # full jitter: a thousand clients do not come at once
    until = state.now.wall + timedelta(seconds=pause_s)
    return _waits(task, Wait(reason or "failed", until, ended.what), state.now.mono_s + pause_s)


def _found(state: State, found: Found) -> State:
    concept, phase = found.concept, found.phase
    if phase == "withdrawn":
        state = ordering.found_withdrawn(state, concept)
    if not state.has(concept):
        return state
    task = state.task(concept)
    if phase != "receipted" and ordering.is_ordered(state, concept):
        return state  # withdrawn once, and wanted anew since
    if phase == "receipted" and found.release < ordering.against(state, concept):
        return state  # it is to be corrected, and was not yet
    if phase in {"receipted", "withdrawing", "withdrawn"}:
        task = replace(task, state="done", wait=None, until_s=None)
    elif task.state == "waiting" and phase == "approved":
        task = _freed(task)
    return _with(state, task)


def _waits(task: Task, wait: Wait, until_s: float | None) -> Task:
    return replace(task, state="waiting", wait=wait, until_s=until_s)


def _freed(task: Task) -> Task:
    """Return the task in the queue, unless it is running or done."""
    if task.state != "waiting":
        return task
    return replace(task, state="queued", wait=None, until_s=None, tries=0)


def _decided(state: State) -> tuple[State, tuple[Action, ...]]:
    """Return what to do now, whatever happened."""
    if state.pause is not None:
        wait = Wait("paused by you", state.pause.until)
    else:
        was_hot = state.wait is not None and state.wait.reason == "too hot"
        settings = replace(state.settings, mode=state.mode)
        wait = machine_wait(settings, state.seen, state.now.wall, was_hot=was_hot)
        if wait is not None and wait.reason == "mode is never" and state.chosen is not None:
            wait = Wait("mode is never", state.chosen.until, "you said so")
    state = replace(state, wait=wait)
    if state.job:
        return _watched(state)
    queue = state.tasks
    if state.leaving is not None:
        queue = tuple(task for task in queue if task.concept == state.leaving)
        if all(task.state == "done" or task.is_for_owner for task in queue):
            return state, (End(),)
    if state.stopping:
        return state, (End(),)
    begun = _order_begun(state) or _poll_begun(state)
    ready = next((task for task in queue if task.state == "queued"), None)
    if begun is not None or wait is not None or ready is None:
        return begun or (state, ())
    against = ordering.against(state, ready.concept)
    begun_by = replace(state, job="train", running=ready.concept)
    return _with(begun_by, replace(ready, state="running")), (Start(ready.concept, against),)


def _order_begun(state: State) -> tuple[State, tuple[Action, ...]] | None:
    """Return the beginning of an order, if there is one to begin: a withdrawal at any time."""
    if state.pause is not None or state.leaving is not None:
        return None
    kinds = ("withdraw",) if state.wait is not None else ("withdraw", "score")
    order = ordering.ready_order(state, kinds)
    if order is None:
        return None
    job = "withdraw" if order.kind == "withdraw" else "score"
    book = state.book.now(order.id, "running")
    return replace(state, job=job, order=order.id, book=book), (StartOrder(order),)


def _poll_begun(state: State) -> tuple[State, tuple[Action, ...]] | None:
    """Return a process of its own that asks for orders, if it is time."""
    if state.now.mono_s < state.poll_s:
        return None
    asked = replace(state, polling=True, polled_s=state.now.mono_s)
    return replace(asked, job="orders"), (StartPoll(),)


def _watched(state: State) -> tuple[State, tuple[Action, ...]]:
    """Return whether what runs has to stop."""
    if state.interrupted_s is None:
        if not _has_to_stop(state):
            return _asked_through(state)
        return replace(state, interrupted_s=state.now.mono_s), (Interrupt(),)
    grace_s = STOP_GRACE_S if state.stopping else PAUSE_GRACE_S
    is_late = state.hurried or state.now.mono_s - state.interrupted_s >= grace_s
    if state.killed or not is_late:
        return state, ()
    return replace(state, killed=True), (Kill(),)


def _has_to_stop(state: State) -> bool:
    """Return whether what runs is in anybody's way; a withdrawal does not wait for a training."""
    if state.stopping:
        return True
    if state.job == "train" and state.pause is None and state.leaving is None:
        return state.wait is not None or ordering.ready_order(state, ("withdraw",)) is not None
    return state.job in {"train", "score"} and state.wait is not None


def _asked_through(state: State) -> tuple[State, tuple[Action, ...]]:
    """Return a question for orders through the training's process, if it is time."""
    if state.job != "train" or state.polling or state.now.mono_s < state.poll_s:
        return state, ()
    return replace(state, polling=True, polled_s=state.now.mono_s), (PollThrough(),)


def _with(state: State, task: Task) -> State:
    tasks = tuple(task if each.concept == task.concept else each for each in state.tasks)
    return replace(state, tasks=tasks)
