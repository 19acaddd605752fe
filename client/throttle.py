"""Keeps an upload below a rate and within what is left of a day's allowance.

    of(kib_s, bytes_left)    0 and None: no bound;  take(n) before n bytes are sent

Laws: over any time longer than one chunk's, the mean rate is at most the one asked for; what does
not fit into the allowance is not sent, and the upload goes on another day where it stopped. Safe
for several threads: they wait for each other.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Self

from ..core.errors import OrthoFedError


@dataclass(slots=True)
class Throttle:
    """The bound on one process's uploads."""

    bytes_s: float = 0.0  # 0: any
    bytes_left: int | None = None  # None: any
    _free_s: float = 0.0  # on the monotonic clock, when the next byte may go
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, kib_s: int, bytes_left: int | None) -> Self:
        """Return the bound of so many KiB a second and so many bytes in all."""
        return cls(kib_s * 1024.0, bytes_left)

    def take(self, num_bytes: int) -> None:
        """Wait until ``num_bytes`` may be sent.

        Raises OrthoFedError: they are more than is left of the allowance.
        """
        with self._lock:
            if self.bytes_left is not None:
                if num_bytes > self.bytes_left:
                    raise OrthoFedError(
                        f"the next {num_bytes} bytes are more than the {self.bytes_left} left of"
                        " the day's allowance",
                        why="upload_mb_day bounds what is sent on one day",
                        fix="wait until tomorrow, or raise upload_mb_day; nothing is sent twice",
                        code="upload-quota",
                    )
                self.bytes_left -= num_bytes
            if not self.bytes_s:
                return
            now_s = time.monotonic()
            wait_s = max(0.0, self._free_s - now_s)
            self._free_s = max(now_s, self._free_s) + num_bytes / self.bytes_s
            time.sleep(wait_s)
