"""A learning rate that follows the clock, and an average of the weights.

On a shared CPU nobody knows how many steps an hour holds, so warm-up and cosine are functions of
the fraction of the budget that is spent. Training that was cut off goes on from the fraction it
had reached.
"""

# pyright: basic, reportPrivateImportUsage=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false
# pyright: reportOptionalCall=false, reportAttributeAccessIssue=false, reportMissingImports=false
# torch and resvg_py publish partial types or are not installed for checks

import math
from collections.abc import Iterable

import torch
from torch import nn


def rate(fraction: float, *, peak: float, warmup: float = 0.03, floor: float = 0.02) -> float:
    """Return the learning rate when `fraction` of the time budget is spent."""
    if fraction < warmup:
        return peak * max(fraction, 1e-3) / warmup
    turned = min(1.0, (fraction - warmup) / (1 - warmup))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * turned)))


class Average:
    """An exponential moving average of parameters, short at first and `decay` long in the end."""

    def __init__(self, modules: Iterable[nn.Module], *, decay: float) -> None:
        """Start from the parameters as they are."""
        self._live = [p for module in modules for p in module.parameters()]
        self.values = [p.detach().clone() for p in self._live]
        self._decay, self._steps = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the live parameters."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(self.values, self._live, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange live and averaged parameters; call again to undo."""
        for value, live in zip(self.values, self._live, strict=True):
            kept = value.clone()
            value.copy_(live)
            live.copy_(kept)
