"""One process that is to run for ever: when it is started again after it ended.

    down --(pause over)--> up --(ended)--> down, one failure more

Laws: a process that ended is started again after ``pauses_s[failures - 1]``, the last pause for all
failures beyond; one that ran for ``steady_s`` has no failures behind it. So no process is started
more often than the pauses allow (no restart storm), and none stays down for longer than the last
pause. Pure: time comes in, nothing goes out. Source: flower.md 6.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of one process. Units: seconds of the caller's clock.

    ``ending_s``: since when it has been asked to end, or None.
    """

    name: str
    pauses_s: tuple[float, ...]
    steady_s: float
    is_up: bool = False
    since_s: float = 0.0
    due_s: float = 0.0
    failures: int = 0
    ending_s: float | None = None

    def is_due(self, now_s: float) -> bool:
        """Tell whether it is to be started now."""
        return not self.is_up and now_s >= self.due_s

    def started(self, now_s: float) -> "Watch":
        """Return the watch of a process that was started now."""
        return replace(self, is_up=True, since_s=now_s, ending_s=None)

    def ended(self, now_s: float, *, at_least_s: float = 0.0) -> "Watch":
        """Return the watch of a process that ended now; it is due after its pause.

        >>> Watch("node", (15.0, 65.0), 300.0, is_up=True).ended(100.0).due_s
        115.0
        >>> Watch("node", (15.0, 65.0), 300.0, is_up=True, failures=7).ended(100.0).due_s
        165.0
        """
        failures = 1 if now_s - self.since_s >= self.steady_s else self.failures + 1
        pause_s = self.pauses_s[min(failures, len(self.pauses_s)) - 1]
        due_s = now_s + max(pause_s, at_least_s)
        return replace(self, is_up=False, due_s=due_s, failures=failures, ending_s=None)

    def ending(self, now_s: float) -> "Watch":
        """Return the watch of a process that was asked to end now."""
        return replace(self, ending_s=now_s)

    def overdue(self, now_s: float, *, grace_s: float) -> bool:
        """Tell whether it was asked to end and has not for ``grace_s``."""
        return self.is_up and self.ending_s is not None and now_s - self.ending_s >= grace_s
