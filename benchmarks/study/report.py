"""From a result of the study to what a reader looks at: a summary, tables in markdown, a plot.

    cd benchmarks && python -m study.report results/study-cpu-1.json --out ../docs/study

writes ``summary.json`` (or ``--summary``), and from that alone ``tables.md`` and ``retention.svg``.
Nothing is chosen here but the order of methods, which is that of the run. A cell that was not run
is left empty.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import BEST
from .paper import beside_the_paper
from .summary import summary

_TICKS = (-10, -5, -2, -1, -0.5, 0, 0.5, 1)
CLAIM = 1_000
"""Pictures of a cell that a claim about it needs (method.md 8 has the sum)."""
_FAMILIES = (
    ("_refit", "-", "C2"), ("_fusion", "-", "C2"), ("lora", ":", "C1"), ("equal", "--", "0.5"),
    ("half", "--", "0.5"), ("tokens", "-.", "C3"), ("dreambooth", "-.", "C3"), ("", "-", "C0"),
)  # fmt: skip
"""By what a method's name holds: fused, LoRA, a control, words, or blocks of its own."""
_GAP = 0.048
"""Between two names beside a panel, as a share of its height."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m study.report", description="tables and a plot")
    parser.add_argument("result", type=Path)
    parser.add_argument("--out", type=Path, default=Path("../build/study"))
    parser.add_argument("--summary", type=Path, help="its place; default: beside the tables")
    options = parser.parse_args()
    found = summary(json.loads(options.result.read_text()))
    options.out.mkdir(parents=True, exist_ok=True)
    place = options.summary or options.out / "summary.json"
    place.write_text(json.dumps(found, indent=1) + "\n")
    (options.out / "tables.md").write_text(tables(found))
    plotted(found).savefig(
        options.out / "retention.svg", metadata={"Date": None}, bbox_inches="tight"
    )
    print(options.out)


def tables(found: Mapping[str, Any]) -> str:
    """Return what each method keeps, what its pictures show, and how ours differs from rivals."""
    rows, cells = found["methods"], _cells(found)
    merged = [cell for cell in cells if not cell.startswith("1@")]
    most = merged[-1].partition("@")[0] if merged else ""
    head = ["method", "rate x", "loss alone", *map(_spoken, merged), "functional", "weights"]
    several = any(kept["seeds"] > 1 for row in rows.values() for kept in row["cells"].values())
    head += ["seeds"] if several else []
    body = []
    for method, row in rows.items():
        kept: Mapping[str, Any] = row["cells"]
        last = next((kept[c] for c in merged if c in kept and c.startswith(f"{most}@")), {})
        body.append(
            [
                f"`{method}`",
                f"{row['factor']:g}",
                f"{kept['1@1']['loss']['mean']:.5f}",
                *(_within(kept.get(cell, {}).get("retention")) for cell in merged),
                *(_within(last.get(f"{kind}_crosstalk")) for kind in ("functional", "weight")),
                *([_between([each["seeds"] for each in kept.values()])] if several else []),
            ]
        )
    parts = [_markdown(head, body), *pictured(found), _gaps(found)]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _gaps(found: Mapping[str, Any]) -> list[str]:
    every = found["differences"]
    shown = {
        title: told for title, told in _FIGURES.items() if any(told[0] in g for g in every.values())
    }
    body = []
    for name, gaps in every.items():
        pair, _, cell = name.rpartition(" ")
        words = [_interval(gaps.get(figure), *how) for figure, *how in shown.values()]
        body.append([f"`{pair}`", _spoken(cell), *words])
    return _markdown(["difference", "set", *shown], body)


_FIGURES = {
    "loss x 10^4": ("loss", 1e4, 2),
    "retention": ("retention", 1, 2),
    "identity": ("identity", 1, 3),
    "likeness": ("likeness", 1, 3),
    "nearest is own": ("nearest_is_own", 1, 3),
    "image alignment": ("image", 1, 3),
    "text alignment": ("text", 1, 3),
}
"""By its title: a figure's name, what it is multiplied with, and digits shown."""
_SEEN = {t: name for t, (name, *_) in _FIGURES.items() if name not in {"loss", "retention"}}


def pictured(found: Mapping[str, Any]) -> list[list[str]]:
    """Return tables of what pictures show: each drawn cell, the paper's Table 2, the confusion."""
    drawn = {
        (method, cell): row["cells"][cell]
        for cell in _cells(found)
        for method, row in found["methods"].items()
        if "pictures" in row["cells"].get(cell, {})
    }
    if not drawn:
        return []
    head = ["method", "set", "pictures", "seeds", *_SEEN, "identity, beside alone"]
    body = [
        [
            f"`{method}`",
            _spoken(cell),
            _of_a_claim(kept["pictures"]),
            str(kept["picture_seeds"]),
            *(_within(kept.get(name), 3) for name in _SEEN.values()),
            _interval(kept.get("drop", {}).get("identity"), 1, 3),
        ]
        for (method, cell), kept in drawn.items()
    ]
    parts = [_markdown(head, body), _markdown(*beside_the_paper(found))]
    for (method, cell), kept in drawn.items():
        rows: Mapping[str, Mapping[str, int]] = kept["confusion"]
        head = [f"`{method}`, {_spoken(cell)}: drawn, and nearest to", *found["concepts"]]
        counts = [
            [who, *(str(row.get(n, 0)) for n in found["concepts"])] for who, row in rows.items()
        ]
        parts.append(_markdown(head, counts))
    return parts


def plotted(found: Mapping[str, Any]) -> Figure:
    """Return retention against the number of concepts, one panel a lambda, a line a method.

    The last panel has each method at its best lambda.
    """
    mpl.rcParams["svg.hashsalt"] = "orthofed"  # the same bytes from the same numbers
    mpl.rcParams["svg.fonttype"] = "none"
    lambdas = sorted({cell.partition("@")[2] for cell in _cells(found)})  # words behind numbers
    figure = Figure(figsize=(6.2 * len(lambdas), 5.0))
    panels = figure.subplots(1, len(lambdas), squeeze=False, gridspec_kw={"wspace": 0.55})[0]
    for panel, value in zip(panels, lambdas, strict=True):
        ends: dict[str, tuple[float, float, str]] = {}
        for method, row in found["methods"].items():
            held = [c for c, kept in row["cells"].items() if "loss" in kept]
            sizes = sorted(int(c.partition("@")[0]) for c in held if c.endswith(f"@{value}"))
            if not sizes:
                continue
            cells = [(n, row["cells"][f"{n}@{value}"]) for n in sizes]
            points = [(n, kept.get("retention", {"mean": 1.0})["mean"]) for n, kept in cells]
            dash, colour = next((d, c) for part, d, c in _FAMILIES if part in method)
            panel.plot(
                *zip(*points, strict=True), dash, color=colour, marker="o", ms=3, label=method
            )
            ends[method] = (*points[-1], colour)
        panel.axhline(0, color="0.7", lw=0.8, zorder=0)
        panel.set_yscale("symlog", linthresh=1)  # 0 to 1 as it is, what is lost beyond in decades
        panel.set_yticks(_TICKS, labels=[f"{tick:g}" for tick in _TICKS])
        panel.minorticks_off()
        told = "each at its best lambda" if value == BEST else f"lambda {value}"
        panel.set(title=told, xlabel="concepts in the model", ylabel="retention")
        _name(panel, ends)
    return figure


def _name(panel: Axes, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Write each method beside the end of its line, the lowest first, no two on each other."""
    to_panel = panel.transData + panel.transAxes.inverted()
    heights = {method: float(to_panel.transform(end[:2])[1]) for method, end in ends.items()}
    order = sorted(heights, key=heights.__getitem__)
    free = -1.0
    for left, method in enumerate(order):
        room = 1.0 - _GAP * (len(order) - 1 - left)
        free = max(min(heights[method], room), free + _GAP) if left else min(heights[method], room)
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


def _cells(found: Mapping[str, Any]) -> list[str]:
    """Return the cells that any method has: the highest lambda first, the best last; by size."""
    held = {cell for row in found["methods"].values() for cell in row["cells"]}
    order = dict[str, tuple[float, int]]()
    for cell in held:
        size, _, lambda_ = cell.partition("@")
        order[cell] = (0.0 if lambda_ == BEST else -float(lambda_), int(size))
    return sorted(held, key=order.__getitem__)


def _spoken(cell: str) -> str:
    size, _, value = cell.partition("@")
    if value == BEST:
        return f"{size} at best"
    return f"alone, {value}" if size == "1" else f"{size} at {value}"


def _of_a_claim(pictures: int) -> str:
    return f"{pictures:,}" if pictures >= CLAIM else f"{pictures:,} of {CLAIM:,}"


def _between(numbers: Sequence[int]) -> str:
    """Return the least and the most of ``numbers``, which are mostly the same."""
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _within(held: Mapping[str, float] | None, digits: int = 2) -> str:
    if held is None:
        return ""
    mean, low, high = (f"{held[key]:.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _interval(gap: Mapping[str, float] | None, scale: float, digits: int) -> str:
    if gap is None:
        return ""
    mean, low, high = (gap[key] * scale for key in ("mean", "low", "high"))
    return f"{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)]


if __name__ == "__main__":
    main()
