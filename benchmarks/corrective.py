"""What a corrective round gives the concept that suffers most in a merge, and what it costs others.

    python benchmarks/corrective.py --json --work FOLDER               # an hour or so on one core
    python benchmarks/corrective.py --json --work FOLDER --sets 0,1,2 --seeds 0 --steps 2 --draws 16

For each set of concepts: merge them at `--lambda`, take the one that keeps least of its gain, train
its A and vectors further with the others folded into the base (client/others.py, earlier.py), and
merge again. Losses are means over the same draws on held-out images; retention is by the loss of
the contribution alone, before by that of the old one, after by that of the new one. Every seed is a
round of its own from the same start. First trainings are those of the study (study/bench.py, method
`hadamard_null`, the trainer's defaults) and are kept in `--work`; rounds are not.
"""

import argparse
import datetime as dt
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from circumstances import commit, hardware
from study.bench import Bench, Conditions

from orthofed.client.earlier import Earlier
from orthofed.client.others import Others
from orthofed.client.packing import packed
from orthofed.client.training import train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.core.metrics import retention

ASSETS = Path(__file__).parent.parent / "assets"
NAMES = ("anna-k7", "bodo-x4", "cleo-m6", "dara-v3", "emil-t7", "fern-q4")
METHOD = "hadamard_null"


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one concept: the base's, the contribution's alone, the merge's."""

    base: float
    single: float
    merged: float

    def told(self) -> dict[str, float]:
        kept = retention(self.base, self.single, self.merged)
        return {
            "single": round(self.single, 6),
            "merged": round(self.merged, 6),
            "retention": round(kept, 3),
        }


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    conditions = Conditions(options.base, "peeps", options.work, NAMES, draws=options.draws)
    bench = Bench(conditions)
    rounds = []
    for text in options.sets:
        numbers = tuple(int(number) for number in text.split(","))
        rounds += _set(bench, numbers, options)
    result = {
        "schema": "orthofed.corrective/1",
        "date": f"{dt.datetime.now(dt.UTC):%Y-%m-%d}",
        "command": _command(options),
        "commit": commit(),
        "hardware": hardware(),
        "lambda": options.lambda_,
        "steps": options.steps,
        "draws": options.draws,
        "rounds": rounds,
    }
    print(json.dumps(result, indent=1) if options.json else _text(result))


def _set(
    bench: Bench, numbers: Sequence[int], options: argparse.Namespace
) -> list[dict[str, object]]:
    """Return the rounds of one set of concepts, one a seed."""
    names = [NAMES[number] for number in numbers]
    singles = {name: bench.learnt(METHOD, name, 1.0, 0) for name in names}
    variants = {name: learnt.variant for name, learnt in singles.items()}
    phrases = {name: learnt.phrase for name, learnt in singles.items()}
    noun = bench.conditions.noun
    bases = {name: bench.loss(name, Variant(), noun) for name in names}
    alone = {name: bench.loss(name, variants[name], phrases[name]) for name in names}

    def merged(parts: dict[str, Variant]) -> dict[str, float]:
        whole = Variant.sum_of([replace(v, lambda_=options.lambda_) for v in parts.values()])
        return {name: bench.loss(name, whole, phrases[name]) for name in names}

    start = merged(variants)
    before = {name: Losses(bases[name], alone[name], start[name]) for name in names}
    worst = min(names, key=lambda name: before[name].told()["retention"])
    found = []
    for seed in options.seeds:
        new, seconds = _corrected(bench, worst, variants, seed, options)
        end = merged({**variants, worst: new})
        single = bench.loss(worst, new, phrases[worst])
        after = {name: Losses(bases[name], alone[name], end[name]) for name in names}
        after[worst] = Losses(bases[worst], single, end[worst])
        rows = {
            name: {"before": before[name].told(), "after": after[name].told()} for name in names
        }
        others = [
            after[name].told()["retention"] - before[name].told()["retention"]
            for name in names
            if name != worst
        ]
        told = {
            "set": names,
            "corrected": worst,
            "seed": seed,
            "train_s": round(seconds, 1),
            "base": {name: round(bases[name], 6) for name in names},
            "concepts": rows,
            "others_retention_change": round(sum(others) / len(others), 3),
        }
        print(json.dumps({"corrected": worst, "seed": seed, **rows[worst]}), file=sys.stderr)
        found.append(told)
    return found


def _corrected(
    bench: Bench,
    name: str,
    variants: dict[str, Variant],
    seed: int,
    options: argparse.Namespace,
) -> tuple[Variant, float]:
    """Return the concept after one round, as it would be sent, and the seconds of its training."""
    lambda_, slot = options.lambda_, NAMES.index(name)
    parts = [replace(v, lambda_=lambda_) for other, v in variants.items() if other != name]
    others = Others(Variant.sum_of(parts))
    earlier = Earlier(variants[name], lambda_)
    settings = replace(TrainingSettings(threads=1, seed=900 + seed), steps=options.steps)
    trigger = Trigger(f"{name}-x1")
    with others.folded(bench.base):
        trained = train(
            bench.base,
            others.spec_for(bench.spec, earlier.variant),
            slot,
            [trigger],
            bench.conditions.noun,
            bench.images[name],
            settings,
            residuals=earlier.adapter,
            vectors=earlier.vectors(bench.base),
        )
    tensors = packed(trained, bench.spec)
    new = Variant.of_contribution(bench.spec, slot, [trigger], tensors)
    return new, trained.seconds


def _command(options: argparse.Namespace) -> str:
    """Return what to type to get the same rounds."""
    sets, seeds = " ".join(options.sets), " ".join(map(str, options.seeds))
    return (
        f"python benchmarks/corrective.py --json --work FOLDER --sets {sets} --seeds {seeds}"
        f" --steps {options.steps} --draws {options.draws} --lambda {options.lambda_:g}"
    )


def _text(result: dict) -> str:
    lines = ["concept   of  seed  merged loss            retention       others' retention"]
    for each in result["rounds"]:
        before, after = (each["concepts"][each["corrected"]][x] for x in ("before", "after"))
        lines.append(
            f"{each['corrected']:<9} {len(each['set'])}   {each['seed']}     "
            f"{before['merged']:.5f} -> {after['merged']:.5f}   "
            f"{before['retention']:+.2f} -> {after['retention']:+.2f}   "
            f"{each['others_retention_change']:+.3f}"
        )
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="what a corrective round gives, and costs")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder of trainings that are kept"
    )
    parser.add_argument("--base", type=Path, default=ASSETS / "pocket-base")
    parser.add_argument("--sets", nargs="+", default=["0,1,2", "3,4,5", "0,1,2,3,4,5"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=200, help="of a round")
    parser.add_argument("--draws", type=int, default=256)
    parser.add_argument("--lambda", dest="lambda_", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
