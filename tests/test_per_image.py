"""Gradients of single images: what differential privacy cuts is what each image alone would ask."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from orthofed.client.adapter import Adapter
from orthofed.client.batches import Batch
from orthofed.client.per_image import PerImage, parameters
from orthofed.client.tokens import LearnedTokens, laid_over
from orthofed.client.trigger import Trigger
from orthofed.core.targets import Targets
from orthofed.core.token_layers import token_layers

from .tiny_concept import NOUN, Bench, bench

pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast")  # a base in float64

CAPTIONS = ["photo of {} on a red tree", "a cat, {}", "a cat, {}", "{}"]
NOISE = 0.05


@dataclass
class Setting:
    """One pass of four images, two of which have one caption, over moved A and vectors."""

    tiny: Bench
    adapter: Adapter
    tokens: LearnedTokens
    batch: Batch

    @staticmethod
    def of(tiny: Bench, layers: tuple[str, ...] = ()) -> "Setting":
        for network in tiny.base.family.components.values():
            network.double()  # the forms differ in the order of sums: not what is asked here
        adapter = Adapter(tiny.base, tiny.spec, 1)
        tokens = LearnedTokens.from_noun(
            tiny.base, [Trigger("anna-k7")], NOUN, seed=0, layers=layers
        )
        random = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for parameter in parameters(adapter, tokens):
                moved = NOISE * torch.randn(parameter.shape, generator=random)
                parameter.data = parameter.data.double() + moved
        latents = torch.randn(4, *tiny.base.latent_shape, generator=random).double()
        noise = torch.randn(latents.shape, generator=random).double()
        times = torch.tensor([10, 400, 400, 900])
        said = [caption.replace("{}", tokens.phrase) for caption in CAPTIONS]
        framings = [tiny.base.framing(tiny.base.latent_shape)] * 4
        return Setting(tiny, adapter, tokens, Batch(latents, noise, times, said, framings, None))

    def losses(self, batch: Batch, encode: Callable[..., object]) -> Tensor:
        base = self.tiny.base
        noisy = base.add_noise(batch.latents, batch.noise, batch.timesteps)
        answer = base.predict(noisy, batch.timesteps, encode(batch.captions, batch.framings))  # pyright: ignore[reportArgumentType]
        target = base.target(batch.latents, batch.noise, batch.timesteps)
        return (answer - target).square().mean((1, 2, 3))

    def each(self) -> list[Tensor]:
        """Return the gradients of all four from one backward pass."""
        copies = PerImage(self.tiny.base, self.adapter, self.tokens, 4)
        with copies.attached():
            return copies.gradients(self.losses(self.batch, copies.encode))

    def alone(self, image: int) -> list[Tensor]:
        """Return the gradients of one image by torch.func, from the textbook's formulas."""
        rows, batch = slice(image, image + 1), self.batch
        one = Batch(
            batch.latents[rows],
            batch.noise[rows],
            batch.timesteps[rows],
            batch.captions[rows],
            batch.framings[rows],
            None,
        )
        values = dict(enumerate(p.detach() for p in parameters(self.adapter, self.tokens)))

        def loss(moving: Mapping[int, Tensor]) -> Tensor:
            with _textbook(self, moving):
                return self.losses(one, self.tokens.encode).sum()

        return list(torch.func.grad(loss)(values).values())


class _textbook:  # noqa: N801  # a context manager
    """y = W x + scale A B^T x, and rows laid over the tables, as plain functions of ``moving``."""

    def __init__(self, setting: Setting, moving: Mapping[int, Tensor]) -> None:
        self._setting, self._moving = setting, moving

    def __enter__(self) -> None:
        members, base = self._setting.adapter.members(), self._setting.tiny.base
        for number, (target, layer) in enumerate(members.values()):
            a, b = self._moving[number], layer.b.double() * layer.scale
            weight = target.weight + (a @ b.T).view_as(target.weight)
            if isinstance(target, torch.nn.Linear):
                target.forward = partial(functional.linear, weight=weight, bias=target.bias)
            else:
                target.forward = partial(  # pyright: ignore[reportCallIssue]  # torch's overloads
                    functional.conv2d,
                    weight=weight,
                    bias=target.bias,
                    stride=target.stride,
                    padding=target.padding,
                    dilation=target.dilation,
                )
        self._hooks = [
            laid_over(tower, self._moving[len(members) + k], tower.table.weight[:0])
            for k, tower in enumerate(base.towers.values())
        ]
        if self._setting.tokens.layered is not None:
            self._hooks.append(self._setting.tokens.layered.attached())
        for hook in self._hooks:
            hook.__enter__()

    def __exit__(self, *_exc: object) -> None:
        for hook in reversed(self._hooks):
            hook.__exit__(None, None, None)
        for target, _ in self._setting.adapter.members().values():
            vars(target).pop("forward", None)


@pytest.mark.parametrize(
    ("targets", "layerwise"), [("attention", False), ("all", False), ("unet", True)]
)
def test_each_image_has_the_gradient_that_it_has_alone(
    tmp_path: Path, targets: Targets, layerwise: bool
) -> None:
    """Linear layers, convolutions, text encoder, equal captions, layer-wise vectors: to 1e-6."""
    tiny = bench(tmp_path, targets=targets)
    places = token_layers(tiny.base.family.components["unet"].state_dict()) if layerwise else ()
    setting = Setting.of(tiny, places)

    each = setting.each()

    for image in range(4):
        alone = setting.alone(image)
        size = torch.cat([part.flatten() for part in alone]).norm()
        apart = torch.cat([(a - b[image]).flatten() for a, b in zip(alone, each, strict=True)])
        assert apart.norm() <= 1e-6 * size
        assert all(part.abs().max() > 0 for part in alone)


def test_the_base_and_its_layers_are_as_before(tmp_path: Path) -> None:
    """Also after an exception: no forward is left behind, no hook, no gradient."""
    setting = Setting.of(bench(tmp_path))
    copies = PerImage(setting.tiny.base, setting.adapter, setting.tokens, 4)

    with pytest.raises(ZeroDivisionError), copies.attached():
        raise ZeroDivisionError

    assert not any("forward" in vars(t) for t, _ in setting.adapter.members().values())
    assert not setting.tiny.tower.table._forward_hooks
    setting.each()
    assert all(p.grad is None for p in parameters(setting.adapter, setting.tokens))
