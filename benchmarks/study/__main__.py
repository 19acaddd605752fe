"""The study: what a merge keeps of each concept, by many methods under equal conditions.

    cd benchmarks && python -m study --smoke         # minutes; two concepts, few steps
    cd benchmarks && python -m study --work FOLDER   # hours; what was done before is not done again
    cd benchmarks && python -m study --add results/study-cpu-1.json --methods lora haar_draw ...

Every method has the same base, images, tokens, steps, rank and order of images; what differs is
what trains beside the tokens (recipes.py, sides.py, blocks.py) and how residuals become one
(merging.py). Source: method.md 8; arXiv 2312.02432.
"""

import argparse
import datetime as dt
import itertools
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from circumstances import commit, hardware

from .bench import Conditions
from .earlier import SCHEMA, Earlier
from .figures import difference, identities, losses, retentions, table
from .pictures import Drawn
from .recipes import METHODS
from .sets import SETS
from .trial import Trial
from .trials import Outcome, Workers

ASSETS = Path(__file__).parent.parent.parent / "assets"
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
RIVALS = (
    *("equal", "half", "haar_draw", "haar", "gaussian", "epochs", "quiet", "complement", "lora"),
)
REFIT_RIVALS = ("hadamard_null", "equal_null_refit", "lora_null_refit", "lora_fusion", "lora_refit")
PAIRS = (
    *(("hadamard", rival) for rival in RIVALS),
    *(("hadamard_null", rival) for rival in ("equal_null", "lora_null", "hadamard")),
    *(("hadamard_null_refit", rival) for rival in REFIT_RIVALS),
)
"""Ours, and what it is compared with: the paper's setting, the product's, what a refit adds."""
SMOKE = ("tokens", "lora", "lora_fusion", "equal", "hadamard", "hadamard_refit")


def main() -> None:
    options = _options()
    conditions = Conditions(
        options.base,
        options.people,
        options.work,
        options.names,
        steps=options.steps,
        draws=options.draws,
        sampling=options.sampling,
        seed=options.seed,
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
    earlier = Earlier.read(options.add, base, steps=steps).without(options.methods)
    threshold, error = workers.threshold()
    outcomes, drawn = [*earlier.outcomes], [*earlier.drawn]
    tried = {**earlier.tuning}
    # What an earlier run chose for a recipe stands, under the same conditions.
    factors = {r: float(min(some, key=some.__getitem__)) for r, some in tried.items() if some}
    run = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": " ".join(["python -m study", *_told(sys.argv[1:])]),
        "commit": commit(),
        "hardware": hardware(),
    }
    for number, method in enumerate(options.methods, 1):
        recipe = METHODS[method].recipe
        if recipe not in factors:
            factors[recipe], tried[recipe] = _tuned(workers, recipe, options)
        trials = [*_trials(method, factors[recipe], options)]
        outcomes += workers.outcomes(trials)
        if options.pictures:
            drawn += workers.drawn(t for t in trials if _is_drawn(t, options))
        methods = table(base, outcomes, drawn)
        print(f"{method}: {json.dumps(methods[method])}", file=sys.stderr, flush=True)
        yield {
            "schema": SCHEMA,
            "runs": [*earlier.runs, {**run, "methods": options.methods[:number]}],
            "people": conditions.people,
            "concepts": list(conditions.names),
            "steps": steps,
            "identity": {"threshold": round(threshold, 4), "equal_error_rate": round(error, 4)},
            "tuning": tried,
            "base": base,
            "methods": methods,
            "differences": _differences(base, outcomes, drawn, options),
            "outcomes": [outcome.as_plain() for outcome in outcomes],
            "drawn": [each.as_plain() for each in drawn],
        }


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
    some, tried, best = options.names[: options.tune], {}, options.start.get(recipe, 1.0)
    asked = {best} if some else set()
    while asked:
        for factor in sorted(asked):
            found = [*workers.outcomes(Trial(recipe, factor, (name,)) for name in some)]
            tried[factor] = sum(o.losses[o.trial.names[0]] for o in found) / len(found)
        best = min(tried, key=tried.__getitem__)
        place = FACTORS.index(best)
        asked = {*FACTORS[max(0, place - 1) : place + 2]} - {*tried}
    return best, {f"{x:g}": round(tried[x], 6) for x in sorted(tried)}


def _trials(method: str, factor: float, options: argparse.Namespace) -> Iterator[Trial]:
    """Give every concept alone, then every set of every size: the same ones for all methods."""
    yield from (Trial(method, factor, (name,)) for name in options.names)
    for size, count in options.sizes.items():
        for chosen in _sets(options.names, size, count, options.seed):
            for lambda_ in options.lambdas:
                yield Trial(method, factor, chosen, lambda_)


def _is_drawn(trial: Trial, options: argparse.Namespace) -> bool:
    return len(trial.names) in {1, max(options.sizes)}


def _sets(names: tuple[str, ...], size: int, count: int, seed: int) -> list[tuple[str, ...]]:
    drawn, source = set(), random.Random(f"{seed}/{size}")  # noqa: S311  # the same sets for everybody
    while len(drawn) < (count if size < len(names) else 1):
        drawn.add(tuple(sorted(source.sample(names, size), key=names.index)))
    return sorted(drawn)


def _differences(
    base: dict[str, float],
    outcomes: list[Outcome],
    drawn: list[Drawn],
    options: argparse.Namespace,
) -> dict[str, object]:
    found: dict[str, object] = {}
    for ours, rival in PAIRS:
        for size, lambda_ in itertools.product((1, *options.sizes), options.lambdas):
            cell = f"{size}@{lambda_:g}"
            gaps = {
                "loss": difference(*(losses(outcomes, m, cell) for m in (ours, rival))),
                "retention": difference(
                    *(retentions(base, outcomes, m, cell) for m in (ours, rival))
                ),
                "identity": difference(*(identities(drawn, m, cell) for m in (ours, rival))),
            }
            if kept := {name: gap for name, gap in gaps.items() if gap}:
                found[f"{ours} - {rival} {cell}"] = kept
    return found


def _told(words: list[str]) -> list[str]:
    """Return the command's words without where this machine keeps its work."""
    after_work = [False, *(word == "--work" for word in words)]
    return ["FOLDER" if hidden else word for hidden, word in zip(after_work, words, strict=False)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m study", description="one study of many methods"
    )
    parser.add_argument("--smoke", action="store_true", help="2 concepts, 6 steps, 6 methods")
    parser.add_argument("--base", type=Path, default=ASSETS / "pocket-base")
    parser.add_argument("--people", choices=SETS, default="peeps", help="which twelve")
    parser.add_argument("--work", type=Path, default=Path("../build/study"), help="what is kept")
    parser.add_argument("--out", type=Path, default=Path("../build/study/study.json"))
    parser.add_argument("--add", type=Path, metavar="RESULT", help="an earlier run's, to add to")
    parser.add_argument("--num", type=int, default=12, help="concepts")
    parser.add_argument("--steps", type=int, default=0, help="0: the trainer's own")
    parser.add_argument("--draws", type=int, default=256)
    parser.add_argument("--tune", type=int, default=2, help="concepts to choose a rate on; 0: none")
    parser.add_argument(
        "--start", nargs="*", default=["lora=0.3"], metavar="RECIPE=FACTOR", help="first factors"
    )
    parser.add_argument("--sizes", nargs="+", default=["3=12", "6=4", "12=1"], metavar="N=SETS")
    parser.add_argument("--lambdas", type=float, nargs="+", default=[1.0, 0.6])
    parser.add_argument("--methods", nargs="+", choices=METHODS)
    parser.add_argument("--pictures", type=int, default=4, help="a prompt; 0: none are drawn")
    parser.add_argument("--sampling", type=int, default=25, help="steps of a picture")
    parser.add_argument("--processes", type=int, default=2, help="1: this one alone")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.smoke:
        options.num, options.steps, options.draws, options.tune = 2, 6, 16, 0
        options.pictures, options.sampling, options.lambdas = 1, 4, [1.0]
        options.sizes = ["2=1"]
    options.methods = options.methods or [*(SMOKE if options.smoke else METHODS)]
    people = SETS[options.people].folder
    folders = sorted(path.name for path in people.iterdir() if path.is_dir())
    options.names = tuple(folders[: options.num])
    options.start = {k: float(v) for k, _, v in (text.partition("=") for text in options.start)}
    sizes = dict(text.split("=") for text in options.sizes)
    options.sizes = {int(k): int(v) for k, v in sizes.items() if int(k) <= len(folders)}
    return options


if __name__ == "__main__":
    main()
