"""From a result of the study to what a reader looks at: tables in markdown and one plot.

    cd benchmarks && python -m study.report results/study-cpu-1.json --out ../docs/study

writes ``tables.md`` and ``retention.svg``. Everything comes from the file; nothing is chosen here
but the order of methods, which is that of the run. A cell that was not run is left empty.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

_TICKS = (-10, -5, -2, -1, -0.5, 0, 0.5, 1)
_LINES = {"equal": "--", "half": "-.", "lora": ":"}
"""The controls are dashed; a null-response twin has its method's dash."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m study.report", description="tables and a plot")
    parser.add_argument("result", type=Path)
    parser.add_argument("--out", type=Path, default=Path("../build/study"))
    options = parser.parse_args()
    result = json.loads(options.result.read_text())
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "tables.md").write_text(tables(result))
    plotted(result).savefig(options.out / "retention.svg", metadata={"Date": None})
    print(options.out)


def tables(result: Mapping[str, Any]) -> str:
    """Return both tables: what each method keeps, and how ours differs from each rival."""
    rows, cells = result["methods"], _cells(result)
    merged = [cell for cell in cells if not cell.startswith("1@")]
    most = merged[-1].partition("@")[0] if merged else ""
    head = ["method", "rate x", "loss alone", *map(_spoken, merged), "functional", "weights"]
    seen = [cell for cell in cells if any("identity" in row.get(cell, {}) for row in rows.values())]
    head += [f"identity, {_spoken(cell)}" for cell in seen]
    body = []
    for method, row in rows.items():
        last = next((row[c] for c in merged if c in row and c.startswith(f"{most}@")), {})
        body.append(
            [
                f"`{method}`",
                f"{row['factor']:g}",
                f"{row['1@1']['loss']:.5f}",
                *(_number(row.get(cell, {}).get("retention")) for cell in merged),
                _number(last.get("functional_crosstalk")),
                _number(last.get("weight_crosstalk")),
                *(_number(row.get(cell, {}).get("identity")) for cell in seen),
            ]
        )
    return "\n".join([*_markdown(head, body), "", *_gaps(result)]) + "\n"


def _gaps(result: Mapping[str, Any]) -> list[str]:
    body = []
    for name, gaps in result["differences"].items():
        pair, _, cell = name.rpartition(" ")
        words = [_interval(gaps.get(figure), scale) for figure, scale in _FIGURES.values()]
        body.append([f"`{pair}`", _spoken(cell), *words])
    return _markdown(["difference", "set", *_FIGURES], body)


_FIGURES = {
    "loss x 10^4": ("loss", 1e4),
    "retention": ("retention", 1),
    "identity": ("identity", 1),
}


def plotted(result: Mapping[str, Any]) -> Figure:
    """Return retention against the number of concepts, one panel a lambda, a line a method."""
    mpl.rcParams["svg.hashsalt"] = "orthofed"  # the same bytes from the same numbers
    mpl.rcParams["svg.fonttype"] = "none"
    lambdas = sorted({cell.partition("@")[2] for cell in _cells(result)}, key=float)
    figure = Figure(figsize=(4.4 * len(lambdas), 3.8), layout="constrained")
    panels = figure.subplots(1, len(lambdas), squeeze=False, sharey=True)[0]
    for panel, value in zip(panels, lambdas, strict=True):
        for method, row in result["methods"].items():
            sizes = sorted(int(c.partition("@")[0]) for c in row if c.endswith(f"@{value}"))
            points = [(n, row[f"{n}@{value}"].get("retention", 1.0)) for n in sizes]
            style = _LINES.get(method.removesuffix("_null"), "-")
            panel.plot(*zip(*points, strict=True), style, marker="o", ms=3, label=method)
        panel.axhline(0, color="0.7", lw=0.8, zorder=0)
        panel.set_yscale("symlog", linthresh=1)  # 0 to 1 as it is, what is lost beyond in decades
        panel.set_yticks(_TICKS, labels=[f"{tick:g}" for tick in _TICKS])
        panel.minorticks_off()
        panel.set(title=f"lambda {value}", xlabel="concepts in the model")
    panels[0].set_ylabel("retention")
    panels[0].legend(fontsize=7)
    return figure


def _cells(result: Mapping[str, Any]) -> list[str]:
    """Return the cells that any method has: by lambda, the highest first, then by size."""
    found = {cell for row in result["methods"].values() for cell in row if "@" in cell}
    pairs = [(float(cell.partition("@")[2]), int(cell.partition("@")[0]), cell) for cell in found]
    return [cell for _, _, cell in sorted(pairs, key=lambda pair: (-pair[0], pair[1]))]


def _spoken(cell: str) -> str:
    size, _, value = cell.partition("@")
    return f"alone, {value}" if size == "1" else f"{size} at {value}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _interval(gap: Mapping[str, float] | None, scale: float) -> str:
    if gap is None:
        return ""
    mean, low, high = (gap[key] * scale for key in ("mean", "low", "high"))
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)]


if __name__ == "__main__":
    main()
