"""Adapted convolutions: the unfolded linear map, its gradients, what is kept, what is refused."""

import contextlib
import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from orthofed.client.frozen_group import attached
from orthofed.client.frozen_linear import FrozenLinear
from orthofed.core.errors import SpecError

CHANNELS, OUT, RANK, LAMBDA = 6, 10, 4, 0.75
SHAPES: dict[str, dict[str, Any]] = {
    "residual block": {"kernel_size": 3, "padding": 1},
    "downsampler": {"kernel_size": 3, "padding": 1, "stride": 2},
    "projection": {"kernel_size": 1},
    "uneven": {"kernel_size": (3, 2), "padding": (0, 1), "stride": (2, 1)},
    "dilated": {"kernel_size": 3, "padding": 2, "dilation": (1, 2)},
}
PEFT_SHAPES = {name: shape for name, shape in SHAPES.items() if "dilation" not in shape}
"""PEFT 0.21 gives its lora_A no dilation."""


class Setting:
    """A convolution and something curved behind it, its residual, and an input."""

    def __init__(self, shape: dict[str, Any], *, bias: bool = True) -> None:
        torch.manual_seed(3)
        self.module = nn.Sequential(nn.Conv2d(CHANNELS, OUT, bias=bias, **shape), nn.SiLU())
        self.module.requires_grad_(requires_grad=False)
        width = self.convolution.weight[0].numel()
        self.layer = FrozenLinear(
            nn.Parameter(torch.randn(OUT, RANK)),
            torch.randint(0, 2, (width, RANK), dtype=torch.int8) * 2 - 1,
            width**-0.5,
        )
        self.x = torch.randn(3, CHANNELS, 9, 8)

    @property
    def convolution(self) -> nn.Conv2d:
        convolution = self.module[0]
        assert isinstance(convolution, nn.Conv2d)
        return convolution

    def attached(self) -> contextlib.AbstractContextManager[None]:
        return attached({"unet.conv": (self.convolution, self.layer)}, lambda_=LAMBDA)

    def run(self) -> list[Tensor]:
        """Return the answer, the gradient of x and that of A."""
        x = self.x.clone().requires_grad_()
        with self.attached():
            answer = self.module(x)
        return [answer.detach(), *self.gradients(answer, x)]

    def gradients(self, answer: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(answer.float().square().sum(), [x, self.layer.a])


def _by_the_dense_merge(setting: Setting) -> list[Tensor]:
    """Return the answer of W + lambda s A B^T, reshaped to kernels, in float64, and gradients."""
    module, x = copy.deepcopy(setting.module).double(), setting.x.double().requires_grad_()
    a = setting.layer.a.detach().double().requires_grad_()
    residual = LAMBDA * setting.layer.scale * a @ setting.layer.b.double().t()
    convolution: Any = module[0]
    weight = convolution.weight + residual.view_as(convolution.weight)
    answer = nn.functional.silu(convolution._conv_forward(x, weight, convolution.bias))
    return [answer.detach(), *torch.autograd.grad(answer.square().sum(), [x, a])]


def _difference(ours: Tensor, right: Tensor) -> float:
    return float((ours.double() - right.double()).norm() / right.norm())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_answers_and_gradients_are_those_of_the_dense_merge(
    shape: dict[str, Any], bias: bool
) -> None:
    """B's rows are read in the order of the weight's numbers: 5e-7 of float64, x's and A's."""
    setting = Setting(shape, bias=bias)

    ours, right = setting.run(), _by_the_dense_merge(setting)

    assert max(map(_difference, ours, right)) < 5e-7


@pytest.mark.parametrize("shape", PEFT_SHAPES.values(), ids=PEFT_SHAPES)
def test_peft_with_its_input_side_frozen_gives_the_same_output_and_gradients(
    shape: dict[str, Any],
) -> None:
    """PEFT's convolutional lora_A = B's kernels (frozen) and lora_B = A: our oracle."""
    setting = Setting(shape)
    theirs: Any = copy.deepcopy(setting.module)
    inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["0"]), theirs)
    down, up = theirs[0].lora_A["default"].weight, theirs[0].lora_B["default"].weight
    down.data.copy_((setting.layer.b.t() * setting.layer.scale * LAMBDA).reshape(down.shape))
    down.requires_grad_(requires_grad=False)
    up.data.copy_(setting.layer.a.data.reshape(up.shape))
    x = setting.x.clone().requires_grad_()

    ours = setting.run()
    answer = theirs(x)
    grads = torch.autograd.grad(answer.square().sum(), [x, up])

    right = [answer.detach(), grads[0], grads[1].reshape(OUT, RANK)]
    assert max(map(_difference, ours, right)) < 1e-6


def test_only_the_small_map_is_kept_for_the_way_back() -> None:
    """Rank numbers a place; neither x nor B nor a merged weight."""
    setting = Setting(SHAPES["residual block"])
    known = {p.data_ptr() for p in (*setting.module.parameters(), setting.layer.a)}
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    x = setting.x.clone().requires_grad_()
    with setting.attached(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        setting.convolution(x)

    own = [t for t in kept if t.untyped_storage().data_ptr() not in known]
    assert [tuple(t.shape) for t in own] == [(3, RANK, 9, 8)]
    assert own[0].untyped_storage().nbytes() == 3 * RANK * 9 * 8 * 4


def test_an_input_laid_out_by_channels_gets_the_same_answer() -> None:
    """Channels-last memory, as GPUs like it: the places are found there, too."""
    setting = Setting(SHAPES["residual block"])
    right = setting.run()
    setting.x = setting.x.contiguous(memory_format=torch.channels_last)

    assert max(map(_difference, setting.run(), right)) < 1e-6


@pytest.mark.parametrize("whole_step", [True, False])
def test_under_autocast_the_product_is_in_16_bits_and_a_stays_float32(whole_step: bool) -> None:
    """Forward alone or backward too inside autocast: 16-bit answers near the float32 ones."""
    setting = Setting(SHAPES["residual block"])
    right = setting.run()
    x = setting.x.clone().requires_grad_()

    with setting.attached():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answer = setting.module(x)
            grads = setting.gradients(answer, x) if whole_step else ()
        grads = grads or setting.gradients(answer, x)

    assert answer.dtype == torch.bfloat16
    assert [g.dtype for g in grads] == [torch.float32] * 2
    assert max(map(_difference, [answer.detach(), *grads], right)) < 0.03


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_bits(reentrant: bool) -> None:
    """The layer computes anew on the way back."""
    setting = Setting(SHAPES["residual block"])
    plain = setting.run()
    x = setting.x.clone().requires_grad_()

    with setting.attached():
        answer = checkpoint(setting.module, x, use_reentrant=reentrant)
        # A reentrant checkpoint takes no torch.autograd.grad.
        answer.square().sum().backward()

    again = [answer.detach(), x.grad, setting.layer.a.grad]
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_inference_mode_answers_as_no_grad_does() -> None:
    """As sampling calls it."""
    setting = Setting(SHAPES["downsampler"])

    with setting.attached(), torch.no_grad():
        right = setting.module(setting.x)
    with setting.attached(), torch.inference_mode():
        ours = setting.module(setting.x.clone())

    assert torch.equal(ours, right)


def test_the_base_is_put_back_after_an_exception() -> None:
    """Same bits, no attribute left."""
    setting = Setting(SHAPES["residual block"])
    before = setting.module(setting.x)

    def fail() -> None:
        with setting.attached():
            assert not torch.equal(setting.module(setting.x), before)
            raise RuntimeError("in the middle of a step")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()

    assert torch.equal(setting.module(setting.x), before)
    assert "forward" not in vars(setting.convolution)


class Scaled(nn.Conv2d):
    """Answers by other means than its weight."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        return 2 * super()._conv_forward(input, weight, bias)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (nn.Conv2d, {"groups": 2}),
        (nn.Conv2d, {"padding_mode": "circular"}),
        (nn.Conv2d, {"padding": "same"}),
        (Scaled, {}),
    ],
    ids=["groups", "circular", "same", "subclass"],
)
def test_a_convolution_that_is_not_plain_is_refused_and_nothing_is_attached(
    kind: type[nn.Conv2d], changes: dict[str, Any]
) -> None:
    """What it does beside its weight would be passed over without a word."""
    setting = Setting(SHAPES["residual block"])
    other = kind(CHANNELS, OUT, **{**SHAPES["residual block"], **changes})
    members = {
        "unet.conv": (setting.convolution, setting.layer),
        "unet.other": (other, setting.layer),
    }

    with pytest.raises(SpecError) as caught, attached(members, lambda_=1.0):
        pass

    assert caught.value.code == "layer-not-plain"
    assert "forward" not in vars(setting.convolution)


def test_a_second_residual_on_a_convolution_is_refused() -> None:
    """It would be passed over silently; several go side by side, as Variant.sum_of does it."""
    setting = Setting(SHAPES["residual block"])

    with setting.attached():
        answer = setting.module(setting.x)
        with pytest.raises(SpecError), setting.attached():
            pass
        assert torch.equal(setting.module(setting.x), answer)
