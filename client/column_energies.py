# pyright: basic
# torch and diffusers publish partial types.
"""What each column of O hears while the base draws public prompts, for quiet columns.

    u_c = mean over inputs x of (o_c^T x)^2      all positions, all steps, with and without guidance

Laws: the base is drawn with as it is, and no image is needed; O^T x is taken by Hadamard's own
factors, so that no m x m matrix is formed. Source: method.md 6.3, core/quiet.py. Cost: one picture
a prompt; (k + m / k) products an entry of x, k the order of the width's core.
"""

import contextlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from ..core.basis import scale
from ..core.haar import haar_table
from ..core.hadamard import core_order, hadamard_columns, hadamard_matrix
from ..core.layer import Layer
from ..core.spec import FederationSpec
from .activations import flat_inputs
from .base import Base
from .placement import Machine, Placement
from .plain import Target
from .sample import draw
from .variant import Variant

STEPS: Final = 12
_SEED: Final = 0
Rotate = Callable[[Tensor], Tensor]


def column_energies(
    base: Path, spec: FederationSpec, prompts: Sequence[str], device: str = "auto"
) -> dict[str, np.ndarray]:
    """Return u, (m,) in float64, by layer path. Raises InputError: no such device or base."""
    loaded = Base.load(base, placement=Placement.of(device, "fp32", Machine.here()))
    plain = Variant(token_layers=spec.token_layers)
    with plain.applied(loaded) as tokens, energies(loaded, spec) as summed:
        draw(loaded, tokens, prompts, count=1, seed=_SEED, steps=STEPS)
    return {path: total / max(count, 1) for path, (total, count) in summed.items()}


@contextlib.contextmanager
def energies(base: Base, spec: FederationSpec) -> Generator[dict[str, tuple[np.ndarray, int]]]:
    """Sum (O^T x)^2, (m,) by layer path, and count the inputs x of all passes inside the block."""
    summed = {layer.path: (np.zeros(layer.width), 0) for layer in spec.layers}
    handles = [
        base.layer(layer.path).register_forward_pre_hook(
            _hook(summed, layer.path, _rotation(spec, layer))
        )
        for layer in spec.layers
    ]
    try:
        yield summed
    finally:
        for handle in handles:
            handle.remove()


def _hook(summed: dict[str, tuple[np.ndarray, int]], path: str, rotate: Rotate):  # noqa: ANN202  # torch's own
    def see(target: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(target, Target)  # noqa: S101  # Base.layer gives no other
        heard = rotate(flat_inputs(target, args[0].detach().float()))
        total, count = summed[path]
        summed[path] = total + heard.double().square().sum(0).cpu().numpy(), count + len(heard)

    return see


def _rotation(spec: FederationSpec, layer: Layer) -> Rotate:
    """Return what takes x, (p, m), to O^T x, (p, m), in the order of O's columns."""
    s = scale(spec.basis, layer.width)
    if spec.basis == "haar":
        table = torch.from_numpy(haar_table(layer.width, seed=spec.seed).astype(np.float32) * s)
        return lambda x: x @ table.to(x.device)
    columns = hadamard_columns(layer.width, range(layer.width), seed=spec.seed, layer=layer.path)
    order = core_order(layer.width)
    signs = torch.from_numpy(columns.signs.astype(np.float32) * s)
    core, doubled = (
        torch.from_numpy(hadamard_matrix(k).astype(np.float32))
        for k in (order, layer.width // order)
    )
    picked = torch.from_numpy(columns.picked)

    def rotate(x: Tensor) -> Tensor:
        parts = (x * signs.to(x.device)).reshape(len(x), -1, order)
        done = torch.einsum("ac,pab,bd->pcd", doubled.to(x.device), parts, core.to(x.device))
        return done.reshape(len(x), -1)[:, picked.to(x.device)]

    return rotate
