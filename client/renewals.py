"""Keeps a lease alive while work advances, from a thread of its own.

Every third of the TTL it sends Renew with the progress counter; the coordinator moves the deadline
only if that grew. Laws: a coordinator that does not answer does not stop the training (the deadline
only matters when somebody else needs the slot); a lost lease stops it at the next `advance`, which
raises LeaseLost in the caller's thread. Source: reliability.md 3, 5; security.md T1.
"""

import contextlib
import threading
from collections.abc import Callable
from typing import Final, Self

from ..core.errors import OrthoFedError, Unreachable
from ..core.keys import SigningKey
from ..proto import methods, wire
from .channel import Channel

_SHARE: Final = 1 / 3
"""Of the TTL: two renewals may fail before the slot can be offered to somebody else."""


class Renewals:
    """The renewals of one lease; use it as a context manager around the work."""

    def __init__(
        self,
        channel: Channel,
        *,
        key: SigningKey,
        slot: int,
        fence: int,
        ttl_s: int,
        on_trouble: Callable[[OrthoFedError], None],
    ) -> None:
        """Prepare; ``on_trouble`` hears of renewals that failed and will be tried again."""
        self._channel = channel
        self._key = key
        self._slot = slot
        self._fence = fence
        self._ttl_s = ttl_s
        self._on_trouble = on_trouble
        self._progress = self._total = 0
        self._lost: OrthoFedError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="renewals", daemon=True)

    def __enter__(self) -> Self:
        """Renew once, so that a lost lease is known before any work; then in the background.

        Raises LeaseLost: the slot is no longer ours.
        """
        with contextlib.suppress(Unreachable):
            self._renew()
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """End the thread; a renewal in flight is waited for, but not for long."""
        self._stop.set()
        self._thread.join(timeout=methods.RENEW.deadline_s)

    def advance(self, progress: int, total: int = 0) -> None:
        """Note that the work has come to ``progress``; ``total``: of so much, 0 for not known.

        Raises LeaseLost: the slot is no longer ours.
        """
        self._progress = max(self._progress, progress)
        self._total = total or self._total
        if self._lost is not None:
            raise self._lost

    def _run(self) -> None:
        while not self._stop.wait(self._ttl_s * _SHARE):
            try:
                self._renew()
            except Unreachable as error:
                self._on_trouble(error)
            except OrthoFedError as error:
                self._lost = error
                return

    def _renew(self) -> None:
        request = wire.RenewRequest(self._slot, self._fence, self._progress, self._total)
        reply = self._channel.call(methods.RENEW, request, wire.RenewReply, key=self._key)
        self._ttl_s = max(1, reply.ttl_s)
