"""Every layer that `--targets all` adapts, inside the networks that the libraries build."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from orthofed.client.adapter import Adapter
from orthofed.client.base import Base
from orthofed.client.tokens import LearnedTokens
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.core.layout import ContributionLayout, unpack

from .member import random_blob
from .tiny_base import tiny_base
from .tiny_concept import Bench, bench
from .tiny_families import tiny_sd2, tiny_sdxl
from .tiny_release import write_release

FAMILIES: dict[str, Callable[[Path], Path]] = {
    "sd1": tiny_base,
    "sd2": tiny_sd2,
    "sdxl": tiny_sdxl,
}
KINDS = {"conv1", "conv2", "conv_shortcut", "conv", "time_emb_proj", "fc1", "fc2", "proj_in"}


@pytest.fixture(scope="module", params=FAMILIES)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp(request.param)
    return bench(folder, FAMILIES[request.param], targets="all")


@torch.no_grad()
def _answer(base: Base, tokens: LearnedTokens) -> torch.Tensor:
    """Return the network's answer to fixed noise under a fixed prompt."""
    noisy = torch.randn(2, *base.latent_shape, generator=torch.Generator().manual_seed(0))
    conditions = tokens.encode(["a red fox", "a photo of a tree"])
    return base.predict(noisy, torch.tensor([40, 700]), conditions)


def _add(base: Base, residuals: dict[str, torch.Tensor], sign: int) -> None:
    for path, residual in residuals.items():
        weight = base.layer(path).weight
        weight.data += sign * residual.view_as(weight)


def test_the_network_answers_as_one_with_the_merged_weights(tiny: Bench) -> None:
    """Residual blocks, samplers, transformers, text encoders: each through its own call."""
    base, adapter = tiny.base, Adapter(tiny.base, tiny.spec, 1)
    random = torch.Generator().manual_seed(5)
    for (a,) in adapter.trainable().values():
        a.data.copy_(torch.randn(a.shape, generator=random) * 0.1)
    plain = _answer(base, LearnedTokens.of(base, {}))

    with adapter.attached(lambda_=0.6):
        ours = _answer(base, LearnedTokens.of(base, {}))

    dense = {p: 0.6 * x.scale * x.a.detach() @ x.b.float().t() for p, x in adapter.layers.items()}
    _add(base, dense, 1)
    merged = _answer(base, LearnedTokens.of(base, {}))
    _add(base, dense, -1)
    assert {path.rpartition(".")[2] for path in dense} >= KINDS
    assert (merged - plain).abs().max() > 0.1 * plain.abs().max()
    assert (ours - merged).abs().max() < 1e-5 * (merged - plain).abs().max()


def test_every_layer_that_feeds_the_answer_is_trained(tiny: Bench) -> None:
    """With activations kept or made again, the same bits; XL's last text layer feeds nothing."""
    kept, remade = tiny.train(), tiny.train(checkpointing=True)

    still = {path for path, a in kept.a.items() if not a.any()}
    assert set(kept.a) == {layer.path for layer in tiny.spec.layers}
    assert all(path.startswith("text_encoder.text_model.encoder.layers.2.") for path in still)
    assert bool(still) == ("text_encoder_2" in tiny.base.towers)
    assert all(np.array_equal(a, remade.a[path]) for path, a in kept.a.items())


def test_a_release_answers_as_its_contributions_side_by_side(tiny: Bench, tmp_path: Path) -> None:
    """Kernels out of the kohya file and kernels from the seed are the same ones."""
    spec, names = tiny.spec, ("anna-k7", "rex-p2")
    layout = ContributionLayout(spec, (2,))
    tensors = [
        unpack(layout, random_blob(spec, (2,), seed=slot, size=0.05)) for slot in range(len(names))
    ]
    contributions = [(slot, name, tensors[slot]) for slot, name in enumerate(names)]
    folder = write_release(tmp_path, spec, contributions, lambda_1024=614, dtype="F32")
    parts = [
        Variant.of_contribution(spec, slot, [Trigger(name)], tensors[slot], lambda_=0.6)
        for slot, name in enumerate(names)
    ]

    answers = []
    for variant in (
        Variant(),
        Variant.sum_of(parts),
        Variant.of_release(folder, spec, lambda_=0.6),
    ):
        with variant.applied(tiny.base) as tokens:
            answers.append(_answer(tiny.base, tokens))

    plain, side_by_side, released = answers
    assert (released - side_by_side).abs().max() < 1e-5 * (side_by_side - plain).abs().max()
