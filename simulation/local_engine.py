"""The local engine: clients in threads of a few processes, in order of arrival."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..core.errors import OrthoFedError
from .life import live
from .plan import Plan

_AT_ONCE = 64
"""Clients of one process that are under way; the rest arrive later than they meant to."""


def play(plan: Plan, *, processes: int, meanwhile: Callable[[], None]) -> None:
    """Let every client live; call ``meanwhile`` again and again until all have told.

    Raises OrthoFedError: a process of clients failed.
    """
    code = "import sys; from orthofed.simulation import local_engine; local_engine.main(sys.argv)"
    workers = [
        subprocess.Popen(  # noqa: S603  # our own code
            [sys.executable, "-P", "-c", code, plan.to_text(), str(k), str(processes)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # One thread each: quicker beside others, and the same sums in every run.
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        for k in range(processes)
    ]
    try:
        while any(worker.poll() is None for worker in workers):
            meanwhile()
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
    if failed := [worker.returncode for worker in workers if worker.returncode]:
        raise OrthoFedError(
            f"a process of simulated clients ended with exit code {failed[0]}",
            why="its traceback stands above",
            fix="report it with the scenario and the seed",
            code="simulation-failed",
        )


def main(argv: list[str]) -> None:
    """Play every ``processes``-th client of a plan, from the k-th on."""
    text, first, processes = argv[1], int(argv[2]), int(argv[3])
    numbers = range(first, Plan.from_text(text).scenario.clients, processes)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for done in [pool.submit(live, text, number) for number in numbers]:
            done.result()
