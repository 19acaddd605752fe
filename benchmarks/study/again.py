"""What the commands share that look again at what a study trained: options, bench, trials, result.

A result tells the concepts, the steps and each method's factor; what was trained at them is taken
from the work folder, or trained again. Training seed 0.
"""

import argparse
import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from circumstances import commit, hardware

from .bench import Bench, Conditions, Learnt, one_thread
from .recipes import METHODS
from .trials import Outcome

ASSETS = Path(__file__).parent.parent.parent / "assets"


@dataclass(frozen=True, slots=True)
class Trained:
    """All concepts that one method has alone, and the bench they were trained on."""

    method: str
    bench: Bench
    parts: dict[str, Learnt]


def look(name: str, says: str, row: Callable[[Trained], dict[str, Any]], *, least: int = 2) -> None:
    """Run the command ``study.NAME``: write what ``row`` finds of each method that is asked for.

    ``least``: how many concepts the figure needs. Raises SystemExit: the result has nothing of a
    method alone, or fewer of it.
    """
    parser = argparse.ArgumentParser(prog=f"python -m study.{name}", description=says)
    parser.add_argument("result", type=Path)
    parser.add_argument("--work", type=Path, default=Path("../build/study"))
    parser.add_argument("--base", type=Path, default=ASSETS / "pocket-base")
    parser.add_argument("--draws", type=int, default=256, help="those of the result's losses")
    parser.add_argument("--methods", nargs="+", choices=METHODS, required=True)
    parser.add_argument("--out", type=Path, default=Path(f"../build/study/{name}.json"))
    options = parser.parse_args()
    one_thread()
    held = json.loads(options.result.read_text())
    steps = held["steps"] if isinstance(held["steps"], int) else 0
    names = tuple(held["concepts"])
    bench = Bench(
        Conditions(
            options.base, held["people"], options.work, names, steps=steps, draws=options.draws
        )
    )
    trials = [Outcome.of_plain(each).trial for each in held["outcomes"]]
    methods = {}
    for method in options.methods:
        alone = [t for t in trials if t.method == method and len(t.names) == 1 and t.seed == 0]
        if not alone:
            raise SystemExit(f"{method}: nothing of it stands alone in {options.result}")
        if len(alone) < least:
            who = alone[0].names[0]
            raise SystemExit(
                f"{method}: of {who} alone nothing can be compared: "
                "run the study with --num 2 or more"
            )
        recipe = METHODS[method].recipe
        parts = {t.names[0]: bench.learnt(recipe, t.names[0], t.factor, t.seed) for t in alone}
        methods[method] = row(Trained(method, bench, parts))
    found = {
        "schema": f"orthofed.study-{name.replace('_', '-')}/1",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "commit": commit(),
        "hardware": hardware(),
        "people": held["people"],
        "concepts": list(names),
        "rank": bench.conditions.rank,
        "methods": methods,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(options.out)
