"""The law of a shared concept: one step of each owner, averaged, is one step on the union.

    sum_k n_k / N (A - rate grad L_k) = A - rate grad L,    L_k, L means over k's, over all images

For one step of plain gradient descent at the same rate it holds for any model; here it is held to
the diffusion loss of the tiny base, through the integers that owners send and the merge that a
release makes of them. What several steps give beside the union is measured: benchmarks/shared.py.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from orthofed.client.batches import Batch
from orthofed.client.per_image import parameters
from orthofed.core.merge import Term, residual
from orthofed.core.owners import average, owner_weights, together
from orthofed.core.quantise import quantise
from orthofed.core.spec_blocks import slot_block

from .test_per_image import Setting
from .tiny_concept import bench

pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast")  # a base in float64
RATE = 0.05
SLOT = 1


def rows_of(batch: Batch, rows: Sequence[int]) -> Batch:
    taken = list(rows)
    return Batch(
        batch.latents[taken],
        batch.noise[taken],
        batch.timesteps[taken],
        [batch.captions[row] for row in taken],
        [batch.framings[row] for row in taken],
        None,
    )


def stepped(setting: Setting, rows: Sequence[int]) -> list[np.ndarray]:
    """Return every A and the vectors after one step on the mean loss of some images."""
    moving = list(parameters(setting.adapter, setting.tokens))
    with setting.adapter.attached(), setting.tokens.attached():
        loss = setting.losses(rows_of(setting.batch, rows), setting.tokens.encode).mean()
        found: tuple[Tensor, ...] = torch.autograd.grad(loss, moving)
    return [(p.detach() - RATE * g).numpy() for p, g in zip(moving, found, strict=True)]


@pytest.mark.parametrize("hands", [((0,), (1, 2, 3)), ((0, 2), (1, 3)), ((0,), (1,), (2, 3))])
def test_a_round_of_one_step_is_a_step_on_the_union(
    tmp_path: Path, hands: tuple[tuple[int, ...], ...]
) -> None:
    """A to half a unit of 16 bits of each part, the model's change alike, the vectors too."""
    setting = Setting.of(bench(tmp_path, targets="attention"))
    spec = setting.tiny.spec
    start = [p.detach().numpy() for p in parameters(setting.adapter, setting.tokens)]

    parts = [stepped(setting, rows) for rows in hands]
    union = stepped(setting, range(4))

    weights = owner_weights([len(rows) for rows in hands], 1024)
    moved = 0.0
    for number, layer in enumerate(spec.layers):
        block = slot_block(spec, layer, SLOT)
        terms = [
            Term(q.q, q.exponent, weight, block)
            for part, weight in zip(parts, weights, strict=True)
            for q in (quantise(part[number].astype(np.float32)),)
        ]
        one = together(terms)
        averaged = np.ldexp(one.q.astype(np.float64), one.exponent) / 1024
        unit = 2.0 ** max(term.exponent for term in terms)
        assert np.abs(averaged - union[number]).max() <= unit
        moved = max(moved, np.abs(union[number] - start[number]).max() / unit)
        whole = {"family": spec.basis, "width": layer.width, "out": layer.out}
        assert np.array_equal(residual([one], **whole), residual(terms, **whole))
    for number in range(len(spec.layers), len(union)):
        rows = [part[number].astype(np.float32) for part in parts]
        assert np.allclose(average(rows, weights), union[number], rtol=0, atol=1e-6)
    assert moved > 20  # the step is far above what 16 bits hide
