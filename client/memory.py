"""Watches how much memory a piece of work takes: what is free before it, how much it adds.

    peak_bytes = the highest use inside the block - the use when it was entered

On a CPU the use is the process's resident set, looked at every 5 ms by a thread: what the
operating system would have to find, allocator slack included, and a spike shorter than that may be
missed. ``ru_maxrss`` would miss nothing, but it never falls: a base whose loading took more than
the training hides the training. On a GPU it is what torch's allocator reserved on that device.
"""

import threading
from typing import Self

import psutil
import torch

_LOOK_EVERY_S = 0.005


class MemoryWatch:
    """The memory that the work inside the block takes on one device."""

    def __init__(self, device: torch.device) -> None:
        """Watch ``device``; a CPU's memory is the process's."""
        self._device = device
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="memory-watch", daemon=True)
        self._before = self._highest = 0
        self.free_bytes = 0  # when the block was entered, for this process to take

    def __enter__(self) -> Self:
        """Note what is free and what is in use, then watch."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_reserved(self._device)
            self.free_bytes = torch.cuda.mem_get_info(self._device)[0]
            return self
        self._before = self._highest = self._process.memory_info().rss
        self.free_bytes = psutil.virtual_memory().available
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """End the watch; the figures stay."""
        if self._device.type == "cuda":
            self._highest = torch.cuda.max_memory_reserved(self._device)
            return
        self._stop.set()
        self._thread.join()
        self._highest = max(self._highest, self._process.memory_info().rss)

    @property
    def peak_bytes(self) -> int:
        """The most that the work added to what was in use before it."""
        return max(0, self._highest - self._before)

    def _look(self) -> None:
        while True:
            self._highest = max(self._highest, self._process.memory_info().rss)
            if self._stop.wait(_LOOK_EVERY_S):
                return
