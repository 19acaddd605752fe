"""Adapted layers that answer together: their gradients, what they keep, what they put back."""

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

WIDTH, OUT, RANK, LAMBDA = 24, 40, 4, 0.75
FEW, MANY = 30, 96  # rows: below and above the 2 m where W + dW is folded
NAMES = ("to_q", "to_k", "to_v")


class Attention(nn.Module):
    """Three projections of one input, as diffusers calls them; q's rate the others' scores."""

    def __init__(self) -> None:
        super().__init__()
        for name in NAMES:
            self.add_module(name, nn.Linear(WIDTH, OUT, bias=name == "to_q"))
        self.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (module(x) for module in self.children())
        return torch.cat([q.sin(), k * 0.5, v.square()], -1)


class Setting:
    """The module, one residual a projection, and an input."""

    def __init__(self, rows: int = FEW) -> None:
        torch.manual_seed(3)
        self.module = Attention()
        self.layers = {
            f"attn1.{name}": FrozenLinear(
                nn.Parameter(torch.randn(OUT, RANK)),
                torch.randint(0, 2, (WIDTH, RANK), dtype=torch.int8) * 2 - 1,
                WIDTH**-0.5,
            )
            for name in NAMES
        }
        self.x = torch.randn(2, rows // 2, WIDTH)

    def attached(self, prefix: str = "attn1") -> contextlib.AbstractContextManager[None]:
        members = {
            path.replace("attn1", prefix): (self.linear(path), layer)
            for path, layer in self.layers.items()
        }
        return attached(members, lambda_=LAMBDA)

    def linear(self, path: str) -> nn.Linear:
        linear = self.module.get_submodule(path.rpartition(".")[2])
        assert isinstance(linear, nn.Linear)
        return linear

    def run(self, prefix: str = "attn1") -> list[Tensor]:
        """Return the answer, the gradient of x and that of every A."""
        x = self.x.clone().requires_grad_()
        with self.attached(prefix):
            answer = self.module(x)
        return [answer.detach(), *self.gradients(answer, x)]

    def gradients(self, answer: Tensor, x: Tensor) -> list[Tensor]:
        wanted = [x, *(layer.a for layer in self.layers.values())]
        return list(torch.autograd.grad(answer.float().square().sum(), wanted))


def _by_the_formula(setting: Setting) -> list[Tensor]:
    """Return y = x (W + lambda s A B^T)^T + bias in float64, and its gradients."""
    module, x = copy.deepcopy(setting.module).double(), setting.x.double().requires_grad_()
    a = {path: layer.a.detach().double().requires_grad_() for path, layer in setting.layers.items()}
    parts = []
    for path, layer in setting.layers.items():
        linear: Any = module.get_submodule(path.rpartition(".")[2])
        dense = linear.weight + LAMBDA * layer.scale * a[path] @ layer.b.double().t()
        parts.append(nn.functional.linear(x, dense, linear.bias))
    answer = torch.cat([parts[0].sin(), parts[1] * 0.5, parts[2].square()], -1)
    return [
        answer.detach(),
        *torch.autograd.grad(answer.square().sum(), [x, *a.values()]),
    ]


def _difference(ours: Tensor, right: Tensor) -> float:
    return float((ours.double() - right).norm() / right.norm())


@pytest.mark.parametrize("rows", [FEW, MANY])
def test_answers_and_gradients_are_those_of_the_formula(rows: int) -> None:
    """Folded into the weight or beside it: 5e-7 of the float64 values, x's and every A's."""
    setting = Setting(rows)

    ours, right = setting.run(), _by_the_formula(setting)

    assert max(map(_difference, ours, right)) < 5e-7


@pytest.mark.parametrize("rows", [FEW, MANY])
def test_peft_with_its_input_side_frozen_gives_the_same_output_and_gradients(rows: int) -> None:
    """PEFT's lora_A = B^T (frozen) and lora_B = A is the very same layer: our oracle."""
    setting = Setting(rows)
    theirs: Any = copy.deepcopy(setting.module)
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(NAMES))
    inject_adapter_in_model(config, theirs)
    trained = []
    for path, layer in setting.layers.items():
        adapted = theirs.get_submodule(path.rpartition(".")[2])
        down, up = adapted.lora_A["default"].weight, adapted.lora_B["default"].weight
        down.data.copy_(layer.b.t() * layer.scale * LAMBDA)
        down.requires_grad_(requires_grad=False)
        up.data.copy_(layer.a.data)
        trained.append(up)
    x = setting.x.clone().requires_grad_()

    ours = setting.run()
    answer = theirs(x)
    right = [answer.detach(), *torch.autograd.grad(answer.square().sum(), [x, *trained])]

    assert max(_difference(a, b.double()) for a, b in zip(ours, right, strict=True)) < 1e-6


@pytest.mark.parametrize("rows", [FEW, MANY])
def test_only_x_b_is_kept_for_the_way_back(rows: int) -> None:
    """N x 3r numbers for q, k and v together; neither x nor B nor a folded weight."""
    setting = Setting(rows)
    weights = {p.data_ptr() for p in setting.module.parameters()}
    trained = {layer.a.data_ptr() for layer in setting.layers.values()}
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    x = setting.x.clone().requires_grad_()
    with setting.attached(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        [module(x) for module in setting.module.children()]

    own = {t.untyped_storage().data_ptr() for t in kept} - weights - trained
    residual = [t for t in kept if t.untyped_storage().data_ptr() in own]
    assert [tuple(t.shape) for t in residual] == [(rows, 3 * RANK)]
    assert residual[0].untyped_storage().nbytes() == rows * 3 * RANK * 4


@pytest.mark.parametrize("rows", [FEW, MANY])
def test_a_group_answers_as_its_layers_do_alone(rows: int) -> None:
    """The paths decide who is grouped; they must not decide what comes out."""
    setting = Setting(rows)

    together, two_and_one = setting.run("attn1"), setting.run("attn2")
    layers = list(setting.layers.values())
    alone = []
    for path, layer in setting.layers.items():
        with attached({path: (setting.linear(path), layer)}, lambda_=LAMBDA):
            alone.append(setting.linear(path)(setting.x).detach())
    q, k, v = alone

    right = torch.cat([q.sin(), k * 0.5, v.square()], -1)
    torch.testing.assert_close(together[0], right, rtol=1e-5, atol=1e-5)
    for one, other in zip(together, two_and_one, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)
    assert len(layers) == 3


def test_a_wrong_guess_of_who_shares_an_input_changes_no_answer() -> None:
    """attn1's to_q is given one tensor and to_k another, then the first one, changed in place."""
    setting = Setting()
    to_q, to_k, to_v = setting.module.children()
    first, second = setting.x.clone(), setting.x * 2

    with setting.attached(), torch.no_grad():
        q, k = to_q(first), to_k(second)
        to_q(first)
        first.mul_(3)
        v = to_v(first)

    with setting.attached(), torch.no_grad():
        right = [to_q(setting.x.clone()), to_k(second.clone()), to_v(setting.x * 3)]
    for ours, expected in zip((q, k, v), right, strict=True):
        torch.testing.assert_close(ours, expected)


def test_an_answer_made_without_gradients_is_not_handed_to_a_caller_who_needs_them() -> None:
    """The same tensor, first under no_grad: what is ready then has no way back."""
    setting = Setting()
    to_q, to_k, _ = setting.module.children()

    with setting.attached():
        with torch.no_grad():
            to_q(setting.x)
        answer = to_k(setting.x)

    assert answer.requires_grad


def test_the_base_is_put_back_after_an_exception() -> None:
    """Same bits, no attribute left, and the next attachment finds plain layers."""
    setting = Setting()
    before = setting.module(setting.x)
    names = list(setting.module.state_dict())

    def fail() -> None:
        with setting.attached():
            assert not torch.equal(setting.module(setting.x), before)
            assert list(setting.module.state_dict()) == names
            raise RuntimeError("in the middle of a step")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()

    assert torch.equal(setting.module(setting.x), before)
    assert all("forward" not in vars(module) for module in setting.module.children())


def test_a_second_residual_on_a_layer_is_refused_and_the_first_goes_on() -> None:
    """It would be passed over silently; several go side by side, as Variant.sum_of does it."""
    setting = Setting()
    path = "attn2.to_k"

    with setting.attached():
        answer = setting.module(setting.x)
        other = {path: (setting.linear(path), setting.layers["attn1.to_k"])}
        with pytest.raises(SpecError) as caught, attached(other, lambda_=1.0):
            pass
        assert torch.equal(setting.module(setting.x), answer)

    assert caught.value.code == "layer-not-plain"


def test_a_layer_that_is_refused_leaves_those_before_it_plain() -> None:
    """to_k is adapted already: to_q, attached first, is put back."""
    setting = Setting()
    to_k = {"to_k": (setting.linear("to_k"), setting.layers["attn1.to_k"])}

    with attached(to_k, lambda_=1.0), pytest.raises(SpecError), setting.attached("attn2"):
        pass

    assert all("forward" not in vars(module) for module in setting.module.children())


@pytest.mark.parametrize("whole_step", [True, False])
@pytest.mark.parametrize("rows", [FEW, MANY])
def test_under_autocast_the_product_is_in_16_bits_and_a_stays_float32(
    rows: int, whole_step: bool
) -> None:
    """Forward alone or backward too inside autocast: 16-bit answers near the float32 ones."""
    setting = Setting(rows)
    right = setting.run()
    x = setting.x.clone().requires_grad_()

    with setting.attached():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answer = setting.module(x)
            grads = setting.gradients(answer, x) if whole_step else []
        grads = grads or setting.gradients(answer, x)

    assert setting.module.get_submodule("to_q")(x).dtype == torch.float32
    assert answer.dtype == torch.bfloat16
    assert [g.dtype for g in grads] == [torch.float32] * 4
    assert all(layer.a.dtype == torch.float32 for layer in setting.layers.values())
    ours = [answer.detach(), *grads]
    assert max(_difference(a, b.double()) for a, b in zip(ours, right, strict=True)) < 0.03


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_bits(reentrant: bool) -> None:
    """The layers compute anew on the way back, from another tensor with the same values."""
    setting = Setting()
    plain = setting.run()
    x = setting.x.clone().requires_grad_()

    with setting.attached():
        answer = checkpoint(setting.module, x, use_reentrant=reentrant)
        # A reentrant checkpoint takes no torch.autograd.grad.
        answer.square().sum().backward()

    again = [answer.detach(), x.grad, *(layer.a.grad for layer in setting.layers.values())]
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_inference_mode_answers_as_no_grad_does() -> None:
    """Its tensors have no version to look at."""
    setting = Setting()

    with setting.attached(), torch.no_grad():
        right = setting.module(setting.x)
    with setting.attached(), torch.inference_mode():
        ours = setting.module(setting.x.clone())

    assert torch.equal(ours, right)
