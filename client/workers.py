"""Starts the other processes of a training, waits until they are ready, ends them, asks why.

    started -> each loads the base -> ready -> all meet -> the training -> killed

They are fresh interpreters (spawn): CUDA and threads do not survive a fork. Law: none outlives the
block, whatever ends it. They hold nothing that the first process lacks, so a kill is a clean end.
"""

import contextlib
import multiprocessing
import signal
import tempfile
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch

from ..core.errors import OrthoFedError
from .process_group import ALONE, ProcessGroup, WorkerLost
from .worker import Shared, Told, work

if TYPE_CHECKING:
    from multiprocessing.connection import Connection, PipeConnection


@contextlib.contextmanager
def shared_among(shared: Shared) -> Generator[ProcessGroup]:
    """Yield the group of ``settings.processes`` processes that train ``shared``; this one is first.

    Pass it to `train` with the same values. Raises OrthoFedError: a worker could not begin. Raises
    WorkerLost: one was lost on the way; it says what that one said last.
    """
    size = shared.settings.processes
    if size == 1:
        yield ALONE
        return
    # Threads of all processes together as many as one has: more would only fight for the cores.
    threads = shared.settings.threads or max(1, torch.get_num_threads() // size)
    before = torch.get_num_threads()
    shared = replace(shared, settings=replace(shared.settings, threads=threads))
    with tempfile.TemporaryDirectory(prefix="orthofed-") as scratch, Workers() as workers:
        meeting = Path(scratch) / "meeting"
        workers.start(shared, meeting)
        torch.set_num_threads(threads)
        try:
            with ProcessGroup.joined(0, size, meeting) as group:
                yield group
        except WorkerLost as error:
            raise workers.explained(error) from error
        finally:
            torch.set_num_threads(before)


@dataclass(slots=True)
class Workers:
    """The running workers and what each one tells."""

    _running: dict[int, SpawnProcess] = field(default_factory=dict)
    _told: "dict[int, Connection | PipeConnection]" = field(default_factory=dict)

    def __enter__(self) -> Self:
        """Begin with none."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Kill all of them."""
        for process in self._running.values():
            process.kill()
        for process in self._running.values():
            process.join()

    def start(self, shared: Shared, meeting: Path) -> None:
        """Start ranks 1 and up and return when each of them stands at the ``meeting``.

        Raises OrthoFedError: one of them could not begin.
        """
        spawn = multiprocessing.get_context("spawn")
        for rank in range(1, shared.settings.processes):
            told, tell = spawn.Pipe(duplex=False)
            process = spawn.Process(target=work, args=(shared, rank, meeting, tell), daemon=True)
            process.start()
            tell.close()  # the worker's end is open in the worker alone: its death is seen here
            self._running[rank], self._told[rank] = process, told
        for rank in self._running:
            said = self._next(rank)
            if said is not None:
                raise _failed(rank, said)

    def explained(self, error: WorkerLost) -> OrthoFedError:
        """Return ``error`` with what the lost worker said last, or how it ended."""
        wait([process.sentinel for process in self._running.values()], timeout=_GRACE_S)
        for rank, told in self._told.items():
            with contextlib.suppress(EOFError):
                said = told.recv() if told.poll() else None
                if said is not None:
                    return _failed(rank, said)
        for rank, process in self._running.items():
            if process.exitcode is not None:
                return _gone(rank, process.exitcode)
        return error

    def _next(self, rank: int) -> Told:
        try:
            return self._told[rank].recv()
        except EOFError:
            self._running[rank].join()
            raise _gone(rank, self._running[rank].exitcode) from None


_GRACE_S = 5.0
"""For a worker whose socket is closed to be gone altogether."""


def _failed(rank: int, said: tuple[str, str, str, str]) -> OrthoFedError:
    what, why, fix, code = said
    return OrthoFedError(f"process {rank} of the training: {what}", why=why, fix=fix, code=code)


def _gone(rank: int, exit_code: int | None) -> WorkerLost:
    how = f"exit code {exit_code}"
    if exit_code is not None and exit_code < 0:
        how = f"ended by {signal.Signals(-exit_code).name}"
    return WorkerLost(
        f"process {rank} of the training is gone ({how})",
        why="each step needs all of them; everything so far is saved. SIGKILL often means that the "
        "system ran out of memory",
        fix="run the same command again, it goes on with the next step; or with fewer processes, "
        "the same accumulation, and the save still counts",
        code="worker-lost",
    )
