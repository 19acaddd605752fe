"""How large a contribution is beside the base: what its bytes alone say, at home and at a Commit.

    of a layer      |A_l| / |W_l|, spectral norms; |A_l| is that of A_l B_l^T since B_l^T B_l = 1
    of the vectors  the longest learned row / the longest row of the base's vocabulary

Laws: a tensor outside of normal form and a layer above the norm bound are refused (T7, T12); what
is only conspicuous is a sentence for the owner. Coordinator and client call the same functions,
so a refusal is no surprise. One run of tensors, 1 MiB, is in memory at a time: looked at one by
one, 128 tensors of 32 KiB cost more than their hash. Source: security.md 6 and 8. Not here: reading
files; gates that need other contributions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int16

from .bounds import Bounds
from .errors import ContributionRejected
from .layout import ContributionLayout, read_exponents, read_run
from .quantise import Quantised, dequantise

VOCABULARY = "tokens."
"""Before an encoder's name: the key of its longest token row among the norms of the base."""
Read = Callable[[int, int], bytes]
"""Gives bytes of the blob, by offset and length."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The two largest things in a blob, each in hundredths of what the base has.

    ``norm_percent``: of a layer's A, by W's spectral norm. ``embedding_percent``: of a learned
    vector, by the longest row of the vocabulary; 0 where that is not known. ``layers``: the norm of
    every layer, in the spec's order.
    """

    norm_percent: float = 0.0
    embedding_percent: float = 0.0
    layers: tuple[float, ...] = ()


def sizes_of(
    layout: ContributionLayout, read: Read, *, norms: Mapping[str, float], norm_percent: int
) -> Sizes:
    """Return the sizes of a blob whose size and header are the layout's.

    ``norms``: the spectral norm of each layer's W, and under VOCABULARY of the longest token rows.
    Raises ContributionRejected: a tensor not in normal form, or a layer of more than
    ``norm_percent`` hundredths of W.
    """
    start = len(layout.header)
    raw = read(start + layout.exponents.offset, layout.exponents.size)
    exponents = read_exponents(layout, raw)
    length = 0.0
    found: dict[str, float] = {}
    for run in layout.runs:
        raw = read(start + run[0].offset, len(run) * run[0].size)
        q = read_run(layout, run, raw, exponents)
        kind = run[0].name.partition(".")[0]
        norms_of_run = _norms(q, [exponents[info.name] for info in run]) if kind == "a" else ()
        for info, norm in zip(run, norms_of_run, strict=False):
            layer = info.name.removeprefix("a.")
            found[layer] = 100 * _share(norm, norms[layer], info.name, norm_percent)
        for info, each in zip(run, q, strict=True) if kind == "embed" else ():
            longest = norms.get(VOCABULARY + info.name.removeprefix("embed.").rpartition(".")[0])
            tensor = Quantised(each, exponents[info.name])
            length = max(length, _length(tensor) / longest if longest else 0.0)
    layers = tuple(round(found[layer.path], 2) for layer in layout.spec.layers)
    return Sizes(max(layers), round(100 * length, 2), layers)


def long_vector(sizes: Sizes, bounds: Bounds) -> str:
    """Return what speaks against the learned vectors, for their owner, or nothing."""
    if sizes.embedding_percent <= bounds.embedding_percent:
        return ""
    return (
        f"a learned vector is {sizes.embedding_percent:.0f} % as long as the longest word of"
        f" the base model, allowed are {bounds.embedding_percent} %: train with a smaller"
        " token_rate"
    )


def over_budget(sizes: Sizes, bounds: Bounds) -> str:
    """Return what speaks against a layer that alone, at lambda 1, breaks the house budget."""
    if sizes.norm_percent <= bounds.budget_percent:
        return ""
    return (
        f"a layer's A is {sizes.norm_percent:.0f} % of the base's weight, a whole release may have"
        f" {bounds.budget_percent} %: train with a smaller rate"
    )


def _norms(q: Int16[np.ndarray, "t n r"], exponents: list[int]) -> list[float]:
    """Return the spectral norm of each layer's A."""
    wide = q.astype(np.float64)
    # r x r, so cheap; exact, whatever the order of the sums (security.md 6).
    largest = np.linalg.eigvalsh(wide.transpose(0, 2, 1) @ wide)[:, -1]
    return np.ldexp(np.sqrt(np.maximum(largest, 0.0)), exponents).tolist()


def _share(norm: float, limit: float, name: str, percent: int) -> float:
    """Return norm of A over norm of W, which is at most ``percent`` hundredths (T12)."""
    if norm * 100 > percent * limit:
        raise ContributionRejected(
            f"{name} has spectral norm {norm:.4g}, allowed is {limit * percent / 100:.4g}",
            why="one contribution may not outweigh the base model",
            fix="train with a smaller learning rate or fewer steps, and pack the contribution"
            " again",
            code="norm-too-large",
        )
    return norm / limit if limit else 0.0


def _length(tensor: Quantised) -> float:
    """Return the length of the longest row."""
    return float(np.linalg.norm(dequantise(tensor).astype(np.float64), axis=-1).max())
