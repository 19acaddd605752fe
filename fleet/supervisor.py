"""The loop around a heart: ticks, exits and answers go in, actions come out and are carried out.

Law: it decides nothing. Slow actions run beside the loop, each answers with one event. SIGTERM and
Ctrl-C are the event ``stop``; the loop ends when the heart says so, never before the processes do.
A second SIGTERM changes nothing: the heart's own limits end it within a minute.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from .child import Child
from .journal import tell

_TURN_S = 0.5
E = TypeVar("E")


class Role(Protocol[E]):
    """One side's heart with what it needs."""

    def tick(self, now_s: float) -> E:
        """Return the event that time has passed."""
        ...

    def exited(self, name: str) -> E:
        """Return the event that a process ended."""
        ...

    def stop(self) -> E:
        """Return the event that all is to end."""
        ...

    def handle(self, event: E) -> bool:
        """Step the heart and carry its actions out; return whether all is over."""
        ...


class Supervisor(Generic[E]):
    """Turns until the heart is over."""

    def __init__(self, children: Iterable[Child]) -> None:
        """Watch these processes."""
        self._children = tuple(children)
        self._pool = ThreadPoolExecutor(max_workers=3, thread_name_prefix="flower")
        self._answers: list[Future[E]] = []
        self._stop = threading.Event()

    def ask(self, slow: Callable[[], E]) -> None:
        """Run ``slow`` beside the loop; what it returns is the event."""
        self._answers.append(self._pool.submit(slow))

    def run(self, role: Role[E]) -> None:
        """Supervise until the heart is over; SIGTERM and SIGINT ask it to be."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        told = False
        try:
            while not self._turn(role):
                if self._stop.is_set() and not told:
                    told = True
                    role.handle(role.stop())
                time.sleep(_TURN_S)
        finally:
            for child in self._children:
                child.kill()
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _turn(self, role: Role[E]) -> bool:
        """Give the heart all that is new; return whether it is over."""
        over = role.handle(role.tick(time.monotonic()))
        for child in self._children:
            code = child.ended()
            if code is not None:
                tell("process-ended", name=child.name, status=code)
                over = role.handle(role.exited(child.name)) or over
        done = [each for each in self._answers if each.done()]
        self._answers = [each for each in self._answers if each not in done]
        for each in done:
            over = role.handle(each.result()) or over
        return over
