"""The paper's Table 2 beside what this study drew: from a concept alone to three in one model.

Source of the paper's figures: arXiv 2312.02432, Table 2 (text and image alignment by CLIP, identity
by ArcFace, on photographs); ours are of other judges on drawings, so only signs and orders compare.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

SIZE: Final = "3"
"""Concepts in one model, in the paper's table."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: single and merged. ``ours``: the methods that stand for it here."""

    title: str
    text: tuple[float, float]
    image: tuple[float, float]
    identity: tuple[float, float]
    ours: tuple[str, ...]


TABLE_2: Final = (
    Row("Orthogonal Adaptation", (0.624, 0.644), (0.748, 0.741), (0.740, 0.745), ("haar_draw",)),
    Row(
        "Mix-of-Show, gradient fusion",
        *((0.625, 0.631), (0.745, 0.729), (0.728, 0.717)),
        ("lora_fusion",),
    ),
    Row("Mix-of-Show, FedAvg", (0.625, 0.621), (0.745, 0.735), (0.728, 0.706), ("lora",)),
    Row("P+", (0.643, 0.643), (0.683, 0.683), (0.515, 0.515), ("tokens_layered", "tokens")),
    Row("Custom Diffusion", (0.668, 0.673), (0.648, 0.623), (0.504, 0.408), ()),
    Row("DB-LoRA, FedAvg", (0.613, 0.682), (0.744, 0.531), (0.683, 0.098), ("dreambooth",)),
)
OTHERS: Final = (
    "hadamard_null10_slow",
    "hadamard_null50_slow",
    "hadamard_null10_slow_refit",
    "lora_null10",
)
"""What `orthofed client train` and `fuse` do, and LoRA so trained: no row of the paper's."""
_FIGURES: Final = ("identity", "image", "text")


def beside_the_paper(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of a summary; a figure that was not drawn is left out.

    In each place: the paper's or our single -> merged, and what merging changes with its interval.
    """
    head = ["the paper's method", "here", *_FIGURES]
    body = list[list[str]]()
    for row in TABLE_2:
        pairs = [getattr(row, figure) for figure in _FIGURES]
        paper = [f"{a:.3f} -> {b:.3f} ({b - a:+.3f})" for a, b in pairs]
        body.append([row.title, "the paper", *paper])
        ours = [line for method in row.ours for line in _ours(found, method)]
        body += ours or [
            ["", "not run" if not row.ours else f"`{row.ours[0]}`, not drawn", *3 * [""]]
        ]
    for method in OTHERS:
        body += [["(none)", *line[1:]] for line in _ours(found, method)]
    return head, body


def _ours(found: Mapping[str, Any], method: str) -> list[list[str]]:
    cells = found["methods"].get(method, {}).get("cells", {})
    alone = cells.get("1@1", {})
    lines = list[list[str]]()
    for cell, kept in cells.items():
        size, _, lambda_ = cell.partition("@")
        if size != SIZE or not kept.get("drop"):
            continue
        told = list[str]()
        for figure in _FIGURES:
            gap = kept["drop"][figure]
            ends = [f"{each[figure]['mean']:.3f}" for each in (alone, kept)]
            within = f"({gap['mean']:+.3f}, {gap['low']:+.3f} to {gap['high']:+.3f})"
            told.append(f"{' -> '.join(ends)} {within}")
        lines.append(["", f"`{method}` at {lambda_}", *told])
    return lines
