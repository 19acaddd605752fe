"""From a result of the study to what tables and plots are drawn from: means and intervals alone.

Every method, metric, size and lambda has its mean and its 95 % interval, by the bootstrap of
figures.py: over concepts, then sets; crosstalk, which a set has as a whole, over sets. So have the
differences that the run looked at. A cell is "SIZE@LAMBDA".
"""

from collections.abc import Mapping
from typing import Any

from .figures import (
    Values,
    crosstalks,
    difference,
    gains,
    identities,
    losses,
    retentions,
)
from .pictures import Drawn
from .trials import Outcome

SCHEMA = "orthofed.study-summary/1"


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
            "identity": identities(drawn, method, cell),
        }
        return {name: found for name, some in values.items() if (found := _interval(some))}

    return {
        "schema": SCHEMA,
        **{key: result[key] for key in ("runs", "people", "concepts", "steps")},
        "base_loss": round(sum(base.values()) / len(base), 6),
        "methods": {
            method: {
                "factor": row["factor"],
                "cells": {cell: figures(method, cell) for cell in row if "@" in cell},
            }
            for method, row in result["methods"].items()
        },
        "differences": result["differences"],
    }


def _interval(values: Values) -> dict[str, float] | None:
    """Return the mean and its interval: the difference from nothing."""
    return difference(values, dict.fromkeys(values, 0.0))
