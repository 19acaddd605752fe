"""What each method costs: bytes that an owner sends, seconds of a merge of all, bytes of the model.

    cd benchmarks && python -m study.cost results/study-cpu-1.json --work FOLDER \
        --methods lora lora_fusion hadamard_null10_slow --out results/study-cost-cpu-1.json

    sent_bytes   what trained of one concept's layers, and its vectors; two bytes a number
    merge_s      processor seconds of one merge of all concepts, one thread, the median of ROUNDS
    model_bytes  the merged residual: two factors of N r columns, or whole layers where a merge
                 fills them; two bytes a number
    record_s     processor seconds to record the inputs of one concept, where a merge needs them

Seconds are of the study's own merges (merging.py), alike for all methods and none of the product's,
whose are in benchmarks/merge.py. What the study trained is taken from FOLDER, or trained again.
Source: method.md 8.
"""

import argparse
import datetime as dt
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from circumstances import commit, hardware

from orthofed.client.variant import Variant

from .bench import Bench, Conditions, one_thread
from .merging import RECORDED, merged
from .recipes import METHODS, RECIPES, Merge, Side
from .trial import Trial
from .trials import Outcome

ASSETS = Path(__file__).parent.parent.parent / "assets"
ROUNDS = 5
_HALF = 2  # bytes of a number, as kohya's files hold it


def main() -> None:
    options = _options()
    one_thread()
    held = json.loads(options.result.read_text())
    steps = held["steps"] if isinstance(held["steps"], int) else 0
    names = tuple(held["concepts"])
    bench = Bench(Conditions(options.base, held["people"], options.work, names, steps=steps))
    trials = [Outcome.of_plain(each).trial for each in held["outcomes"]]
    found: dict[str, Any] = {
        "schema": "orthofed.study-cost/1",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "commit": commit(),
        "hardware": hardware(),
        "concepts": len(names),
        "rank": bench.conditions.rank,
        "methods": {},
    }
    for method in options.methods:
        alone = [t for t in trials if t.method == method and len(t.names) == 1 and t.seed == 0]
        if not alone:
            raise SystemExit(f"{method}: nothing of it stands alone in {options.result}")
        found["methods"][method] = _row(bench, method, alone)
        print(method, json.dumps(found["methods"][method]))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")


def _row(bench: Bench, method: str, alone: Sequence[Trial]) -> dict[str, Any]:
    recipe = METHODS[method].recipe
    how: Merge = METHODS[method].merge
    parts = [bench.learnt(recipe, t.names[0], t.factor, t.seed) for t in alone]
    variants = [part.variant for part in parts]
    inputs = [bench.inputs(part) for part in parts] if how in RECORDED else []
    seconds = [_seconds(lambda: merged(how, variants, inputs.__getitem__)) for _ in range(ROUNDS)]
    row = {
        "sent_bytes": _HALF * _sent(RECIPES[recipe].side, parts[0].variant),
        "merge_s": round(statistics.median(seconds), 4),
        "model_bytes": _HALF * _model(how, Variant.sum_of(variants)),
    }
    if how in RECORDED:
        row["record_s"] = round(_seconds(lambda: bench.recorded(parts[0])), 2)
    return row


def _seconds(do: Callable[[], object]) -> float:
    start_s = time.process_time()
    do()
    return time.process_time() - start_s


def _sent(side: Side, part: Variant) -> int:
    """Return how many numbers an owner sends: a frozen side is known to everybody."""
    vectors = sum(rows.size for by_tower in part.vectors.values() for rows in by_tower.values())
    up = sum(r.up.size for r in part.residuals.values())
    down = sum(r.down.size for r in part.residuals.values())
    sides = {"none": 0, "lora": up + down, "frozen": up, "frozen_up": down}
    return vectors + sides[side]


def _model(how: Merge, whole: Variant) -> int:
    """Return how many numbers the merged residual has: two factors, or each layer's change."""
    if how in {"sum", "refit"}:
        return sum(r.up.size + r.down.size for r in whole.residuals.values())
    return sum(len(r.up) * r.down.shape[1] for r in whole.residuals.values())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m study.cost", description="bytes and seconds")
    parser.add_argument("result", type=Path)
    parser.add_argument("--work", type=Path, default=Path("../build/study"))
    parser.add_argument("--base", type=Path, default=ASSETS / "pocket-base")
    parser.add_argument("--methods", nargs="+", choices=METHODS, required=True)
    parser.add_argument("--out", type=Path, default=Path("../build/study/cost.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
