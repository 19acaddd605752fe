# pyright: basic
# the optional optimisers publish no types
"""One optimiser over named groups of parameters: rates, schedule, clipping, moving average.

    step n:  unscale and clip each group's gradient -> update at rate(n)
             -> ema = d ema + (1 - d) parameter

with d = min(ema_decay, (1 + n) / (10 + n)), so that the average forgets the start. Passes in
float16 scale the loss, so that small gradients do not vanish (torch.amp.GradScaler, arXiv
1710.03740): a step with a gradient beyond float16 is skipped and the scale halved. Every state of
the optimiser can be read out as tensors and plain numbers and put back: a resumed run goes on with
the same bits. bitsandbytes and prodigyopt are extras, imported only where they are asked for.
"""

import contextlib
import importlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import InputError, OrthoFedError
from .training_settings import Optimiser, TrainingSettings

_LEAST_SCALE: Final = 2.0**-14
"""Thirty halvings in a row below the 65,536 that a run begins with."""


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters by name that share a full rate and a weight decay."""

    parameters: Mapping[str, nn.Parameter]
    rate: float
    weight_decay: float = 0.0


class Optimisation:
    """The optimiser of one run."""

    def __init__(self, groups: Sequence[Group], settings: TrainingSettings) -> None:
        """Make the optimiser that the settings name.

        Raises InputError: it is an extra that is not installed, or does not run on this device.
        """
        self._settings = settings
        self._named = {name: p for group in groups for name, p in group.parameters.items()}
        rows = [
            {
                "params": list(group.parameters.values()),
                "lr": group.rate,
                "initial_lr": group.rate,
                "weight_decay": group.weight_decay,
            }
            for group in groups
            if group.parameters
        ]
        self._optimisers = _made(settings.optimiser, rows)
        self._scaler = torch.amp.GradScaler(
            next(iter(self._named.values())).device.type, enabled=settings.precision == "fp16"
        )
        decayed = settings.ema_decay > 0
        self._average = {n: p.detach().clone() for n, p in self._named.items()} if decayed else {}

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Everything that a step updates, in a fixed order."""
        return list(self._named.values())

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the loss to go backward from: scaled where the passes are in float16."""
        return self._scaler.scale(loss)

    def step(self, number: int) -> bool:
        """Update every parameter from its gradient, as step ``number``, and drop the gradients.

        Returns False when a gradient was beyond float16 and nothing was updated (of Prodigy's
        optimisers, one a rate: those that had one). Raises OrthoFedError: no scale is left to try.
        """
        scale, share = self._scaler.get_scale(), self._settings.rate_at(number)
        for optimiser in self._optimisers:
            if self._scaler.is_enabled():
                self._scaler.unscale_(optimiser)
        for group in self._rows():
            group["lr"] = group["initial_lr"] * share
            if self._settings.clip_norm:
                nn.utils.clip_grad_norm_(group["params"], self._settings.clip_norm)
        for optimiser in self._optimisers:
            self._scaler.step(optimiser)
            optimiser.zero_grad(set_to_none=True)
        self._scaler.update()
        if self._scaler.get_scale() < scale:
            _check_scale(self._scaler.get_scale(), number)
            return False
        self._follow(number)
        return True

    def _follow(self, number: int) -> None:
        """Let the averages follow the parameters."""
        if self._average:
            decay = min(self._settings.ema_decay, (1 + number) / (10 + number))
            with torch.no_grad():
                for name, average in self._average.items():
                    average.lerp_(self._named[name], 1 - decay)

    @contextlib.contextmanager
    def averaged(self) -> Generator[None]:
        """Let the parameters be their moving averages inside the block, where one is kept."""
        kept = {name: self._named[name].detach().clone() for name in self._average}
        self._put(self._average)
        try:
            yield
        finally:
            self._put(kept)

    @property
    def num_bytes(self) -> int:
        """Memory of the optimiser's state so far, averages included."""
        held = [v for o in self._optimisers for state in o.state.values() for v in state.values()]
        tensors = [v for v in (*held, *self._average.values()) if isinstance(v, Tensor)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return every tensor and every plain number that the next step reads."""
        tensors = {f"{name}/value": p.detach() for name, p in self._named.items()}
        tensors |= {f"{name}/average": value for name, value in self._average.items()}
        numbers: dict[str, Any] = {}
        for name, parameter in self._named.items():
            for key, value in self._state_of(parameter).items():
                if isinstance(value, Tensor):
                    tensors[f"{name}/state/{key}"] = value
                else:
                    numbers[f"{name}/state/{key}"] = value
        for i, group in enumerate(self._rows()):
            numbers |= {f"group/{i}/{k}": v for k, v in group.items() if _plain(v)}
        numbers |= {f"scaler/{k}": v for k, v in self._scaler.state_dict().items()}
        return {name: value.cpu().numpy().copy() for name, value in tensors.items()}, numbers

    def restore(self, tensors: Mapping[str, np.ndarray], numbers: Mapping[str, Any]) -> None:
        """Put back what `state` returned."""
        self._put({n: torch.from_numpy(tensors[f"{n}/value"]) for n in self._named})
        for name in self._average:
            self._average[name].copy_(torch.from_numpy(tensors[f"{name}/average"]))
        for name, parameter in self._named.items():
            start = f"{name}/state/"
            moments = {
                key.removeprefix(start): torch.from_numpy(value.copy()).to(parameter.device)
                for key, value in tensors.items()
                if key.startswith(start)
            }
            plain = {k.removeprefix(start): v for k, v in numbers.items() if k.startswith(start)}
            self._state_of(parameter).update({**moments, **plain})
        for i, group in enumerate(self._rows()):
            start = f"group/{i}/"
            group |= {k.removeprefix(start): v for k, v in numbers.items() if k.startswith(start)}
        scaler = {k.removeprefix("scaler/"): v for k, v in numbers.items() if k[:7] == "scaler/"}
        if scaler:
            self._scaler.load_state_dict(scaler)

    def _rows(self) -> list[dict[str, Any]]:
        return [group for optimiser in self._optimisers for group in optimiser.param_groups]

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Any]:
        """Return the state of one parameter, in the optimiser that has it."""
        for optimiser in self._optimisers:
            if any(parameter is p for group in optimiser.param_groups for p in group["params"]):
                return optimiser.state[parameter]
        raise AssertionError("a parameter without an optimiser")

    def _put(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in values.items():
                self._named[name].copy_(value)


def _check_scale(scale: float, number: int) -> None:
    if scale < _LEAST_SCALE:
        raise OrthoFedError(
            f"the loss scale fell to {scale:.2g} at step {number + 1}, {_LEAST_SCALE:.2g} is the "
            "least",
            why="however small the loss is made, a gradient is beyond float16",
            fix="set precision = 'bf16', or 'fp32' on a GPU without it, and start again",
            code="loss-scale-gone",
        )


def _plain(value: object) -> bool:
    return isinstance(value, (bool, int, float)) or (
        isinstance(value, (list, tuple)) and all(isinstance(x, (int, float)) for x in value)
    )


def _made(kind: Optimiser, rows: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
    if kind == "adamw":
        return [torch.optim.AdamW(rows, fused=True)]
    if kind == "adamw8bit":
        if not rows[0]["params"][0].is_cuda:
            raise InputError(
                "optimiser = 'adamw8bit' on a CPU",
                why="its 8-bit kernels run on CUDA only",
                fix="set optimiser = 'adamw', or train on a GPU",
                code="optimiser-needs-a-gpu",
            )
        return [_extra("bitsandbytes").optim.AdamW8bit(rows)]
    prodigy = _extra("prodigyopt").Prodigy  # one each: it allows one rate, and finds it
    return [prodigy([{**row, "lr": 1.0, "initial_lr": 1.0}], safeguard_warmup=True) for row in rows]


def _extra(name: str) -> Any:  # noqa: ANN401  # the optional package has no types
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"the package {name} is not installed",
            why="the chosen optimiser comes from it",
            fix=f"run pip install {name}, or set optimiser = 'adamw'",
            code="optimiser-not-installed",
        ) from error
