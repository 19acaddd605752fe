"""From a result of the study to what a reader looks at: a summary, tables in markdown, a plot.

    cd benchmarks && python -m study.report results/study-cpu-1.json --out ../docs/study

writes ``summary.json`` (or ``--summary``), and from that alone ``tables.md``, ``retention.svg``
and, where pictures were drawn, ``identity.svg``. Nothing is chosen here but the order of methods,
which is that of the run. A cell that was not run is left empty.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .figures import BEST
from .paper import beside_the_paper
from .plots import identity, retention
from .summary import cells_of, summary

CLAIM = 1_000
"""Pictures of a cell that a claim about it needs (method.md 8 has the sum)."""


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
    drawn = any(
        "pictures" in cell for m in found["methods"].values() for cell in m["cells"].values()
    )
    for name, draw in {"retention": retention, **({"identity": identity} if drawn else {})}.items():
        draw(found).savefig(
            options.out / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight"
        )
    print(options.out)


def tables(found: Mapping[str, Any]) -> str:
    """Return what each method keeps, what its pictures show, and how ours differs from rivals."""
    rows, cells = found["methods"], cells_of(found)
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
        for cell in cells_of(found)
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
