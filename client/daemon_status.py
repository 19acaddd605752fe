"""What the daemon says of itself: why it waits and until when, each concept, what it cannot see.

A pure function of the state, so that `client status`, `client daemon --json` and the tests read the
same words. Law: every wait has its reason, and the time it ends where one is known; nothing of the
images, no loss, no path.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import TypedDict

from .daemon_state import State, Task
from .daemon_waits import Wait


class WaitStatus(TypedDict):
    """One reason, as product.md 5 words it; ``until`` in ISO 8601, empty where it is not known."""

    reason: str
    until: str
    detail: str


class TaskStatus(TypedDict):
    """One concept of the queue."""

    concept: str
    state: str
    wait: WaitStatus | None
    doing: str
    step: int
    steps: int
    eta_s: float
    code: str
    fix: str


class DaemonStatus(TypedDict):
    """The daemon, its machine and its queue.

    ``mode_until``: when the settings' own mode holds again, in ISO 8601; empty: no such time.
    """

    mode: str
    mode_until: str
    pid: int
    running: str
    wait: WaitStatus | None
    leaving: bool
    queue: list[TaskStatus]
    idle_s: float | None
    on_battery: bool | None
    gpu_busy_percent: int | None
    temperature_c: float | None
    free_disk_gb: float | None
    home_gb: float | None
    not_seen: list[str]
    sent_today_bytes: int
    rss_bytes: int


def daemon_status(
    state: State, *, pid: int, not_seen: Sequence[str], rss_bytes: int
) -> DaemonStatus:
    """Return what ``state`` looks like from outside."""
    seen, until = state.seen, state.chosen and state.chosen.until
    return DaemonStatus(
        mode=state.mode,
        mode_until="" if until is None else until.isoformat(timespec="seconds"),
        pid=pid,
        running=state.running,
        wait=_wait(state.wait),
        leaving=state.leaving is not None,
        queue=[_task(state, task) for task in state.tasks],
        idle_s=None if seen.idle_s is None else round(seen.idle_s, 1),
        on_battery=seen.on_battery,
        gpu_busy_percent=seen.gpu_busy_percent,
        temperature_c=seen.temperature_c,
        free_disk_gb=None if seen.free_disk_gb is None else round(seen.free_disk_gb, 1),
        home_gb=None if seen.home_gb is None else round(seen.home_gb, 3),
        not_seen=list(not_seen),
        sent_today_bytes=state.sent_bytes,
        rss_bytes=rss_bytes,
    )


def in_words(wait: WaitStatus) -> str:
    """Return the reason as a person reads it."""
    until = f" until {wait['until'][:16].replace('T', ' ')}" if wait["until"] else ""
    detail = f" ({wait['detail']})" if wait["detail"] else ""
    return f"{wait['reason']}{until}{detail}"


def _wait(wait: Wait | None) -> WaitStatus | None:
    if wait is None:
        return None
    until = "" if wait.until is None else wait.until.isoformat(timespec="seconds")
    return WaitStatus(reason=wait.reason, until=until, detail=wait.detail)


def _task(state: State, task: Task) -> TaskStatus:
    wait = task.wait
    if wait is not None and task.until_s is not None:  # as the clocks stand now
        left = timedelta(seconds=task.until_s - state.now.mono_s)
        wait = Wait(wait.reason, state.now.wall + left, wait.detail)
    return TaskStatus(
        concept=task.concept,
        state=task.state,
        wait=_wait(wait),
        doing=task.doing,
        step=task.step,
        steps=task.steps,
        eta_s=round(task.eta_s, 1),
        code=task.code,
        fix=task.fix,
    )
