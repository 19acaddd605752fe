"""The memorisation score of a result's trainings, as their owners would see it before sending.

    cd benchmarks && python -m study.by_heart results/study-cpu-1.json --work FOLDER \
        --methods hadamard_null50_slow --out results/study-by-heart-cpu-1.json

What the study trained alone is taken from FOLDER, or trained again. The score is the product's
(client/memorisation.py), at its threshold; what is scored are floats, not the integers that would
be sent. Source: security.md 2, T21.
"""

import argparse
import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

from circumstances import commit, hardware

from orthofed.client.memorisation import memorisation, planned_draws
from orthofed.client.score import Scorer
from orthofed.client.training_settings import TrainingSettings
from orthofed.core.memorisation import BY_HEART

from .bench import SHARED_SEED, Bench, Conditions, one_thread
from .recipes import METHODS
from .trial import Trial
from .trials import Outcome

ASSETS = Path(__file__).parent.parent.parent / "assets"


def main() -> None:
    options = _options()
    one_thread()
    rows = [row for result in options.results for row in _rows(result, options)]
    if not rows:
        raise SystemExit(f"nothing of {', '.join(options.methods)} stands alone in the results")
    scores = [row["score"] for row in rows]
    found = {
        "schema": "orthofed.study-by-heart/1",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "commit": commit(),
        "hardware": hardware(),
        "methods": options.methods,
        "threshold": BY_HEART,
        "runs": len(rows),
        "flagged": sum(score > BY_HEART for score in scores),
        "least": min(scores),
        "greatest": max(scores),
        "rows": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(options.out)


def _rows(result: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the score of every concept that the result has alone."""
    held = json.loads(result.read_text())
    steps = held["steps"] if isinstance(held["steps"], int) else 0
    names, people = tuple(held["concepts"]), held["people"]
    bench = Bench(
        Conditions(options.base, people, options.work, names, steps=steps, draws=options.draws)
    )
    trials = [Outcome.of_plain(each).trial for each in held["outcomes"]]
    rows = []
    for trial in trials:
        if len(trial.names) == 1 and trial.method in options.methods:
            rows.append({"people": people, **_row(bench, trial)})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def _row(bench: Bench, trial: Trial) -> dict[str, Any]:
    (name,) = trial.names
    recipe, conditions = METHODS[trial.method].recipe, bench.conditions
    learnt, images = bench.learnt(recipe, name, trial.factor, trial.seed), bench.images[name]
    settings = TrainingSettings(steps=conditions.steps or TrainingSettings().steps)
    scorer = Scorer.on(bench.base, images.held_out, num_draws=conditions.draws, seed=SHARED_SEED)
    noun = conditions.noun
    found = memorisation(
        bench.base,
        images.train,
        learnt.variant,
        phrase=learnt.phrase,
        noun=noun,
        held_out=(scorer.base_loss(noun), scorer.loss(learnt.variant, learnt.phrase)),
        num_draws=min(conditions.draws, planned_draws(settings)),
    )
    return {
        "concept": name,
        "method": trial.method,
        "seed": trial.seed,
        "images": len(images.train),
        "gain_trained": round(found.gain_trained, 4),
        "gain_held_out": round(found.gain_held_out, 4),
        "score": round(found.score, 4),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m study.by_heart", description="what is by heart"
    )
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, default=Path("../build/study"))
    parser.add_argument("--base", type=Path, default=ASSETS / "pocket-base")
    parser.add_argument("--draws", type=int, default=256, help="those of the result's losses")
    parser.add_argument("--methods", nargs="+", choices=METHODS, required=True)
    parser.add_argument("--out", type=Path, default=Path("../build/study/by-heart.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
