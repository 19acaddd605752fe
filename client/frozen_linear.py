"""One adapted layer, made for training: B costs no gradient, no optimiser state, no saved input.

    y = W x + b + c (x B) A^T,    c = lambda x scale,    only A is trained

Two ways to the same numbers; the cheaper one is taken at each call. Folded, W' = W + c A B^T is
made first and one product gives y, and again dx = g W' in the backward pass; apart, the residual
is added to the layer's own answer. With t rows of x, W (n x m) and B (m x r) the two cost
2 t n m + n m r and 2 t n m + t r (n + m) multiply-adds: folding pays once t (n + m) > n m.

Saved for backward: x B (t x r), never x (t x m), because dA = c g^T (x B); an ordinary LoRA has to
keep x for the gradient of its down side. Source: method.md 1.1, product.md 7.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional


class FrozenLinear(nn.Module):
    """What one layer gains: c (x B) A^T, with B frozen. Shapes: b (m, r), a (n, r)."""

    b: Tensor

    def __init__(self, b: Tensor, a: Tensor, *, scale: float) -> None:
        """Keep ``b``, as numbers of a's type, outside every state dict; train ``a`` alone."""
        super().__init__()
        self.register_buffer("b", b.to(a.dtype), persistent=False)
        self.a = nn.Parameter(a)
        self.scale: Final = scale
        self.lambda_ = 1.0

    def forward(self, x: Tensor, base: nn.Linear, small: Tensor | None = None) -> Tensor:
        """Return the answer of ``base`` to ``x`` with the residual's added.

        Shapes: x (..., m), result (..., n). ``small`` is x B (t, r) where somebody has it already.
        Under autocast the products are made in its type; A and its gradient keep theirs.
        """
        kind = x.device.type
        cast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        flat = x.reshape(-1, x.shape[-1]).to(cast)
        with torch.autocast(kind, enabled=False):
            if small is None:
                small = reduced(flat, self.b)
            answer: Any = _Answer.apply(
                flat, self.a, base.weight, base.bias, self.b, small, self.scale * self.lambda_
            )
        return answer.view(*x.shape[:-1], -1)


@torch.no_grad()
def reduced(flat: Tensor, b: Tensor) -> Tensor:
    """Return x B without a graph: the way back to x goes through W'. Shapes: (t, m), (m, r)."""
    return flat @ b.to(flat.dtype)


class _Answer(torch.autograd.Function):
    """y and its two gradients; everything in the type of ``flat`` but A's gradient."""

    @staticmethod
    def forward(  # what the formula names
        ctx: Any,  # noqa: ANN401  # torch's own record
        flat: Tensor,
        a: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        b: Tensor,
        small: Tensor,
        factor: float,
    ) -> Tensor:
        ctx.save_for_backward(small, a, weight, b)
        ctx.factor = factor
        ctx.folded = len(flat) * sum(weight.shape) > weight.numel()
        kind = flat.dtype
        bias = bias.to(kind) if bias is not None else None
        if ctx.folded:
            return functional.linear(flat, _folded(weight, a, b, factor, kind), bias)
        answer = functional.linear(flat, weight.to(kind), bias)
        return answer.addmm_(small, a.to(kind).t(), alpha=factor)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # as above
        small, a, weight, b = ctx.saved_tensors
        grad, kind = grads[0], grads[0].dtype
        grad_a = (
            (grad.t() @ small).to(a.dtype).mul_(ctx.factor) if ctx.needs_input_grad[1] else None
        )
        grad_x = None
        if ctx.needs_input_grad[0] and ctx.folded:
            grad_x = grad @ _folded(weight, a, b, ctx.factor, kind)
        elif ctx.needs_input_grad[0]:
            grad_x = grad @ weight.to(kind)
            grad_x.addmm_(grad @ a.to(kind), b.to(kind).t(), alpha=ctx.factor)
        return grad_x, grad_a, None, None, None, None, None


def _folded(weight: Tensor, a: Tensor, b: Tensor, factor: float, kind: torch.dtype) -> Tensor:
    """Return W' = W + c A B^T, summed in A's type and rounded once."""
    return torch.addmm(weight.to(a.dtype), a, b.t(), alpha=factor).to(kind)
