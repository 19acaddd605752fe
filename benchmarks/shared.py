"""What several owners of one concept teach together, beside one who had all their pictures.

    python benchmarks/shared.py --json --work FOLDER              # half an hour or so on one core
    python benchmarks/shared.py --json --work FOLDER --rounds 1 --steps 2 --draws 16

The training pictures of one concept are dealt out among `--owners` in turn, or as `--counts` says
(`--counts 2,3,7`). In each round every owner
starts at the average of the round before (client/shared_start.py), trains `--steps` on its own
pictures, and its part is packed and averaged by their number (core/owners.py). Beside it, with the
same settings and as many steps a round: one training on the union, and each owner on its own, both
going on from their own last round. Losses are means over the same draws on held-out pictures.
"""

import argparse
import datetime as dt
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from circumstances import commit, hardware
from study.bench import Bench, Conditions

from orthofed.client.dataset import ConceptImages
from orthofed.client.earlier import Earlier
from orthofed.client.packing import packed
from orthofed.client.score import phrase_of
from orthofed.client.training import train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Residual, Variant
from orthofed.core.owners import WHOLE, average, owner_weights

ASSETS = Path(__file__).parent.parent / "assets"
SLOT = 0


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    conditions = Conditions(
        options.base, "peeps", options.work, (options.concept,), draws=options.draws
    )
    bench = Bench(conditions)
    images = bench.images[options.concept]
    hands = _hands(images, options)
    counts = [len(hand.train) for hand in hands]
    dealt = replace(images, train=images.train[: sum(counts)])
    trigger = Trigger(f"{options.concept}-x1")
    phrase = phrase_of([trigger])

    def loss(variant: Variant) -> float:
        return round(bench.loss(options.concept, variant, phrase), 6)

    def told(name: str, n: int, found: object) -> None:
        print(json.dumps({"round": n, name: found}), file=sys.stderr, flush=True)

    shared: Variant | None = None
    union: Variant | None = None
    alone: list[Variant | None] = [None] * len(hands)
    rounds = []
    for n in range(1, options.rounds + 1):
        seed = 1000 * n + 10_000 * options.seed
        parts = [_taught(bench, hand, shared, seed + k, options) for k, hand in enumerate(hands)]
        shared = _averaged(parts, counts)
        told("shared", n, loss(shared))
        union = _taught(bench, dealt, union, seed + 100, options)
        told("union", n, loss(union))
        # The first round of an owner alone is its part of the first shared round.
        alone = [
            parts[k] if n == 1 else _taught(bench, hand, alone[k], seed + k, options)
            for k, hand in enumerate(hands)
        ]
        row = {
            "shared": loss(shared),
            "union": loss(union),
            "alone": [loss(each) for each in alone if each is not None],
        }
        told("alone", n, row["alone"])
        rounds.append(row)
    result = {
        "schema": "orthofed.shared/1",
        "date": f"{dt.datetime.now(dt.UTC):%Y-%m-%d}",
        "command": _command(options),
        "commit": commit(),
        "hardware": hardware(),
        "concept": options.concept,
        "images": counts,
        "weights_1024": list(owner_weights(counts, WHOLE)),
        "steps": options.steps,
        "seed": options.seed,
        "draws": options.draws,
        "base": round(bench.loss(options.concept, Variant(), conditions.noun), 6),
        "rounds": rounds,
    }
    print(json.dumps(result, indent=1) if options.json else _text(result))


def _hands(images: ConceptImages, options: argparse.Namespace) -> list[ConceptImages]:
    """Return each owner's pictures; what `--counts` leaves over nobody has."""
    if not options.counts:
        owners = options.owners
        return [replace(images, train=images.train[k::owners]) for k in range(owners)]
    counts, total = options.counts, len(images.train)
    if min(counts) < 1 or sum(counts) > total:
        sys.exit(f"--counts deals out {sum(counts)} pictures, 1 at least each; there are {total}")
    starts = [sum(counts[:k]) for k in range(len(counts))]
    return [
        replace(images, train=images.train[start : start + count])
        for start, count in zip(starts, counts, strict=True)
    ]


def _taught(
    bench: Bench,
    images: ConceptImages,
    start: Variant | None,
    seed: int,
    options: argparse.Namespace,
) -> Variant:
    """Return what a training from ``start`` gives, as it would be sent."""
    settings = replace(TrainingSettings(threads=1, seed=seed), steps=options.steps)
    trigger, spec = Trigger(f"{options.concept}-x1"), bench.spec
    noun = bench.conditions.noun
    if start is None:
        trained = train(bench.base, spec, SLOT, [trigger], noun, images, settings)
    else:
        earlier = Earlier(start, 1.0)
        trained = train(
            bench.base,
            spec,
            SLOT,
            [trigger],
            noun,
            images,
            settings,
            residuals=earlier.adapter,
            vectors=earlier.vectors(bench.base),
        )
    return Variant.of_contribution(spec, SLOT, [trigger], packed(trained, spec))


def _averaged(parts: Sequence[Variant], counts: Sequence[int]) -> Variant:
    """Return the average of the parts, weighted as a release weighs them."""
    weights = owner_weights(counts, WHOLE)

    def mean(rows: list[np.ndarray]) -> np.ndarray:
        return average(rows, weights)

    residuals = {
        path: Residual(mean([part.residuals[path].up for part in parts]), first.down)
        for path, first in parts[0].residuals.items()
    }
    vectors: Mapping[str, Mapping[str, np.ndarray]] = {
        trigger: {name: mean([part.vectors[trigger][name] for part in parts]) for name in by_name}
        for trigger, by_name in parts[0].vectors.items()
    }
    return Variant(residuals, vectors, token_layers=parts[0].token_layers)


def _command(options: argparse.Namespace) -> str:
    """Return what to type to get the same rounds."""
    counts = ",".join(map(str, options.counts))
    dealt = f"--counts {counts}" if counts else f"--owners {options.owners}"
    return (
        f"python benchmarks/shared.py --json --work FOLDER --concept {options.concept}"
        f" {dealt} --rounds {options.rounds} --steps {options.steps}"
        f" --draws {options.draws} --seed {options.seed}"
    )


def _counts(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def _text(result: dict) -> str:
    lines = [f"base {result['base']:.5f}", "round  shared    union     each owner alone"]
    for n, row in enumerate(result["rounds"], start=1):
        alone = "  ".join(f"{each:.5f}" for each in row["alone"])
        lines.append(f"{n:<5}  {row['shared']:.5f}   {row['union']:.5f}   {alone}")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="one concept, several owners")
    parser.add_argument("--work", type=Path, required=True, help="folder of what is kept")
    parser.add_argument("--base", type=Path, default=ASSETS / "pocket-base")
    parser.add_argument("--concept", default="anna-k7")
    parser.add_argument("--owners", type=int, default=2)
    parser.add_argument("--counts", type=_counts, default=[], help="pictures of each: 2,3,7")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60, help="of each owner in a round")
    parser.add_argument("--draws", type=int, default=256)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
