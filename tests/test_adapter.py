"""The frozen-B layer: what it adds, which side is frozen, and what it never touches."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from orthofed.client.adapter import Adapter, attached
from orthofed.client.base import Base
from orthofed.client.frozen_linear import FrozenLinear
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
    for a in adapter.parameters():
        a.data.copy_(torch.randn(a.shape, generator=random))


@pytest.mark.parametrize("rows", [1, 7], ids=["apart", "folded"])
def test_peft_with_its_input_side_frozen_gives_the_same_output_and_gradients(rows: int) -> None:
    """PEFT's lora_A = B^T (frozen) and lora_B = A is the very same layer: our oracle."""
    torch.manual_seed(3)
    signs = torch.randint(0, 2, (24, 4), dtype=torch.int8) * 2 - 1
    a, x = torch.randn(10, 4), torch.randn(3, rows, 24)
    linear = nn.Linear(24, 10).requires_grad_(requires_grad=False)
    ours = FrozenLinear(signs, a.clone(), scale=24**-0.5)
    model = nn.Sequential()
    model.add_module("to_q", copy.deepcopy(linear))
    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q"]), model)
    theirs: Any = model.get_submodule("to_q")
    theirs.lora_A["default"].weight.data.copy_(signs.t() * 24**-0.5)
    theirs.lora_A["default"].weight.requires_grad_(requires_grad=False)
    theirs.lora_B["default"].weight.data.copy_(a)
    ours_x, theirs_x = x.clone().requires_grad_(), x.clone().requires_grad_()

    our_y = ours(ours_x, linear)
    their_y = model(theirs_x)
    our_y.square().sum().backward()
    their_y.square().sum().backward()

    torch.testing.assert_close(our_y, their_y)
    torch.testing.assert_close(ours.a.grad, theirs.lora_B["default"].weight.grad)
    torch.testing.assert_close(ours_x.grad, theirs_x.grad)


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
    assert [name for name, _ in ours.named_parameters()] == ["a"]
    assert ours.a.shape == (layer.out, rank)
    assert set(ours.b.unique().tolist()) == {-1.0, 1.0}
    np.testing.assert_array_equal(
        ours.b.numpy().astype(np.float32) * np.float32(ours.scale), frozen
    )
    assert list(ours.state_dict()) == ["a"], "B is in no state dict"


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
    before = {k: v.clone() for k, v in tiny.base.family.components["unet"].state_dict().items()}
    adapter = Adapter(tiny.base, tiny.spec, 0)
    _randomised(adapter)
    linear = tiny.base.layer(tiny.spec.layers[0].path)
    x = torch.ones(1, tiny.spec.layers[0].width)
    plain = linear(x)

    with adapter.attached():
        names = list(tiny.base.family.components["unet"].state_dict())

    assert names == list(before)
    assert torch.equal(linear(x), plain)
    assert all(
        torch.equal(v, before[k])
        for k, v in tiny.base.family.components["unet"].state_dict().items()
    )


def test_a_layer_that_the_base_does_not_have_is_an_error_not_a_silent_no_op(tiny: Bench) -> None:
    """A spec for another model names layers that are not there."""
    spec = with_layers(tiny.spec, Layer("unet.no_block.attn1.to_q", 24, 24))

    with pytest.raises(SpecError, match=r"no linear layer unet\.no_block\.attn1\.to_q"):
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


def test_the_way_back_keeps_x_times_b_and_never_x() -> None:
    """What is saved for backward beside parameters: t x r numbers, folded or apart."""
    linear = nn.Linear(32, 32).requires_grad_(requires_grad=False)
    ours = FrozenLinear(torch.ones(32, 4), torch.randn(32, 4), scale=0.1)
    fixed = {t.data_ptr() for t in (linear.weight, linear.bias, ours.a, ours.b)}

    def kept(rows: int) -> list[tuple[int, ...]]:
        found: list[torch.Tensor] = []
        x = torch.randn(rows, 32, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: found.append(t) or t, lambda t: t):
            ours(x, linear)
        return [tuple(t.shape) for t in found if t.data_ptr() not in fixed]

    assert kept(3) == [(3, 4)]
    assert kept(300) == [(300, 4)]


def test_projections_that_share_an_input_answer_as_if_alone(tiny: Bench) -> None:
    """One product for q, k and v gives what three give; another input is not mixed in."""
    adapter = Adapter(tiny.base, tiny.spec, 0)
    _randomised(adapter)
    start = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_"
    width = adapter.layers[f"{start}q"].b.shape[0]
    x, other = torch.randn(5, width), torch.randn(5, width)

    with adapter.attached(), torch.no_grad():
        together = [tiny.base.layer(start + name)(x) for name in "qkv"]
        apart = [tiny.base.layer(start + "q")(y) for y in (x, other, x)]

    assert torch.equal(together[0], apart[0])
    assert torch.equal(apart[0], apart[2])
    for name, answer in zip("qkv", together, strict=True):
        linear, layer = tiny.base.layer(start + name), adapter.layers[start + name]
        with torch.no_grad():
            torch.testing.assert_close(answer, layer(x, linear), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(apart[0], apart[1])


def test_under_autocast_the_factor_and_its_gradient_stay_float32() -> None:
    """The products are made in bfloat16 and are near those of float32."""
    torch.manual_seed(3)
    linear = nn.Linear(32, 16).requires_grad_(requires_grad=False)
    ours = FrozenLinear(torch.ones(32, 4), torch.randn(16, 4), scale=0.1)
    x = torch.randn(50, 32, requires_grad=True)
    exact = ours(x, linear)
    exact.sum().backward()
    wanted, ours.a.grad = ours.a.grad, None

    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = ours(x, linear)
    rounded.sum().backward()

    assert rounded.dtype == torch.bfloat16
    assert ours.a.grad is not None
    assert ours.a.grad.dtype == torch.float32
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.1)
    torch.testing.assert_close(ours.a.grad, wanted, rtol=0.05, atol=0.5)


def test_an_error_inside_takes_the_residual_off_and_a_second_one_is_refused() -> None:
    """The base answers as before; two residuals on one layer would hide each other."""
    linear = nn.Linear(8, 8)
    ours = FrozenLinear(torch.ones(8, 2), torch.ones(8, 2), scale=1.0)

    with pytest.raises(SpecError, match="a second residual"), attached(linear, ours):
        attached(linear, ours).__enter__()

    assert "forward" not in vars(linear)
