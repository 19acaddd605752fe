"""What is laid over a base while a training runs, and can be lifted off for a moment.

Use it as a context manager. Law: at its end, also after an exception, nothing is left attached.
"""

import contextlib
from collections.abc import Callable, Generator
from typing import Self


class Attachment:
    """Parts that are attached together, in the order given."""

    def __init__(self, *parts: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        """Keep how each part is attached; nothing is yet."""
        self._parts = parts
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Attach every part."""
        self._attach()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Take every part off."""
        self._held.close()

    @contextlib.contextmanager
    def lifted(self) -> Generator[None]:
        """Leave the base alone inside the block."""
        self._held.close()
        try:
            yield
        finally:
            self._attach()

    def _attach(self) -> None:
        for part in self._parts:
            self._held.enter_context(part())
