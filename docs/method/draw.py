"""Draws the pictures of docs/method.md from what the program computes and from what was measured.

    python docs/method/draw.py               the five pictures beside it
    python docs/method/draw.py --demo demo   first residuals.json, from what `orthofed demo` made

Law: no number is typed. Blocks are those of the federation whose spec residuals.json holds, made by
core/basis.py; retention is that of the study's result. The same inputs give the same bytes.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.typing import RcKeyType
from safetensors.numpy import load_file

from orthofed.core.basis import Family, block
from orthofed.core.draw import draw
from orthofed.core.spec import FederationSpec

HERE = Path(__file__).parent
STUDY = HERE.parents[1] / "benchmarks" / "results" / "study-cpu-1.json"
NUMBERS = HERE / "residuals.json"
COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860")
METHODS = {
    "hadamard_null10_slow": ("disjoint blocks, null response (the product)", "#4c72b0", "-"),
    "hadamard_null50_slow": ("the same, five times its weight", "#55a868", "-"),
    "lora_null10": ("LoRA, null response", "#8172b3", "-."),
    "hadamard": ("disjoint blocks, without", "#4c72b0", "--"),
    "equal": ("one block for all, without", "#dd8452", "--"),
    "lora": ("LoRA, without", "#8172b3", ":"),
}
"""The study's names, a reader's words, and the line."""
ROUNDING = 1e-12
STYLE: dict[RcKeyType, Any] = {
    "svg.hashsalt": "orthofed",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.linewidth": 0.6,
}


def main() -> None:
    """Read what is asked for, draw the rest."""
    parser = argparse.ArgumentParser(description="the pictures of docs/method.md")
    parser.add_argument("--demo", type=Path, help="folder of `orthofed demo`: measure it anew")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the pictures")
    options = parser.parse_args()
    if options.demo is not None:
        NUMBERS.write_text(json.dumps(measured(options.demo)) + "\n", "utf-8")
    for name, picture in pictures().items():
        with mpl.rc_context(STYLE):
            picture.savefig(options.out / name, metadata={"Date": None})


def pictures() -> dict[str, Figure]:
    """Return every picture by the name of its file."""
    numbers = json.loads(NUMBERS.read_text("utf-8"))
    study = json.loads(STUDY.read_text("utf-8"))
    with mpl.rc_context(STYLE):
        return {
            "blocks.svg": blocks_picture(numbers),
            "gram.svg": gram_picture(numbers),
            "factors.svg": factors_picture(numbers),
            "residuals.svg": residuals_picture(numbers),
            "study.svg": study_picture(study),
        }


def measured(demo: Path) -> dict[str, Any]:
    """Return how the change of each concept of a demo lies in the columns of O, in one layer.

    Energy of column c: ||dW_i O_c||^2, in float64, over that of the whole change. The layer is the
    narrowest kind's one that changes most.
    """
    release = demo / "consumer" / "release-1"
    spec = FederationSpec.from_bytes((demo / "coordinator" / "public" / "spec.json").read_bytes())
    changes = {
        path.stem.removeprefix(f"{spec.name}-"): load_file(path)
        for path in sorted((release / "concepts").glob("*.safetensors"))
    }
    narrow = min(layer.width for layer in spec.layers)
    layers = [layer.path for layer in spec.layers if layer.width == narrow]
    layer = max(layers, key=lambda path: sum(_size(each, path) for each in changes.values()))
    rank, slots = spec.rank(narrow), narrow // spec.rank(narrow)
    basis = _basis("hadamard", spec.seed.hex(), layer, narrow, rank, slots)
    inside = {name: _change(each, layer) @ basis for name, each in changes.items()}
    energy = {name: each**2 for name, each in inside.items()}
    first = next(iter(inside))
    slot = int(energy[first].sum(0).argmax()) // rank
    factor = inside[first][:, slot * rank : (slot + 1) * rank]
    return {
        "schema": "orthofed.residuals/1",
        "layer": layer,
        "width": narrow,
        "rank": rank,
        "seed": spec.seed.hex(),
        "factor": {first: [[round(float(x), 5) for x in row] for row in factor]},
        "energy": {name: list(map(float, e.sum(0) / e.sum())) for name, e in energy.items()},
    }


def _key(layer: str) -> str:
    component, _, path = layer.partition(".")
    prefix = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[component]
    return prefix + path.replace(".", "_")


def _change(tensors: dict[str, Any], layer: str) -> Any:  # noqa: ANN401  # numpy's arrays
    up, down = (tensors[f"{_key(layer)}.lora_{way}.weight"] for way in ("up", "down"))
    return up.astype(np.float64) @ down.astype(np.float64)


def _size(tensors: dict[str, Any], layer: str) -> float:
    return float((_change(tensors, layer) ** 2).sum())


def _basis(family: Family, seed: str, layer: str, width: int, rank: int, slots: int) -> Any:  # noqa: ANN401  # numpy's array
    each = (
        block(family, seed=bytes.fromhex(seed), layer=layer, width=width, rank=rank, slot=slot)
        for slot in range(slots)
    )
    return np.concatenate(list(each), axis=1).astype(np.float64)


def _of(numbers: dict[str, Any], family: Family) -> Any:  # noqa: ANN401  # numpy's arrays
    width, rank = numbers["width"], numbers["rank"]
    return _basis(family, numbers["seed"], numbers["layer"], width, rank, width // rank)


def _figure(width: float, height: float) -> Figure:
    engine = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08)
    return Figure(figsize=(width, height), layout=engine)


def blocks_picture(numbers: dict[str, Any]) -> Figure:
    """Draw O itself: every entry, coloured by the slot that owns its column."""
    basis, rank, width = _of(numbers, "hadamard"), numbers["rank"], numbers["width"]
    slots = width // rank
    figure = _figure(6.8, 4.3)
    axes = figure.add_subplot()
    owner = np.arange(width) // rank
    colours = np.array([to_rgb(COLOURS[slot % len(COLOURS)]) for slot in range(slots)])[owner]
    shade = np.where(basis > 0, 0.0, 0.72)[..., None]
    axes.imshow(colours[None] * (1 - shade) + shade, interpolation="nearest", aspect="auto")
    axes.set_xticks(np.arange(slots) * rank + (rank - 1) / 2, [f"slot {s}" for s in range(slots)])
    axes.tick_params(axis="x", length=0, labelsize=7)
    axes.set_yticks([0, width - 1], ["1", str(width)])
    axes.set_ylabel("input of the layer")
    axes.set_title(
        f"O, {width} x {width}: dark is +1, light is -1, all over the root of {width};"
        f" a slot's B has {rank} columns",
        loc="left",
    )
    return figure


def gram_picture(numbers: dict[str, Any]) -> Figure:
    """Draw the inner products of all columns of all slots, for three ways to deal them out."""
    rank, width = numbers["rank"], numbers["width"]
    slots = width // rank
    whole = _of(numbers, "hadamard")
    seed, layer = bytes.fromhex(numbers["seed"]), numbers["layer"]
    picked = [
        column
        for slot in range(slots)
        for column in draw(slot, seed=seed, layer=layer, width=width, rank=rank)
    ]
    ways = {
        "disjoint blocks (OrthoFed)": whole,
        "a random draw for each": whole[:, picked],
        "random directions": _of(numbers, "gaussian"),
    }
    figure = _figure(6.8, 2.9)
    for axes, (name, basis) in zip(figure.subplots(1, 3), ways.items(), strict=True):
        gram = np.abs(basis.T @ basis)
        axes.imshow(gram, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        _grid(axes, slots, rank)
        axes.set_title(f"{name}\n{_shared(gram, slots, rank)}")
    return figure


def _grid(axes: Axes, slots: int, rank: int) -> None:
    edges = np.arange(1, slots) * rank - 0.5
    axes.hlines(edges, -0.5, slots * rank - 0.5, color="#bbb", lw=0.4)
    axes.vlines(edges, -0.5, slots * rank - 0.5, color="#bbb", lw=0.4)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(f"{slots} slots of {rank} columns")


def _shared(gram: Any, slots: int, rank: int) -> str:  # noqa: ANN401  # numpy's array
    """Say which share of one slot's directions lies in another one's, over all pairs."""
    squares = (gram**2).reshape(slots, rank, slots, rank).sum(axis=(1, 3))
    pairs = squares[~np.eye(slots, dtype=bool)] / rank
    return f"a pair shares {100 * pairs.mean():.1f} %\nat most {100 * pairs.max():.0f} %"


def factors_picture(numbers: dict[str, Any]) -> Figure:
    """Draw A, the frozen block, and the change that they make, of one trained concept."""
    rank, width = numbers["rank"], numbers["width"]
    (name, a), *_ = numbers["factor"].items()
    slot = int(np.argmax(numbers["energy"][name])) // rank
    b = _of(numbers, "hadamard")[:, slot * rank : (slot + 1) * rank]
    parts = {
        f"A, {width} x {rank}\nlearnt": np.array(a),
        f"B', {rank} x {width}\nslot {slot}, from the public seed": b.T,
        f"A B', {width} x {width}\nadded to the weight": np.array(a) @ b.T,
    }
    figure = _figure(6.8, 2.6)
    wide = {"width_ratios": [0.35, 1, 1]}
    every = figure.subplots(1, 3, gridspec_kw=wide)
    for axes, (title, part) in zip(every, parts.items(), strict=True):
        most = float(np.abs(part).max())
        axes.imshow(part, cmap="RdBu", vmin=-most, vmax=most, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(title)
    every[0].set_ylabel(name)
    return figure


def residuals_picture(numbers: dict[str, Any]) -> Figure:
    """Draw what four trained concepts changed, column by column of O, and their sum."""
    rank, width = numbers["rank"], numbers["width"]
    slots, names = width // rank, list(numbers["energy"])
    rows = np.array([numbers["energy"][name] for name in names])
    paint = np.array([to_rgb(COLOURS[k % len(COLOURS)]) for k in range(len(names))])
    depth = np.vstack([rows, rows.sum(0)])[..., None] / rows.max()
    of_whom = np.concatenate(
        [np.broadcast_to(paint[:, None], (*rows.shape, 3)), paint[rows.argmax(0)][None]]
    )
    figure = _figure(6.8, 2.2)
    axes = figure.add_subplot()
    axes.imshow(1 - depth * (1 - of_whom), aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(depth)), [*names, "merged"])
    axes.hlines(len(names) - 0.5, -0.5, width - 0.5, color="#444", lw=0.9)
    axes.vlines(np.arange(1, slots) * rank - 0.5, -0.5, len(depth) - 0.5, color="#ccc", lw=0.5)
    axes.set_xticks(np.arange(slots) * rank + (rank - 1) / 2, [f"slot {s}" for s in range(slots)])
    axes.tick_params(length=0)
    axes.tick_params(axis="x", labelsize=7)
    outside = max(sum(row) - max(row.reshape(slots, rank).sum(1)) for row in rows)
    said = "nothing" if outside < ROUNDING else f"{outside:.0e} of a change"
    axes.set_title(
        f"share of each concept's change in each column of O; {said} outside of its slot"
    )
    return figure


def study_picture(study: dict[str, Any]) -> Figure:
    """Draw retention against the number of concepts, for the two strengths that were measured."""
    figure = _figure(6.8, 3.1)
    both = figure.subplots(1, 2, sharey=True)
    for axes, strength in zip(both, ("0.6", "1"), strict=True):
        for method, (words, colour, line) in METHODS.items():
            cells = study["methods"][method]
            points = sorted(
                (int(cell.partition("@")[0]), cells[cell]["retention"])
                for cell in cells
                if cell.endswith(f"@{strength}") and "retention" in cells[cell]
            )
            axes.plot(*zip(*points, strict=True), line, color=colour, marker="o", ms=3, label=words)
        axes.axhline(1, color="#999", lw=0.6)
        axes.axhline(0, color="#999", lw=0.6)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_yticks([-6, -3, -1, 0, 0.5, 1], ["-6", "-3", "-1", "0", ".5", "1"])
        axes.set_xticks([3, 6, 12])
        axes.set_xlabel("concepts merged")
        axes.set_title(f"lambda {strength}")
    both[0].set_ylabel("retention")
    figure.legend(*both[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


if __name__ == "__main__":
    main()
