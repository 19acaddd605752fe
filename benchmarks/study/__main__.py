"""The study: what a merge keeps of each concept, by many methods under equal conditions.

    cd benchmarks && python -m study --smoke         # minutes; two concepts, few steps
    cd benchmarks && python -m study --work FOLDER   # hours; what was done before is not done again
    cd benchmarks && python -m study --add results/study-cpu-1.json --methods lora haar_draw ...
    cd benchmarks && python -m study --add results/study-cpu-1.json --seed 1 --methods lora ...
    cd benchmarks && python -m study --add results/study-cpu-1.json --lambdas 0.3 --sizes 8=2 ...
    cd benchmarks && python -m study --add results/study-cpu-1.json --draw-only --pictures 14 \
        --methods lora hadamard_null10 --cells 1@1 3@0.6 --sizes 3=4

Every method has the same base, images, tokens, steps, rank and order of images; what differs is
what trains beside the tokens (recipes.py, sides.py, blocks.py) and how residuals become one
(merging.py). Source: method.md 8; arXiv 2312.02432.
"""

import argparse
import datetime as dt
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from circumstances import commit, hardware

from .bench import SHARED_SEED, Conditions
from .earlier import SCHEMA, Earlier
from .figures import table
from .options import parsed
from .recipes import FACTORS, METHODS
from .trial import Trial, is_among, sets_of
from .trials import Workers


def main() -> None:
    options = parsed()
    conditions = Conditions(
        options.base,
        options.people,
        options.work,
        options.names,
        steps=options.steps,
        draws=options.draws,
        sampling=options.sampling,
    )
    with Workers(conditions, options.processes, pictures=options.pictures) as workers:
        for result in _results(workers, conditions, options):
            _keep(options.out, json.dumps(result, indent=1) + "\n")
    print(options.out)


def _results(
    workers: Workers, conditions: Conditions, options: argparse.Namespace
) -> Iterator[dict[str, object]]:
    """Give the whole result after each method: hours are a long time for nothing to go wrong."""
    base = workers.base_losses(conditions.names)
    steps = options.steps or "the trainer's"
    earlier = Earlier.read(options.add, base, steps=steps)
    threshold, error = workers.threshold()
    run = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": " ".join(["python -m study", *_told(sys.argv[1:])]),
        "commit": commit(),
        "hardware": hardware(),
        "seed": options.seed,
        **({"drew_only": options.cells} if options.draw_only else {}),
    }
    grows = _drawing if options.draw_only else _running
    for number, now in enumerate(grows(workers, earlier, options), 1):
        method = options.methods[number - 1]
        methods = table(base, now.outcomes, now.drawn)
        print(f"{method}: {json.dumps(methods[method])}", file=sys.stderr, flush=True)
        yield {
            "schema": SCHEMA,
            "runs": [*now.runs, {**run, "methods": options.methods[:number]}],
            "people": conditions.people,
            "concepts": list(conditions.names),
            "steps": steps,
            "identity": {"threshold": round(threshold, 4), "equal_error_rate": round(error, 4)},
            "tuning": now.tuning,
            "base": base,
            "methods": methods,
            "outcomes": [outcome.as_plain() for outcome in now.outcomes],
            "drawn": [each.as_plain() for each in now.drawn],
        }


def _running(workers: Workers, earlier: Earlier, options: argparse.Namespace) -> Iterator[Earlier]:
    """Train, merge and score one method after the other, and draw the cells that are asked for."""
    now = earlier
    tried = {**now.tuning}
    # What an earlier run chose for a recipe stands, under the same conditions.
    factors = {r: float(min(some, key=some.__getitem__)) for r, some in tried.items() if some}
    for method in options.methods:
        recipe = METHODS[method].recipe
        if recipe not in factors:
            factors[recipe], tried[recipe] = _tuned(workers, recipe, options)
        best = FACTORS.index(factors[recipe])
        trials = [*_trials(method, FACTORS[max(0, best - METHODS[method].below)], options)]
        outcomes = tuple(workers.outcomes(trials))
        wanted = [t for t in trials if options.pictures and t.cell in options.cells]
        drawn = tuple(workers.drawn(wanted))
        kept = now.rerun(outcomes)
        if gone := {o.trial for o in now.outcomes} - {o.trial for o in kept.outcomes} - {*trials}:
            why = f"{method}: {len(gone)} earlier trials are of other trainings, and are left out"
            print(why, file=sys.stderr, flush=True)
        now = kept.undrawn(wanted).grown(outcomes, drawn, tried)
        yield now


def _drawing(workers: Workers, earlier: Earlier, options: argparse.Namespace) -> Iterator[Earlier]:
    """Draw pictures of what stands in the result; nothing is scored."""
    by_method = {
        method: [
            trial
            for cell in options.cells
            for trial in earlier.trials(method, cell, options.seed)
            if is_among(trial, options.names, options.sizes, seed=SHARED_SEED)
        ]
        for method in options.methods
    }
    missing = workers.untrained(t for trials in by_method.values() for t in trials)
    if missing:
        print(
            f"{missing} trainings are not in {options.work}: they are done again, at the factors "
            "that the result tells",
            file=sys.stderr,
            flush=True,
        )
    now = earlier
    for trials in by_method.values():
        now = now.undrawn(trials).grown((), tuple(workers.drawn(trials)), now.tuning)
        yield now


def _keep(place: Path, text: str) -> None:
    """Write ``text`` whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_suffix(".part")
    part.write_text(text)
    part.replace(place)


def _tuned(
    workers: Workers, recipe: str, options: argparse.Namespace
) -> tuple[float, dict[str, float]]:
    """Return the best factor and the mean loss of each that was tried: a hill with neighbours."""
    some, best = options.names[: options.tune], options.start.get(recipe, 1.0)
    tried: dict[float, float] = {}
    asked = {best} if some else set()
    while asked:
        for factor in sorted(asked):
            trials = [Trial(recipe, factor, (name,), seed=options.seed) for name in some]
            found = [*workers.outcomes(trials)]
            tried[factor] = sum(o.losses[o.trial.names[0]] for o in found) / len(found)
        best = min(tried, key=tried.__getitem__)
        place = FACTORS.index(best)
        asked = {*FACTORS[max(0, place - 1) : place + 2]} - {*tried}
    return best, {f"{x:g}": round(tried[x], 6) for x in sorted(tried)}


def _trials(method: str, factor: float, options: argparse.Namespace) -> Iterator[Trial]:
    """Give every concept alone, then every set of every size: the same ones for all methods."""
    seed = options.seed
    yield from (Trial(method, factor, (name,), seed=seed) for name in options.names)
    for size, count in options.sizes.items():
        for chosen in sets_of(options.names, size, count, seed=SHARED_SEED):
            for lambda_ in options.lambdas:
                yield Trial(method, factor, chosen, lambda_, seed)


def _told(words: list[str]) -> list[str]:
    """Return the command's words without where this machine keeps its work."""
    after_work = [False, *(word == "--work" for word in words)]
    return ["FOLDER" if hidden else word for hidden, word in zip(after_work, words, strict=False)]


if __name__ == "__main__":
    main()
