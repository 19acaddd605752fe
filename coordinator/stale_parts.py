"""Gives back the room of uploads whose lease is over (T19).

Law: a part goes an hour after its lease was given back, given away or ran out, and never before. If
the lease ran out but nobody took the slot, its client may still come back: it is told that the
upload is unknown, begins again and sends the chunks again; no acknowledged byte is lost, since a
chunk is received, not durable (reliability.md 4). Times are monotonic and in memory; a restart
gives every lease a full term and every such part another hour. Cost: one look at the rows of open
uploads in five minutes.
"""

import logging
import threading
from typing import Self

from ..core.errors import OrthoFedError
from . import upload_rows
from .board import Turn
from .house import House

_LOG = logging.getLogger("orthofed.coordinator")
_KEPT_S = 3_600.0
_EVERY_S = 300.0


class StaleParts:
    """A thread that looks every five minutes, while the ``with`` block runs."""

    def __init__(self, house: House) -> None:
        """Watch the house's parts."""
        self._house = house
        self._since: dict[bytes, float] = {}  # of parts whose lease is gone, when that was seen
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="stale-parts", daemon=True)

    def __enter__(self) -> Self:
        """Start looking."""
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join()

    def sweep(self) -> int:
        """Remove the parts whose lease has been over for an hour; return how many."""
        house = self._house
        now_s = house.clock.monotonic_s()
        ends = house.board.run(_ends)
        there = house.blobs.ids()
        self._since = {i: self._since.get(i, now_s) for i in there if i not in ends}
        over = [i for i in there if now_s - (ends[i] if i in ends else self._since[i]) >= _KEPT_S]
        for upload_id in over:
            house.blobs.drop(upload_id)
        return len(over)

    def _serve(self) -> None:
        while not self._stop.wait(_EVERY_S):
            try:
                self.sweep()
            except OrthoFedError as error:
                _LOG.warning("parts of old uploads stay for now: %s", error.what)


def _ends(turn: Turn) -> dict[bytes, float]:
    """Return when the lease of each open upload ends or ended; it may still be nobody else's."""
    slots = turn.state.slots
    return {
        upload_id: slots[slot].deadline_s for upload_id, slot in upload_rows.still_open(turn.db)
    }
