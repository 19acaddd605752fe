"""The plots of a summary, readable in grey: what is kept and who is seen, by number of concepts.

A line is a method: dashes and colour say of which kind, the name stands at its end. The same
numbers give the same bytes.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import BEST
from .summary import cells_of

_TICKS = (-10, -5, -2, -1, -0.5, 0, 0.5, 1)
_FAMILIES = (
    ("_refit", "-", "C2"), ("_fusion", "-", "C2"), ("lora", ":", "C1"), ("equal", "--", "0.5"),
    ("half", "--", "0.5"), ("tokens", "-.", "C3"), ("dreambooth", "-.", "C3"), ("", "-", "C0"),
)  # fmt: skip
"""By what a method's name holds: fused, LoRA, a control, words, or blocks of its own."""
_ASIDE = 0.12
"""Concepts that the lines of pictures stand apart by."""
_GAP = 0.036
"""Between two names beside a panel, as a share of its height; less where there are many."""


def retention(found: Mapping[str, Any]) -> Figure:
    """Return retention against the number of concepts, one panel a lambda, a line a method.

    The last panel has each method at the best lambda that it was run with: some had more of them.
    """
    lambdas = sorted({cell.partition("@")[2] for cell in cells_of(found)})  # words behind numbers
    figure = _figure(len(lambdas))
    for panel, value in zip(figure.axes, lambdas, strict=True):
        ends: dict[str, tuple[float, float, str]] = {}
        values: list[float] = []
        for method, row in found["methods"].items():
            held = [c for c, kept in row["cells"].items() if "loss" in kept]
            sizes = sorted(int(c.partition("@")[0]) for c in held if c.endswith(f"@{value}"))
            if not sizes:
                continue
            cells = [(n, row["cells"][f"{n}@{value}"]) for n in sizes]
            points = [(n, kept.get("retention", {"mean": 1.0})["mean"]) for n, kept in cells]
            values += [y for _, y in points]
            dash, colour = _look(method)
            panel.plot(
                *zip(*points, strict=True), dash, color=colour, marker="o", ms=3, label=method
            )
            ends[method] = (*points[-1], colour)
        panel.axhline(0, color="0.7", lw=0.8, zorder=0)
        panel.set_yscale("symlog", linthresh=1)  # 0 to 1 as it is, what is lost beyond in decades
        lowest = min(values, default=0.0)
        ticks = [tick for tick, next_ in pairwise((*_TICKS, 2)) if next_ > lowest]
        panel.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        panel.minorticks_off()
        told = "each at the best that it was run with" if value == BEST else f"lambda {value}"
        panel.set(title=told, xlabel="concepts in the model", ylabel="retention")
        _name(panel, ends)
    return figure


def identity(found: Mapping[str, Any]) -> Figure:
    """Return the share of pictures that show their person against the number of concepts.

    A line is a method at one lambda, with its 95 % interval; alone it stands at lambda 1.
    """
    figure = _figure(1)
    (panel,) = figure.axes
    ends: dict[str, tuple[float, float, str]] = {}
    lines = [
        (method, value, points)
        for method, row in found["methods"].items()
        for value, points in _seen(row["cells"]).items()
    ]
    for number, (method, value, points) in enumerate(lines):
        dash, colour = _look(method)
        aside = _ASIDE * (number - (len(lines) - 1) / 2)  # so that no interval hides another
        sizes, told = [size + aside for size in points], [*points.values()]
        means = [each["mean"] for each in told]
        below = [each["mean"] - each["low"] for each in told]
        above = [each["high"] - each["mean"] for each in told]
        look = {"fmt": dash, "color": colour, "marker": "o", "ms": 3, "capsize": 2}
        panel.errorbar(sizes, means, [below, above], **look)
        ends[f"{method} at {value}"] = (sizes[-1], means[-1], colour)
    panel.set_ylim(0, 1)
    panel.set(xlabel="concepts in the model", ylabel="identity")
    _name(panel, ends)
    return figure


def _figure(panels: int) -> Figure:
    mpl.rcParams["svg.hashsalt"] = "orthofed"  # the same bytes from the same numbers
    mpl.rcParams["svg.fonttype"] = "none"
    figure = Figure(figsize=(6.2 * panels, 6.5))
    figure.subplots(1, panels, squeeze=False, gridspec_kw={"wspace": 0.75})
    return figure


def _seen(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[int, Mapping[str, float]]]:
    """Return identity by lambda and number of concepts; alone it is every lambda's first point."""
    found: dict[str, dict[int, Mapping[str, float]]] = {}
    shown = {cell: kept["identity"] for cell, kept in cells.items() if "identity" in kept}
    alone = shown.pop("1@1", None)
    for cell, told in shown.items():
        size, _, value = cell.partition("@")
        found.setdefault(value, {1: alone} if alone else {})[int(size)] = told
    if alone and not found:
        found["1"] = {1: alone}
    return {value: dict(sorted(points.items())) for value, points in sorted(found.items())}


def _look(method: str) -> tuple[str, str]:
    return next((dash, colour) for part, dash, colour in _FAMILIES if part in method)


def _name(panel: Axes, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Write each method beside the end of its line, the lowest first, no two on each other."""
    to_panel = panel.transData + panel.transAxes.inverted()
    heights = {method: float(to_panel.transform(end[:2])[1]) for method, end in ends.items()}
    order = sorted(heights, key=heights.__getitem__)
    gap, free = min(_GAP, 1 / max(len(order), 1)), -1.0
    for left, method in enumerate(order):
        room = 1.0 - gap * (len(order) - 1 - left)
        free = max(min(heights[method], room), free + gap) if left else min(heights[method], room)
        x, y, colour = ends[method]
        panel.annotate(
            method,
            (x, y),
            xytext=(1.05, free),
            textcoords="axes fraction",
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "relpos": (0, 0.5)},
        )
