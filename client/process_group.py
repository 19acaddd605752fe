"""The processes of one training: each makes its share of a step's passes, all make the same step.

    step k = passes 0 ... accumulation - 1, pass i made by the process of rank i mod size
    gradient of the step = the sum of all ranks' gradients, so each rank's A and vectors stay equal

What travels between them, over this machine's loopback, is the gradient of A and of the vectors,
about a hundredth of the model, and the losses. Built on accelerate's PartialState. It goes through
gloo and main memory on GPUs too: a process that dies is then an error at once, where NCCL waits,
and the CPU tests run the very path that GPUs take (docs/adr/0014). Law: with one pass a process the
sums have the same terms as one process's; with more their order, so their last bits, may differ.
"""

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import psutil
import torch
from torch import Tensor

from ..core.errors import OrthoFedError

_PATIENCE: Final = timedelta(days=1)
"""While the first one draws samples or saves, the others wait; who dies is noticed at once."""


class WorkerLost(OrthoFedError):
    """Another process of the training is gone; this one's A is that of the last whole step."""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """One process's place among those that share a training's steps."""

    rank: int = 0
    size: int = 1

    @staticmethod
    @contextlib.contextmanager
    def joined(rank: int, size: int, meeting: Path) -> "Generator[ProcessGroup]":
        """Meet the others at the file ``meeting``, which only they know, and part afterwards."""
        from accelerate import PartialState  # noqa: PLC0415  # one process needs none of it
        from accelerate.utils import patch_environment  # noqa: PLC0415

        place = {
            "rank": rank,
            "local_rank": rank,
            "world_size": size,
            "local_world_size": size,
            # Else gloo listens where the host's name points, perhaps at the network.
            "gloo_socket_ifname": _loopback(),
            "omp_num_threads": torch.get_num_threads(),  # else accelerate sets its own and warns
        }
        with patch_environment(**place):
            PartialState(cpu=True, init_method=meeting.as_uri(), timeout=_PATIENCE)
        try:
            yield ProcessGroup(rank, size)
        finally:
            # Does both: a process that was in a group once must not believe that it still is.
            PartialState().destroy_process_group()
            PartialState._reset_state()  # noqa: SLF001  # accelerate offers no other way back

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that logs, saves and talks to the coordinator."""
        return self.rank == 0

    def turns(self, count: int) -> range:
        """Return which of a step's ``count`` passes this process makes."""
        return range(self.rank, count, self.size)

    def all_rows(self, mine: Tensor, count: int) -> Tensor:
        """Return the rows of all ``count`` passes in their order; ``mine`` are this process's."""
        if self.size == 1:
            return mine
        rows = torch.zeros(count, *mine.shape[1:], dtype=mine.dtype)
        rows[self.rank :: self.size] = mine
        return self._summed(rows)

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Let every gradient be the sum of all processes'; where one has none it adds nothing.

        Raises WorkerLost: another process is gone.
        """
        if self.size == 1:
            return
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        sums = self._summed(torch.cat([part.flatten().cpu() for part in own]))
        parts = sums.split([p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.device)

    @contextlib.contextmanager
    def first_one_first(self) -> Generator[None]:
        """Let the first process do what is inside before the others: they find what it kept.

        Raises WorkerLost: another process is gone.
        """
        if self.size == 1:
            yield
            return
        if not self.is_first:
            self._summed(torch.zeros(1))
        yield
        if self.is_first:
            self._summed(torch.zeros(1))

    def _summed(self, tensor: Tensor) -> Tensor:
        from accelerate.utils import reduce  # noqa: PLC0415

        try:
            summed = reduce(tensor, reduction="sum")
        except RuntimeError as error:
            raise WorkerLost(
                f"a process of the training is gone: {str(error).splitlines()[0]}",
                why="each step needs all of them; everything so far is saved",
                fix="run the same command again; it goes on with the next step",
                code="worker-lost",
            ) from error
        assert isinstance(summed, Tensor)  # noqa: S101  # a tensor in, a tensor out
        return summed


ALONE: Final = ProcessGroup()


def _loopback() -> str:
    """Return the name of the interface that has 127.0.0.1: lo, lo0 ..."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == "127.0.0.1" for address in addresses):
            return name
    raise OrthoFedError(
        "no network interface has the address 127.0.0.1",
        why="the processes of one training talk over it, and over nothing else",
        fix="set processes = 1, or bring the loopback interface up",
        code="no-loopback",
    )
