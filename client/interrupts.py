"""Ctrl-C while a training runs: the first one waits for the step, the second one does not.

    first look not yet taken   nothing can be lost: the first signal stops at once
    first signal               a flag; `look`, between two steps, raises, and the run is saved
    second signal              KeyboardInterrupt at once; nothing is written, older saves stay whole

Python may raise KeyboardInterrupt between any two instructions, also in the middle of an
optimiser's step: what is in memory then is neither the step before nor the one after, and must not
be saved. Only the main thread gets signals; elsewhere this does nothing. Source: product.md 5.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Self

from ..core.errors import OrthoFedError


class Interrupts:
    """SIGINT between two steps; use it as a context manager around the training."""

    def __init__(self, on_first: Callable[[], None]) -> None:
        """Prepare; ``on_first`` tells the person that the step is being finished."""
        self._on_first = on_first
        self._is_main = threading.current_thread() is threading.main_thread()
        self._before: signal._HANDLER = None
        self._looked = self._asked = False

    def __enter__(self) -> Self:
        """Take over SIGINT."""
        if self._is_main:
            self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        """Give SIGINT back; a signal that nobody looked at any more still counts."""
        if self._is_main:
            signal.signal(signal.SIGINT, self._before)
        if self._asked and kind is None:
            raise _interrupted("the training is finished, what comes after it is not")

    def look(self, step: int, steps: int) -> None:
        """Stop if somebody asked for it. Call it between steps, where the state is whole.

        Raises OrthoFedError: the first signal came; the caller saves the run.
        """
        self._looked = True
        if self._asked:
            raise _interrupted(f"stopped behind step {step} of {steps}")

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked or not self._looked:
            raise KeyboardInterrupt
        self._asked = True
        # A thread: the signal may have come while this very thread was in the middle of a print.
        threading.Thread(target=self._on_first, daemon=True).start()


def _interrupted(what: str) -> OrthoFedError:
    return OrthoFedError(
        what,
        why="you interrupted it; everything so far is saved, and the slot is kept while it lasts",
        fix="run the same command again; it goes on with the next step",
        code="interrupted",
    )
