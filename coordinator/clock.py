"""The two clocks, as a parameter: tests give their own.

Law (I8): deadlines are monotonic seconds; wall time is in signatures, in a request's age, in an
invite's end and in the day of a quota, and decides nothing else.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is signed, monotonic time for what runs out."""

    def wall_s(self) -> int:
        """Return Unix seconds."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds that never go back and start anywhere."""
        ...


class SystemClock:
    """This machine's clocks."""

    def wall_s(self) -> int:
        """Return Unix seconds."""
        return int(time.time())

    def monotonic_s(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()
