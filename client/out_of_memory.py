"""Turns "out of memory" in all its spellings into advice.

Python says MemoryError, torch's allocators say torch.OutOfMemoryError on a GPU and a RuntimeError
from DefaultCPUAllocator on a CPU; oneDNN, which has no word for it, could not create a primitive
or a memory object; C++ says bad_alloc. A kernel that kills the process says nothing; then the saves
speak for it (checkpoint.py). Only `checkpointing` leaves a run's identity as it is: with it the
run goes on from its newest save; with any other of the settings named here it begins anew.
"""

import contextlib
from collections.abc import Generator
from typing import Final

import torch

from ..core.errors import OrthoFedError
from .training_settings import TrainingSettings

_SAID: Final = (
    "DefaultCPUAllocator",
    "out of memory",
    "could not create a primitive",
    "could not create a memory object",
    "bad_alloc",
)


@contextlib.contextmanager
def told_when_out_of_memory(settings: TrainingSettings) -> Generator[None]:
    """Raise OrthoFedError (out-of-memory) with what to change when the block runs out of memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise OrthoFedError(
            f"no memory was left at batch {settings.batch}, accumulation {settings.accumulation}, "
            f"precision {settings.precision}: {str(error).splitlines()[0] if str(error) else ''}",
            why="one step needs more than this machine has free; what was saved is untouched",
            fix=f"{'; or '.join(smaller(settings))}; or close other programs; "
            "then run the same command again",
            code="out-of-memory",
        ) from error


def smaller(settings: TrainingSettings) -> list[str]:
    """Return what to set so that a step needs less memory, what costs least first."""
    ways = []
    if not settings.checkpointing:
        ways.append("set checkpointing = true (a third slower, goes on from the newest save)")
    if settings.batch > 1:
        halved = -(-settings.batch // 2)
        ways.append(
            f"set batch = {halved} and accumulation = {settings.accumulation * 2} "
            "(the same images a step, begins anew)"
        )
    if settings.processes > 1 and settings.device == "cpu":
        ways.append("set processes = 1 (on a CPU each takes the same memory again)")
    if settings.null_batch > 1:
        ways.append(f"set null_batch = {-(-settings.null_batch // 2)}")
    if settings.precision == "fp32":
        ways.append('set precision = "bf16" (or "fp16" on a GPU without it)')
    return ways or ["use smaller images or a base model of smaller size"]


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        words in str(error) for words in _SAID
    )
