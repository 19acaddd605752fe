"""One step of differentially private descent: draw, scale, sum, add noise, divide.

    S = each of N images with probability q          s = sum over S of C g_k / ||g_k||
    gradient = (s + sigma C z) / (q images),         z standard normal in every entry

g_k is everything that leaves of image k, all A_i and all token vectors in one vector, scaled once:
one image more or less moves s by C at most, whatever it shows. Longer gradients are cut to C as in
arXiv:1607.00133, algorithm 1; shorter ones are stretched to it (arXiv:2206.07136), since a C that
fits would have to be found on the images, and one that does not drowns them: on the shipped base an
image's gradient has the norm .01 to .2, and C = 1 would be fifty times more noise for nothing.

A claim of one mean (dp_mean.py) is the same sum with every image in it: there a vector is a move
whose length means something, so longer ones are cut and shorter ones stay.

Laws: the divisor is a constant, never the number that was drawn; an empty draw is noise alone; an
image whose gradient is no number counts nothing and stops nothing, since a stop would tell of it.
So `steps` of these are (epsilon, delta) by dp_accountant.py, and the optimiser, rounding, averages
and probes make use of what is noisy already. Source: security.md 9.3.

Stopped and resumed: only the last A leaves, and exactly `steps` noisy gradients lead to it. A step
that a kill undid is made again from the save with another draw and fresh noise; what came of the
first try was never sent and decides nothing, so it composes with nothing. That holds as long as
nobody chooses between tries by their looks, and each contribution from the same images adds its own
epsilon (docs/training.md). Not covered: how long steps take, and what is seen at home alone.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor

from ..core.dp_claim import DpClaim
from .dp_draws import DpDraws

_BELOW: Final = 1 - 1e-6
"""Of C, so that the norm is C at most behind the rounding to float32 too."""


_LEAST: Final = 1e-20
"""A norm that is nothing: its direction is rounding."""


class Records(Protocol):
    """What is private, an image a record, and the gradient of each."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def gradients(self, chosen: Sequence[int]) -> Iterator[list[Tensor]]:
        """Yield those of the records ``chosen``, some at a time: (n, *shape) a parameter."""
        ...


def noisy_gradient(
    records: Records, claim: DpClaim, draws: DpDraws, like: Sequence[Tensor]
) -> list[Tensor]:
    """Return one step's gradient for every parameter in ``like``, in float32."""
    clip = claim.clip_milli / 1e3
    bounded = partial(_scaled, clip=clip, stretched=claim.mechanism == "dp-sgd")
    sums = [torch.zeros_like(one, dtype=torch.float32) for one in like]
    chosen: list[int] = draws.drawn(records.count, claim.q_ppm).tolist()
    if chosen:
        for rows in records.gradients(chosen):
            sums = [total + part for total, part in zip(sums, bounded(rows), strict=True)]
    noise = claim.sigma_milli / 1e3 * clip * draws.normal(sum(one.numel() for one in like))
    expected = claim.q_ppm / 1e6 * claim.images
    ends = np.cumsum([one.numel() for one in like])[:-1]
    return [
        (total + torch.from_numpy(z).to(total).view_as(total)) / expected
        for total, z in zip(sums, np.split(noise, ends), strict=True)
    ]


def _scaled(rows: Sequence[Tensor], *, clip: float, stretched: bool) -> Iterator[Tensor]:
    """Yield the sum over images of their vectors, each whole one of norm ``clip`` at most.

    ``stretched``: exactly that, but for those that are nothing.
    """
    squares = sum(part.double().flatten(1).square().sum(1) for part in rows)
    norms = torch.as_tensor(squares).sqrt()
    share = torch.where(norms.isfinite() & (norms > _LEAST), _BELOW * clip / norms, 0.0)
    if not stretched:
        share = share.clamp(max=1.0)
    for part in rows:
        finite = torch.nan_to_num(part, nan=0.0, posinf=0.0, neginf=0.0)
        yield torch.einsum("k,k...->...", share.to(finite.dtype), finite)
