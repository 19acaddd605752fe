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

import statistics
import time
from collections.abc import Callable
from typing import Any

from orthofed.client.variant import Variant

from .again import Trained, look
from .merging import RECORDED, merged
from .recipes import METHODS, RECIPES, Merge, Side

ROUNDS = 5
_HALF = 2  # bytes of a number, as kohya's files hold it


def _row(trained: Trained) -> dict[str, Any]:
    """Return the figures of one method."""
    bench, parts = trained.bench, [*trained.parts.values()]
    recipe = METHODS[trained.method].recipe
    how: Merge = METHODS[trained.method].merge
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


if __name__ == "__main__":
    look("cost", "bytes and seconds", _row)
