"""The frozen-B layer: what it adds, which side is frozen, and what it never touches."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from orthofed.client.adapter import Adapter
from orthofed.client.base import Base
from orthofed.core.basis import block
from orthofed.core.errors import InputError, SpecError
from orthofed.core.layer import Layer

from .tiny_base import tiny_base
from .tiny_concept import Bench, bench, with_layers


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("adapter"))


def _randomised(adapter: Adapter) -> None:
    random = torch.Generator().manual_seed(5)
    for (a,) in adapter.trainable().values():
        a.data.copy_(torch.randn(a.shape, generator=random))


def test_only_the_output_side_is_trained_and_the_input_side_is_a_slot_of_the_basis(
    tiny: Bench,
) -> None:
    """Frozen is B (in x r), trained is A (out x r): the other way round is not this method."""
    adapter = Adapter(tiny.base, tiny.spec, 1)
    layer = next(x for x in tiny.spec.layers if x.path.endswith("attn2.to_k"))
    ours = adapter.layers[layer.path]

    rank = tiny.spec.layer_rank(layer)
    frozen = block(
        tiny.spec.basis,
        seed=tiny.spec.seed,
        layer=layer.path,
        width=layer.width,
        rank=rank,
        slot=1,
    )
    assert ours.a.shape == (layer.out, rank)
    assert ours.a.requires_grad
    assert ours.b.dtype == torch.int8
    assert not ours.b.requires_grad
    np.testing.assert_array_equal(
        ours.b.numpy().astype(np.float32) * np.float32(ours.scale), frozen
    )
    assert [tuple(a.shape) for (a,) in adapter.trainable().values()] == [
        (x.out, tiny.spec.layer_rank(x)) for x in tiny.spec.layers
    ], "every parameter is an A"


def test_every_layer_of_the_spec_answers_with_its_residual(tiny: Bench) -> None:
    """Text encoder and UNet alike: W x + lambda A B^T x, at every canonical path."""
    adapter = Adapter(tiny.base, tiny.spec, 0)
    _randomised(adapter)

    for layer in tiny.spec.layers:
        linear, ours = tiny.base.layer(layer.path), adapter.layers[layer.path]
        x = torch.randn(5, layer.width)
        with torch.no_grad():
            plain = linear(x)
            with adapter.attached(lambda_=0.6):
                adapted = linear(x)
        dense = 0.6 * ours.scale * (ours.a @ ours.b.float().t())
        torch.testing.assert_close(adapted - plain, x @ dense.t().detach(), rtol=1e-4, atol=1e-5)


def test_the_base_is_as_before_once_the_adapter_is_off(tiny: Bench) -> None:
    """Attach, run, detach: same answers, same state dict names, same bits."""
    before = {k: v.clone() for k, v in tiny.base.family.denoiser.state_dict().items()}
    adapter = Adapter(tiny.base, tiny.spec, 0)
    _randomised(adapter)
    linear = tiny.base.layer(tiny.spec.layers[0].path)
    x = torch.ones(1, tiny.spec.layers[0].width)
    plain = linear(x)

    buffers = [name for name, _ in tiny.base.family.denoiser.named_buffers()]

    with adapter.attached():
        names = list(tiny.base.family.denoiser.state_dict())
        assert [name for name, _ in tiny.base.family.denoiser.named_buffers()] == buffers

    assert names == list(before)
    assert torch.equal(linear(x), plain)
    assert all(torch.equal(v, before[k]) for k, v in tiny.base.family.denoiser.state_dict().items())


def test_gradient_checkpointing_of_the_whole_unet_gives_the_same_bits(tiny: Bench) -> None:
    """As diffusers switches it on: self-attention, cross-attention and outputs, all blocks."""
    unet = copy.deepcopy(tiny.base.family.denoiser).train()  # it checkpoints in training mode only
    adapter = Adapter(
        replace(tiny.base, family=replace(cast("Any", tiny.base.family), unet=unet)), tiny.spec, 0
    )
    _randomised(adapter)
    random = torch.Generator().manual_seed(6)
    noisy = torch.randn(2, 4, 8, 8, generator=random)
    text = torch.randn(2, 7, 48, generator=random)
    of_unet = [a.a for path, a in adapter.layers.items() if path.startswith("unet.")]

    def gradients() -> tuple[torch.Tensor, ...]:
        with adapter.attached():
            answer = unet(noisy, torch.tensor([5, 90]), text, return_dict=False)[0]
            return torch.autograd.grad(answer.square().mean(), of_unet)

    plain = gradients()
    unet.enable_gradient_checkpointing()
    again = gradients()

    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))
    assert all(one.abs().sum() > 0 for one in plain)


def test_a_layer_that_the_base_does_not_have_is_an_error_not_a_silent_no_op(tiny: Bench) -> None:
    """A spec for another model names layers that are not there."""
    spec = with_layers(tiny.spec, Layer("unet.no_block.attn1.to_q", 24, 24))

    with pytest.raises(SpecError, match=r"no layer unet\.no_block\.attn1\.to_q"):
        Adapter(tiny.base, spec, 0)


def test_a_layer_of_another_shape_is_an_error(tiny: Bench) -> None:
    """The path exists, but the spec was written for a wider model."""
    layer = tiny.spec.layers[0]
    spec = with_layers(tiny.spec, Layer(layer.path, layer.out * 2, layer.width))

    with pytest.raises(SpecError) as caught:
        Adapter(tiny.base, spec, 0)

    assert caught.value.code == "layer-shape-differs"


def test_text_layers_are_found_with_and_without_their_prefix(tiny: Bench) -> None:
    """Files say text_model., transformers 5.6 and later do not (formats.md 3.3)."""
    inside = "encoder.layers.0.self_attn.q_proj"

    assert tiny.base.layer(f"text_encoder.text_model.{inside}") is tiny.base.layer(
        f"text_encoder.{inside}"
    )


def test_a_state_goes_out_and_comes_back(tiny: Bench) -> None:
    """What state() gives, load() takes; another spec's state is refused."""
    first, second = Adapter(tiny.base, tiny.spec, 0), Adapter(tiny.base, tiny.spec, 0)
    _randomised(first)

    second.load(first.state())

    assert all(np.array_equal(a, second.state()[path]) for path, a in first.state().items())
    with pytest.raises(SpecError, match="other names or shapes"):
        second.load(dict(list(first.state().items())[1:]))


def test_the_wrong_base_is_named_with_both_fingerprints(tiny: Bench, tmp_path: Path) -> None:
    """One weight of the local copy differs from the operator's."""
    other = tiny_base(tmp_path / "other")
    config = other / "unet" / "config.json"
    config.write_text(config.read_text() + " ")

    with pytest.raises(InputError, match="has the fingerprint") as caught:
        Base.load(other, spec=tiny.spec)

    assert caught.value.code == "wrong-base"
