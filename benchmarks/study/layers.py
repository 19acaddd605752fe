"""Crosstalk of all concepts of a study in one model, layer by layer, and by kind of layer.

    cd benchmarks && python -m study.layers results/study-cpu-1.json --work FOLDER \
        --methods haar_draw hadamard_null10_slow --out results/study-layers-cpu-1.json

Both figures are crosstalk.py's, at lambda 1, which neither of them depends on. A kind is a text
encoder's attention, or self-attention or cross-attention of the UNet, inputs (q, k, v) apart from
outputs; its figure is the mean over its layers. Source: method.md 6.1, 8; the paper's Fig. 9.
"""

import argparse
import datetime as dt
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from circumstances import commit, hardware

from .bench import Bench, Conditions, one_thread
from .crosstalk import functional_by_layer, weights_by_layer
from .recipes import METHODS
from .trials import Outcome

ASSETS = Path(__file__).parent.parent.parent / "assets"


def main() -> None:
    options = _options()
    one_thread()
    held = json.loads(options.result.read_text())
    steps = held["steps"] if isinstance(held["steps"], int) else 0
    names = tuple(held["concepts"])
    bench = Bench(Conditions(options.base, held["people"], options.work, names, steps=steps))
    trials = [Outcome.of_plain(each).trial for each in held["outcomes"]]
    found: dict[str, Any] = {
        "schema": "orthofed.study-layers/1",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "commit": commit(),
        "hardware": hardware(),
        "people": held["people"],
        "concepts": len(names),
        "methods": {},
    }
    for method in options.methods:
        alone = [t for t in trials if t.method == method and len(t.names) == 1 and t.seed == 0]
        if not alone:
            raise SystemExit(f"{method}: nothing of it stands alone in {options.result}")
        recipe = METHODS[method].recipe
        parts = [bench.learnt(recipe, t.names[0], t.factor, t.seed) for t in alone]
        variants, inputs = [p.variant for p in parts], [bench.inputs(p) for p in parts]
        by_layer = {
            "functional": functional_by_layer(variants, inputs),
            "weights": weights_by_layer(variants),
        }
        found["methods"][method] = {
            figure: {"kinds": _by_kind(each), "layers": {k: round(v, 4) for k, v in each.items()}}
            for figure, each in by_layer.items()
        }
        shown = {figure: row["kinds"] for figure, row in found["methods"][method].items()}
        print(method, json.dumps(shown))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")


def _by_kind(by_layer: Mapping[str, float]) -> dict[str, float]:
    kinds = dict[str, list[float]]()
    for path, value in by_layer.items():
        kinds.setdefault(_kind_of(path), []).append(value)
    return {kind: round(statistics.fmean(some), 4) for kind, some in kinds.items()}


def _kind_of(path: str) -> str:
    """Return which kind of layer a path is of: ``unet attn2 out``, ``text_encoder in``."""
    component, *_ = path.split(".")
    side = "out" if ".to_out." in path or path.endswith("out_proj") else "in"
    attention = [part for part in path.split(".") if part in {"attn1", "attn2"}]
    return " ".join([component, *attention, side])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m study.layers", description="where they meet")
    parser.add_argument("result", type=Path)
    parser.add_argument("--work", type=Path, default=Path("../build/study"))
    parser.add_argument("--base", type=Path, default=ASSETS / "pocket-base")
    parser.add_argument("--methods", nargs="+", choices=METHODS, required=True)
    parser.add_argument("--out", type=Path, default=Path("../build/study/layers.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
