"""Adapted layers that read one tensor (q, k, v), answering together while they are attached.

The first of them that is called computes all, in one FrozenProduct; the others hand out what is
ready if they are given the very same tensor, and compute anew if not. So a wrong guess of who
shares an input costs time and never changes an answer. The base is not written: inside `attached`
each target answers through an instance attribute `forward`, which is deleted at the end, also after
an exception; weights, names and state dicts stay as they are.

Autocast is resolved here: x goes to the autocast dtype, as a linear layer's input would, and the
product runs without autocast. Under gradient checkpointing the layers compute anew, as all do.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .frozen_convolution import FrozenConvolution
from .frozen_linear import FrozenLinear
from .frozen_product import FrozenProduct
from .plain import Target, check_plain


@dataclass(slots=True)
class _Ready:
    """Answers to ``x`` that were computed but not yet asked for, by the member's number."""

    x: Tensor
    mark: tuple[object, ...]
    answers: dict[int, Tensor]


class FrozenGroup:
    """The layers of one shared input, each a target of the base with its residual."""

    def __init__(
        self, members: Iterable[tuple[nn.Linear, FrozenLinear]], *, lambda_: float
    ) -> None:
        """Lay the members' B side by side; they must have one input width and one scale."""
        pairs = list(members)
        self._targets = [target for target, _ in pairs]
        self._a = [layer.a for _, layer in pairs]
        self._b = torch.cat([layer.b for _, layer in pairs], 1)
        (scale,) = {layer.scale for _, layer in pairs}
        self._alpha = scale * lambda_
        self._ready: _Ready | None = None

    @contextlib.contextmanager
    def attached(self) -> Generator[None]:
        """Let every target answer with its residual inside the block."""
        try:
            for number, target in enumerate(self._targets):
                target.forward = self._member(number)
            yield
        finally:
            self._ready = None
            for target in self._targets:
                vars(target).pop("forward", None)

    def _member(self, number: int) -> Callable[..., Tensor]:
        def forward(input: Tensor) -> Tensor:  # noqa: A002  # the name that nn.Linear gives it
            return self._answer(number, input)

        return forward

    def _answer(self, number: int, x: Tensor) -> Tensor:
        ready, mark = self._ready, _mark(x)
        if ready is None or ready.x is not x or ready.mark != mark or number not in ready.answers:
            ready = _Ready(x, mark, dict(enumerate(self._product(x))))
        answer = ready.answers.pop(number)
        self._ready = ready if ready.answers else None
        return answer

    def _product(self, x: Tensor) -> tuple[Tensor, ...]:
        weights = [target.weight for target in self._targets]
        biases = [target.bias for target in self._targets]
        kind = x.device.type
        if not torch.is_autocast_enabled(kind):
            return FrozenProduct.apply(x, self._b, self._alpha, weights, biases, *self._a)
        x = x.to(torch.get_autocast_dtype(kind))
        with torch.autocast(kind, enabled=False):
            return FrozenProduct.apply(x, self._b, self._alpha, weights, biases, *self._a)


@contextlib.contextmanager
def attached(
    members: Mapping[str, tuple[Target, FrozenLinear]], *, lambda_: float
) -> Generator[None]:
    """Let the layers at these canonical paths answer with their residuals times ``lambda_``.

    Raises SpecError: a target is no plain layer, or something is attached to it; nothing is then.
    """
    groups: dict[tuple[str, int], list[tuple[nn.Linear, FrozenLinear]]] = {}
    alone: list[FrozenConvolution] = []
    for path, (target, layer) in members.items():
        check_plain(target)
        if isinstance(target, nn.Linear):
            groups.setdefault((input_of(path), target.in_features), []).append((target, layer))
        else:
            alone.append(FrozenConvolution(target, layer, lambda_=lambda_))
    with contextlib.ExitStack() as stack:
        for one in (*(FrozenGroup(group, lambda_=lambda_) for group in groups.values()), *alone):
            stack.enter_context(one.attached())
        yield


def input_of(path: str) -> str:
    """Return a name of what the layer reads: layers that share their input have it in common.

    >>> input_of("b.attn1.to_q") == input_of("b.attn1.to_v")
    True
    >>> input_of("b.attn2.to_q") == input_of("b.attn2.to_v")  # the picture, and the text
    False
    """
    place, _, leaf = path.rpartition(".")
    if leaf in {"to_k", "to_v"} or (leaf == "to_q" and place.endswith("attn1")):
        return f"{place}.to_k"
    if leaf in {"q_proj", "k_proj", "v_proj"}:
        return f"{place}.k_proj"
    return path


def _mark(x: Tensor) -> tuple[object, ...]:
    """Return what must be as it was for an answer to ``x`` to be the same answer."""
    kind = x.device.type
    version = 0 if x.is_inference() else x._version  # noqa: SLF001  # no public name
    autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    return version, torch.is_grad_enabled(), autocast
