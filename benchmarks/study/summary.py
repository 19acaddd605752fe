"""From a result of the study to what tables and plots are drawn from: means and intervals alone.

Every method, metric, size and lambda has its mean and its 95 % interval, by the bootstrap of
figures.py: over concepts, then sets, and training seeds; crosstalk, which a set has as a whole,
over sets. So have the differences of comparing.py. A cell is "SIZE@LAMBDA", or "SIZE@best"
(figures.py); ``seeds`` is how many its losses come from. Where pictures were drawn it has their
number, what each figure changes by from the concept alone (``drop``), and the confusion matrix: how
many of a concept's pictures are nearest to which concept.
"""

from collections.abc import Mapping
from typing import Any

from .comparing import differences
from .drawn import Drawn
from .figures import (
    BEST,
    SEEN,
    Values,
    best_lambdas,
    confusion,
    crosstalks,
    difference,
    drops,
    gains,
    losses,
    retentions,
    seen,
)
from .trials import Outcome

SCHEMA = "orthofed.study-summary/3"


def summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the summary of what ``python -m study`` wrote."""
    outcomes = [Outcome.of_plain(each) for each in result["outcomes"]]
    drawn = [Drawn.of_plain(each) for each in result["drawn"]]
    base = result["base"]

    def figures(method: str, cell: str) -> dict[str, Any]:
        values = {
            "loss": losses(outcomes, method, cell),
            "gain": gains(base, outcomes, method, cell),
            "retention": retentions(base, outcomes, method, cell),
            "functional_crosstalk": crosstalks(outcomes, method, cell, "functional"),
            "weight_crosstalk": crosstalks(outcomes, method, cell, "weights"),
            **{figure: seen(drawn, method, cell, figure) for figure in SEEN},
        }
        found: dict[str, Any] = {"seeds": len({seed for *_, seed in values["loss"]})}
        found |= {name: told for name, some in values.items() if (told := _interval(some))}
        if shown := confusion(drawn, method, cell):
            found["pictures"] = sum(sum(counts.values()) for counts in shown.values())
            found["picture_seeds"] = len({seed for *_, seed in values["identity"]})
            found["confusion"] = shown
            gaps = {each: _interval(drops(drawn, method, cell, each)) for each in SEEN}
            found["drop"] = {each: gap for each, gap in gaps.items() if gap}
        size, _, lambda_ = cell.partition("@")
        if lambda_ == BEST:
            found["lambdas"] = best_lambdas(outcomes, method, size)
        return found

    def named(method: str, row: Mapping[str, Any]) -> list[str]:
        held = [cell for cell in row if "@" in cell]
        sizes = dict.fromkeys(cell.partition("@")[0] for cell in held)
        return held + [f"{n}@{BEST}" for n in sizes if best_lambdas(outcomes, method, n)]

    return {
        "schema": SCHEMA,
        **{key: result[key] for key in ("runs", "people", "concepts", "steps")},
        "base_loss": round(sum(base.values()) / len(base), 6),
        "methods": {
            method: {
                "factor": row["factor"],
                "cells": {cell: figures(method, cell) for cell in named(method, row)},
            }
            for method, row in result["methods"].items()
        },
        "differences": differences(base, outcomes, drawn),
    }


def cells_of(found: Mapping[str, Any]) -> list[str]:
    """Return the cells that any method has: the highest lambda first, the best last; by size."""
    held = {cell for row in found["methods"].values() for cell in row["cells"]}
    order = dict[str, tuple[float, int]]()
    for cell in held:
        size, _, lambda_ = cell.partition("@")
        order[cell] = (0.0 if lambda_ == BEST else -float(lambda_), int(size))
    return sorted(held, key=order.__getitem__)


def _interval(values: Values) -> dict[str, float] | None:
    """Return the mean and its interval: the difference from nothing."""
    return difference(values, dict.fromkeys(values, 0.0))
