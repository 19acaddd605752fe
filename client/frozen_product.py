"""The product of one input with adapted layers that share it, and its gradient, by hand.

    y_k = x W_k^T + bias_k + alpha (x B_k) A_k^T          alpha = lambda scale
    dA_k = alpha dy_k^T (x B_k),    dx = sum_k dy_k W_k + alpha [dy_k A_k]_k [B_k]_k^T

[.]_k puts the layers side by side, so x B and the way back through B are one matrix product each.
Law: of the activations only x B is kept for the way back (N x r a layer); never x, and nothing for
B. Sums are made in place in the fresh output, where autograd would make a new N x n tensor a term.

Folding. Where rows are many (N >= 2 m, float32), W_k + alpha A_k B_k^T is formed once a call and
takes the place of W_k, both ways: n m r multiply-adds instead of N r (m + 2 n) with rows to walk
through. Not in 16 bits, where rounding W + dW loses 2 to 15 % of dW (design.md, decision 5).

Measured (benchmarks/layer_forms.py; one thread, r = 20), forward and backward of q, k and v with
PEFT's LoRA = 1: 4096 x 320 tokens .69, folded .58; 1024 x 640 .80, folded .78; 256 x 1280 .89,
folded 1.08; keys and values of 77 x 768 tokens .83 to .86, folded 1.3 to 1.5.
Source: method.md 1.1.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

FOLD_ROWS_A_COLUMN = 2


class FrozenProduct(torch.autograd.Function):
    """Shapes: x (..., m), b (m, sum r_k), W_k (n_k, m), bias_k (n_k) or None, A_k (n_k, r_k)."""

    @staticmethod
    def forward(  # torch's own signature is wider: (ctx, *args)
        ctx: Any,  # noqa: ANN401  # torch types it so
        x: Tensor,
        b: Tensor,
        alpha: float,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        *a: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return y of each layer, in x's dtype; A stays float32 and is cast on its way."""
        rows, dtype = x.reshape(-1, x.shape[-1]), x.dtype
        ranks = [one.shape[1] for one in a]
        fold = dtype == torch.float32 and len(rows) >= FOLD_ROWS_A_COLUMN * x.shape[-1]
        b_x = b.to(dtype)
        small = rows @ b_x
        answers = []
        for weight, bias, a_k, b_k, small_k in zip(
            weights, biases, a, b_x.split(ranks, 1), small.split(ranks, 1), strict=True
        ):
            weight_x, bias_x = weight.to(dtype), None if bias is None else bias.to(dtype)
            if fold:
                folded = torch.addmm(weight_x, a_k, b_k.t(), alpha=alpha)
                answer = functional.linear(rows, folded, bias_x)
            else:
                answer = functional.linear(rows, weight_x, bias_x)
                answer.addmm_(small_k, a_k.to(dtype).t(), alpha=alpha)
            answers.append(answer.view(*x.shape[:-1], -1))
        ctx.save_for_backward(small, *weights, *a)
        # B is a constant, not an activation: kept by reference.
        ctx.b, ctx.alpha, ctx.fold, ctx.shape = b, alpha, fold, x.shape
        return tuple(answers)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # once_differentiable's type
        ctx: Any,  # noqa: ANN401  # as above
        *grads: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and of every A, the latter in float32."""
        small, *saved = ctx.saved_tensors
        weights, a = saved[: len(grads)], saved[len(grads) :]
        ranks = [one.shape[1] for one in a]
        flat = [grad.reshape(-1, grad.shape[-1]) for grad in grads]
        to_a = [
            (dy.t() @ small_k).to(a_k.dtype).mul_(ctx.alpha)
            for dy, small_k, a_k in zip(flat, small.split(ranks, 1), a, strict=True)
        ]
        to_x = _to_input(ctx, flat, weights, a, ranks) if ctx.needs_input_grad[0] else None
        return (to_x, None, None, None, None, *to_a)


def _to_input(
    ctx: Any,  # noqa: ANN401  # as above
    flat: Sequence[Tensor],
    weights: Sequence[Tensor],
    a: Sequence[Tensor],
    ranks: Sequence[int],
) -> Tensor:
    """Return dx, summed in place in the order of the layers."""
    dtype = flat[0].dtype
    b_x = ctx.b.to(dtype)
    total = None
    for dy, weight, a_k, b_k in zip(flat, weights, a, b_x.split(ranks, 1), strict=True):
        weight_x = weight.to(dtype)
        if ctx.fold:
            weight_x = torch.addmm(weight_x, a_k, b_k.t(), alpha=ctx.alpha)
        total = dy @ weight_x if total is None else total.addmm_(dy, weight_x)
    assert total is not None  # noqa: S101  # a product has at least one layer
    if not ctx.fold:
        small = torch.cat([dy @ a_k.to(dtype) for dy, a_k in zip(flat, a, strict=True)], 1)
        total.addmm_(small, b_x.t(), alpha=ctx.alpha)
    return total.view(ctx.shape)
