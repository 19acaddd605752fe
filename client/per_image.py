"""The gradient of each image of a pass, for all that leaves: every A_i and every token vector.

    y = W x + alpha (x B_i) A_i[k]^T      row k of the pass reads copy k of A_i, and of the vectors

Each of n images reads a copy of its own, so one backward pass of the summed losses leaves in copy k
the gradient of image k alone. With B_i frozen a copy costs n_out r numbers, not a layer's weight:
the n gradients of 1.5 million numbers take 6 MB an image. Law: the rows of a pass are whole images,
in their order, also in the text encoders: equal prompts are encoded once for each image, where
training without privacy encodes them once for all. Nothing in the networks mixes rows.

Measured (docs/log.md): against the plain way, a pass an image. Source: security.md 9.3.
"""

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .adapter import Adapter
from .base import Base
from .convolution_product import geometry_of
from .families.conditioning import Conditioning
from .families.framing import Framing
from .frozen_linear import FrozenLinear
from .plain import Target, check_plain
from .tokens import LearnedTokens, laid_over


class PerImage:
    """Copies of A and vectors for ``count`` images; every copy starts as what it is a copy of."""

    def __init__(
        self,
        base: Base,
        adapter: Adapter | None,
        tokens: LearnedTokens,
        count: int,
        *,
        vectors: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Make the copies; they share the memory of what they copy.

        Without an ``adapter`` the vectors alone are copied; ``vectors``: each image's own, in place
        of the tokens', by encoder, (count, rows, width).
        """
        self._base, self._adapter, self._tokens = base, adapter, tokens
        layers = {} if adapter is None else adapter.layers
        self._a = {path: _copies(layer.a, count) for path, layer in layers.items()}
        if vectors is None:
            self._vectors = {name: _copies(v, count) for name, v in tokens.vectors.items()}
        else:
            self._vectors = {name: v.detach().requires_grad_() for name, v in vectors.items()}

    @contextlib.contextmanager
    def attached(self) -> Generator[None]:
        """Let row k of every pass read copy k inside the block.

        Raises SpecError: something else is attached.
        """
        layers = {} if self._adapter is None else self._adapter.members()
        for target, _ in layers.values():
            check_plain(target)
        with contextlib.ExitStack() as stack:
            if self._tokens.layered is not None:
                stack.enter_context(self._tokens.layered.attached())
            for name, tower in self._base.towers.items():
                copies = self._vectors[name].flatten(0, 1)
                stack.enter_context(laid_over(tower, copies, copies[:0]))
            try:
                for path, (target, layer) in layers.items():
                    target.forward = _answer(target, layer, self._a[path])
                yield
            finally:
                for target, _ in layers.values():
                    vars(target).pop("forward", None)

    def encode(self, prompts: Sequence[str], framings: Sequence[Framing]) -> Conditioning:
        """Return the conditions of ``prompts``, one an image, in the order of the copies."""
        sets = range(self._tokens.sets)
        ids = {
            name: torch.tensor(
                [
                    self._tokens.ids_in_set(name, prompt, image * len(sets) + k)
                    for image, prompt in enumerate(prompts)
                    for k in sets
                ]
            )
            for name in self._base.towers
        }
        conditioning = self._base.condition(ids)
        if self._tokens.layered is not None:
            rows = [[image * len(sets) + k for k in sets] for image in range(len(prompts))]
            conditioning = self._tokens.layered.joined(conditioning, rows)
        return self._base.family.framed(conditioning, framings)

    def gradients(self, losses: Tensor) -> list[Tensor]:
        """Return the gradient of each image's loss: (count, *shape) for every A, then the vectors.

        Shapes: losses (count,), made inside `attached`. In the order of `parameters`.
        """
        copies = [*self._a.values(), *self._vectors.values()]
        found = torch.autograd.grad(losses.sum(), copies, allow_unused=True)
        return [
            torch.zeros(copy.shape, device=copy.device) if one is None else one
            for copy, one in zip(copies, found, strict=True)
        ]


def parameters(adapter: Adapter, tokens: LearnedTokens) -> list[torch.nn.Parameter]:
    """Return everything that leaves, in the order of `PerImage.gradients`."""
    return [*(layer.a for layer in adapter.layers.values()), *tokens.vectors.values()]


def _copies(parameter: Tensor, count: int) -> Tensor:
    return parameter.detach().expand(count, *parameter.shape).requires_grad_()


def _answer(target: Target, layer: FrozenLinear, copies: Tensor) -> Callable[..., Tensor]:
    """Return what the target answers with, in the autocast type where there is one."""
    product = _linear if isinstance(target, torch.nn.Linear) else _convolution

    def forward(input: Tensor) -> Tensor:  # noqa: A002  # the name that torch's layers give it
        assert len(input) % len(copies) == 0  # noqa: S101  # rows are whole images, or it is a bug
        kind = input.device.type
        if not torch.is_autocast_enabled(kind):
            return product(target, layer, copies, input)
        x = input.to(torch.get_autocast_dtype(kind))
        with torch.autocast(kind, enabled=False):
            return product(target, layer, copies, x)

    return forward


def _linear(target: Target, layer: FrozenLinear, copies: Tensor, x: Tensor) -> Tensor:
    dtype, count = x.dtype, len(copies)
    bias = None if target.bias is None else target.bias.to(dtype)
    answer = functional.linear(x, target.weight.to(dtype), bias)
    small = (x @ layer.b.to(dtype)).reshape(count, -1, copies.shape[2])
    own = torch.bmm(small, copies.to(dtype).transpose(1, 2)) * layer.scale
    return answer + own.reshape(answer.shape)


def _convolution(target: Target, layer: FrozenLinear, copies: Tensor, x: Tensor) -> Tensor:
    assert isinstance(target, torch.nn.Conv2d)  # noqa: S101  # plain.Target is one of the two
    dtype, geometry = x.dtype, geometry_of(target)
    bias = None if target.bias is None else target.bias.to(dtype)
    answer = functional.conv2d(x, target.weight.to(dtype), bias, *geometry)
    b = layer.b.t().reshape(-1, *target.weight.shape[1:]).to(dtype)
    small = functional.conv2d(x, b, None, *geometry).flatten(2)
    own = torch.bmm(copies.to(dtype), small) * layer.scale
    return answer + own.reshape(answer.shape)
