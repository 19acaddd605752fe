"""A convolution with its residual, and the gradient, by hand.

    y = x * W + bias + alpha A (x * b),    alpha = lambda scale
    dA = alpha dy (x * b)^T,    dx = dy *' W + alpha (A^T dy) *' b

* is the layer's own convolution (stride, padding, dilation) and *' its transpose; b are the r
columns of B as r kernels, and A (n x r) acts on each place alone, as a 1 x 1 convolution would. So
the residual is A b^T on the unfolded input (core/layer.py), and the input is never unfolded. Law:
of the activations only x * b is kept for the way back (r numbers a place); never x, and nothing
for B.

W + alpha A b^T is never formed: r kernels beside n cost little, and in 16 bits the sum would round
dW away (design.md, decision 5). Measured (benchmarks/convolution_forms.py; one thread, r = 20, the
shapes of SD1.5 at 512 pixels), forward and backward with PEFT's LoRA = 1: .96 to .99; the base's
convolution alone is .70 to .97. Source: method.md 1.1.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_input


class Geometry(NamedTuple):
    """How a convolution moves over its input: (vertical, horizontal) each."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


def geometry_of(target: nn.Conv2d) -> Geometry:
    """Return how ``target``, a plain convolution (plain.py), moves."""
    return Geometry(_pair(target.stride), _pair(target.padding), _pair(target.dilation))


class ConvolutionProduct(torch.autograd.Function):
    """Shapes: x (N, c, h, w), b (r, c, kh, kw), W (n, c, kh, kw), bias (n) or None, A (n, r)."""

    @staticmethod
    def forward(  # torch's own signature is wider: (ctx, *args)
        ctx: Any,  # noqa: ANN401  # torch types it so
        x: Tensor,
        b: Tensor,
        alpha: float,
        geometry: Geometry,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
    ) -> Tensor:
        """Return y in x's dtype; A stays float32 and is cast on its way."""
        dtype = x.dtype
        small = conv2d(x, b.to(dtype), None, *geometry)
        bias_x = None if bias is None else bias.to(dtype)
        answer = conv2d(x, weight.to(dtype), bias_x, *geometry)
        # In place, where autograd would make a new (N, n, h, w) a term.
        up = a.to(dtype).expand(len(x), -1, -1)
        _places(answer).baddbmm_(up, _places(small), alpha=alpha)
        ctx.save_for_backward(small, weight, a)
        # B is a constant, not an activation: kept by reference.
        ctx.b, ctx.alpha, ctx.geometry, ctx.shape = b, alpha, geometry, x.shape
        return answer

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # once_differentiable's type
        ctx: Any,  # noqa: ANN401  # as above
        grad: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and of A, the latter in float32."""
        small, weight, a = ctx.saved_tensors
        dy = grad.flatten(2)
        to_a = torch.bmm(dy, _places(small).transpose(1, 2)).to(a.dtype).sum(0).mul_(ctx.alpha)
        to_x = None
        if ctx.needs_input_grad[0]:
            dtype = grad.dtype
            inner = torch.matmul(a.to(dtype).t() * ctx.alpha, dy).view_as(small)
            to_x = conv2d_input(ctx.shape, weight.to(dtype), grad, *ctx.geometry)
            to_x += conv2d_input(ctx.shape, ctx.b.to(dtype), inner, *ctx.geometry)
        return (to_x, None, None, None, None, None, to_a)


def _places(pixels: Tensor) -> Tensor:
    """Return (N, c, h w) of (N, c, h, w), sharing its memory."""
    return pixels.view(*pixels.shape[:2], -1)


def _pair(sides: object) -> tuple[int, int]:
    assert isinstance(sides, tuple)  # noqa: S101  # nn.Conv2d makes pairs; a plain one has no text
    height, width = sides
    return int(height), int(width)
