"""What a merge keeps: trains concepts in this process, adds them, prints losses and retention.

    python benchmarks/retention.py --base FOLDER --concepts FOLDER --num 4 --threads 1
    python benchmarks/retention.py ... --set rate=1e-4,3e-4 --set null_weight=0,1,4

Claim: with disjoint slots, joint tokens and the null-response term the merged model keeps what each
concept learnt. `--set` gives a training setting one or several values; every combination is one run
and one JSON object a line on stdout. `--same-slot` is the control: every concept gets the same B
(method.md 8). No server, no files: base, training, quantising and scoring are the package's own.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from orthofed.client.base import Base, fingerprint_of
from orthofed.client.dataset import ConceptImages
from orthofed.client.grid import grid
from orthofed.client.packing import lora_bytes, packed, vectors_of
from orthofed.client.sample import compare
from orthofed.client.score import Scorer, phrase_of
from orthofed.client.training import train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.core.layout import ContributionLayout
from orthofed.core.metrics import retention
from orthofed.core.spec import BaseModel, Encoder, FederationSpec, plan_spec
from orthofed.core.targets import target_layers
from orthofed.core.token_layers import token_layers


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    base = Base.load(options.base)
    spec = _spec(base, options.rank, layerwise=options.layerwise_tokens)
    folders = sorted(p for p in options.concepts.iterdir() if p.is_dir())[: options.num]
    if options.only:
        folders = [options.concepts / name for name in options.only.split(",")]
    for changes in _sweep(options.set):
        settings = replace(TrainingSettings(threads=options.threads), **changes)
        result = _run(base, spec, folders, settings, options)
        print(json.dumps({"changes": changes, **result}), flush=True)


def _run(
    base: Base,
    spec: FederationSpec,
    folders: Sequence[Path],
    settings: TrainingSettings,
    options: argparse.Namespace,
) -> dict[str, object]:
    singles: dict[str, Variant] = {}
    images, phrases, facts = {}, {}, {}
    for number, folder in enumerate(folders):
        name, triggers = folder.name, [Trigger(f"{folder.name}-x{number}", options.vectors)]
        slot = 0 if options.same_slot else number
        images[name] = ConceptImages.load(folder, size=base.image_size, noun=options.noun)
        own = replace(settings, seed=settings.seed * 1000 + number)
        started_s = time.process_time()
        trained = train(base, spec, slot, triggers, options.noun, images[name], own)
        cpu_s = time.process_time() - started_s
        tensors = packed(trained, spec)
        singles[name] = Variant.of_contribution(spec, slot, triggers, tensors)
        phrases[name] = phrase_of(triggers)
        size = ContributionLayout(spec, vectors_of(triggers)).size
        last = trained.losses[-20:]
        facts[name] = {
            "train_s": round(trained.seconds, 1),
            "cpu_s": round(cpu_s, 1),
            "cpu_s_a_step": round(cpu_s / settings.steps, 4),
            "train_loss": round(sum(last) / len(last), 5),
            "rms_a": round(_rms(trained.a.values()), 6),
            "upload_share": round(size / lora_bytes(spec), 3),
        }
        print(f"{name}: {facts[name]}", file=sys.stderr, flush=True)
    table = _score(base, singles, images, phrases, options)
    if options.grid:
        _draw(base, singles, images, phrases, options)
    kept = {
        f"{x:g}": [row["retention"][f"{x:g}"] for row in table.values()] for x in options.lambdas
    }
    return {
        "mean_retention": {x: round(sum(v) / len(v), 3) for x, v in kept.items()},
        "worst_retention": {x: min(v) for x, v in kept.items()},
        "gain": round(sum(1 - r["single"] / r["base"] for r in table.values()) / len(table), 4),
        "concepts": {name: {**table[name], **facts[name]} for name in table},
    }


def _score(base, singles, images, phrases, options) -> dict[str, dict]:
    table = {}
    merged = {
        x: Variant.sum_of([replace(single, lambda_=x) for single in singles.values()])
        for x in options.lambdas
    }
    for name, single in singles.items():
        scorer = Scorer.on(base, images[name].held_out, num_draws=options.draws)
        losses = {
            "base": scorer.base_loss(options.noun),
            "single": scorer.loss(single, phrases[name]),
        }
        of_merged = {x: scorer.loss(merged[x], phrases[name]) for x in options.lambdas}
        table[name] = {
            **{key: round(value, 5) for key, value in losses.items()},
            "merged": {f"{x:g}": round(loss, 5) for x, loss in of_merged.items()},
            "retention": {
                f"{x:g}": round(retention(losses["base"], losses["single"], loss), 3)
                for x, loss in of_merged.items()
            },
        }
        print(f"{name}: {table[name]}", file=sys.stderr, flush=True)
    return table


def _draw(base, singles, images, phrases, options) -> None:
    """Write base, single and merged samples of every concept, three rows each."""
    merged = Variant.sum_of(list(singles.values()))
    rows = []
    for name, single in singles.items():
        own = [(item.image, "its own") for item in images[name].train[:6]]
        caption = images[name].held_out[0].caption
        prompts = [caption.replace("{}", text) for text in (options.noun, *[phrases[name]] * 2)]
        drawn = compare(base, [Variant(), single, merged], prompts, count=6, seed=1)
        labels = ("base", "single", "merged")
        rows += [own]
        rows += [
            [(image, f"{name} {label}") for image in row]
            for label, row in zip(labels, drawn, strict=True)
        ]
    grid(rows).save(options.grid)


def _spec(base: Base, rank: int, *, layerwise: bool) -> FederationSpec:
    layers = []
    for component in base.family.components:
        for path in sorted((base.folder / component).glob("*.safetensors")):
            with safe_open(path, "np") as file:
                names = list(file.keys())
                shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            layers += target_layers(component, shapes)
    return plan_spec(
        name="bench",
        base=BaseModel("other", "bench", "1", fingerprint_of(base.folder), "CC0-1.0"),
        layers=layers,
        encoders=[Encoder(name, tower.width) for name, tower in base.towers.items()],
        seed=bytes(range(32)),
        rank=rank,
        token_layers=token_layers(base.family.denoiser.state_dict()) if layerwise else (),
    )


def _sweep(given: Sequence[str]) -> list[dict[str, Any]]:
    kinds: dict[str, Any] = {
        key: type(value) for key, value in TrainingSettings().as_dict().items()
    }
    axes = []
    for text in given:
        key, _, values = text.partition("=")
        axes.append([(key, kinds[key](value)) for value in values.split(",")])
    return [dict(chosen) for chosen in itertools.product(*axes)]


def _rms(tensors) -> float:
    entries = np.concatenate([a.ravel() for a in tensors]).astype(np.float64)
    return float(np.sqrt(np.mean(entries**2)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="what a merge keeps")
    parser.add_argument("--base", type=Path, default=Path("assets/pocket-base"))
    parser.add_argument("--concepts", type=Path, default=Path("assets/pocket-concepts"))
    parser.add_argument("--num", type=int, default=4)
    parser.add_argument("--only", default="", help="names, comma separated")
    parser.add_argument("--noun", default="person")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--vectors", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--draws", type=int, default=256)
    parser.add_argument("--lambdas", type=float, nargs="+", default=[1.0, 0.6])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=V1,V2")
    parser.add_argument("--layerwise-tokens", action="store_true", help="vectors a token layer")
    parser.add_argument("--same-slot", action="store_true", help="the control: one B for all")
    parser.add_argument("--grid", type=Path, help="write samples of the last run here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
