"""Where a base is held and its passes run, and in which type: decided before anything is loaded.

    auto      the first CUDA GPU, or the CPU where there is none
    held in   float32 on the CPU; on a GPU the type of the passes, as diffusers' own scripts do,
              but the VAE in float32: SDXL's answers with no number in float16 (base.py)

What is trained, A and the token vectors, is float32 everywhere, and so is the optimiser's state.
Every draw comes from a CPU generator (draws.py), so all devices see the same numbers. Law: a
device that is not there, or a type that it cannot multiply, is an InputError with what there is.
Pure but for `Machine.here`, so that machines which nobody has here can be tested.
"""

from dataclasses import dataclass
from typing import Final

import torch

from ..core.errors import InputError
from .training_settings import Precision

PASSES: Final[dict[Precision, torch.dtype]] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
"""The type in which the passes multiply, by the setting's word."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One CUDA GPU."""

    name: str
    bf16: bool = True  # multiplies bfloat16 in hardware


@dataclass(frozen=True, slots=True)
class Machine:
    """What torch finds on a machine."""

    gpus: tuple[Gpu, ...] = ()  # by CUDA's number
    mps: bool = False  # Apple's GPU
    with_cuda: bool = True  # torch was built for CUDA at all

    @staticmethod
    def here() -> "Machine":
        """Return this machine."""
        gpus = []
        for number in range(torch.cuda.device_count()):
            major, _ = torch.cuda.get_device_capability(number)
            # 8.0 (Ampere) is the first with bfloat16 products; below, torch emulates them slowly.
            gpus.append(Gpu(torch.cuda.get_device_name(number), bf16=major >= 8))  # noqa: PLR2004
        return Machine(
            tuple(gpus), torch.backends.mps.is_available(), torch.version.cuda is not None
        )

    @property
    def words(self) -> str:
        """The devices as an error names them."""
        there = ["cpu", *(f"cuda:{n} ({gpu.name})" for n, gpu in enumerate(self.gpus))]
        return ", ".join([*there, "mps"] if self.mps else there)


@dataclass(frozen=True, slots=True)
class Placement:
    """One device and the type in which a base's networks are held there."""

    device: torch.device
    dtype: torch.dtype = torch.float32

    @staticmethod
    def of(asked: str, precision: Precision, machine: Machine, *, rank: int = 0) -> "Placement":
        """Return the place that the settings ``device`` and ``precision`` name on ``machine``.

        A process of another ``rank`` has the GPU that many behind the first one's; the CPU has room
        for all. Raises InputError: the device is not there, or does not work in this precision.
        """
        kind, _, number = asked.partition(":")
        if kind == "auto":
            kind = "cuda" if machine.gpus else "cpu"
        if kind == "cpu":
            _check_cpu(precision)
            return Placement(torch.device("cpu"))
        if kind == "mps":
            _check_there(machine.mps and not rank, _for(asked, rank), machine)
            _check_mps(precision)
            return Placement(torch.device("mps"))
        index = int(number or 0) + rank
        _check_there(index < len(machine.gpus), _for(asked, rank), machine)
        _check_cuda(machine.gpus[index], precision)
        return Placement(torch.device("cuda", index), PASSES[precision])


def name_of(device: torch.device) -> str:
    """Return what the device calls itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


ON_CPU: Final = Placement(torch.device("cpu"))


def _for(asked: str, rank: int) -> str:
    return f"{asked!r} for {rank + 1} processes" if rank else repr(asked)


def _check_there(is_there: bool, asked: str, machine: Machine) -> None:  # noqa: FBT001  # the fact
    if is_there:
        return
    built = machine.with_cuda or "cuda" not in asked
    raise InputError(
        f"device = {asked}, here are: {machine.words}",
        why="training runs on one of the devices that torch finds"
        if built
        else "torch was installed here without CUDA",
        fix="set device to one of these, or to auto; each of processes takes the next GPU"
        if built
        else "install a CUDA build of torch, or set device = 'cpu'",
        code="device-not-there",
    )


def _check_cpu(precision: Precision) -> None:
    if precision == "fp16":
        # One thread, torch 2.13, a processor with bfloat16 and no float16 products: a linear layer
        # of 320 x 320 on 4,096 rows 77 ms (float32 10), a 3 x 3 convolution 4.7 s (float32 18 ms).
        raise InputError(
            "precision = 'fp16' on cpu, allowed is fp32 or bf16",
            why="torch multiplies float16 on a CPU many times slower than float32",
            fix="set precision = 'bf16' or 'fp32', or train on a CUDA GPU",
            code="precision-not-there",
        )


def _check_mps(precision: Precision) -> None:
    if precision != "fp32":
        raise InputError(
            f"precision = {precision!r} on mps, allowed is fp32",
            why="passes in 16 bits were never tried on Apple's GPUs",
            fix="set precision = 'fp32', or device = 'cpu'",
            code="precision-not-there",
        )


def _check_cuda(gpu: Gpu, precision: Precision) -> None:
    if precision == "bf16" and not gpu.bf16:
        raise InputError(
            f"precision = 'bf16' on {gpu.name}, allowed is fp16 or fp32",
            why="it has no bfloat16 products; torch would emulate them, slower than fp32",
            fix="set precision = 'fp16' or 'fp32'",
            code="precision-not-there",
        )
