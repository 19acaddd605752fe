# pyright: basic, reportPrivateImportUsage=false
# peft publishes partial types.
"""What a frozen B costs one concept alone: its loss beside an ordinary LoRA's.

    python benchmarks/single_concept.py --json                      # 12 concepts, hours on one core
    python benchmarks/single_concept.py --json --num 1 --tune 1 --steps 2 --draws 16     # seconds

Aim: on every concept the held-out loss is at most 3 % above that of an ordinary LoRA (PEFT's, both
sides trained) of the same rank, steps, tokens, images and draws, whose learning rate was tuned.
Contestants:

    orthofed        the trainer's defaults, null-response term included
    lora            PEFT LoRA without that term, as other trainers run it; rate tuned
    lora_null       PEFT LoRA with the term; rate tuned
    orthofed_plain  frozen B without the term; rate tuned

A rate is tuned on the first `--tune` concepts: the factor (on both rates of the matrices) whose
mean held-out loss is below that of its neighbours, about three times smaller and larger; this
favours the tuned ones. Every contestant has the trainer's own tokens, optimiser, schedule and order
of images; each loss is the mean over the same draws (client/score.py). What was trained is kept in
`--work` and not trained again.
"""

import argparse
import contextlib
import datetime as dt
import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from orthofed.client.adapter import Adapter
from orthofed.client.base import Base, fingerprint_of
from orthofed.client.dataset import ConceptImages
from orthofed.client.score import Scorer, phrase_of
from orthofed.client.training import train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Residual, Variant
from orthofed.coordinator.base import BaseFolder
from orthofed.core.basis import block
from orthofed.core.spec import BaseModel, FederationSpec, plan_spec

ASSETS = Path(__file__).parent.parent / "assets"
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
NOUN = "person"


@dataclass(frozen=True, slots=True)
class Method:
    """One way to train. ``tuned``: the factor on the rates is chosen on some of the concepts."""

    lora: bool
    null: bool
    tuned: bool


METHODS = {
    "orthofed": Method(lora=False, null=True, tuned=False),
    "lora": Method(lora=True, null=False, tuned=True),
    "lora_null": Method(lora=True, null=True, tuned=True),
    "orthofed_plain": Method(lora=False, null=False, tuned=True),
}


class OrdinaryLora:
    """PEFT's LoRA in every layer of a spec, alpha = r: `Residuals` whose both sides train."""

    def __init__(self, base: Base, spec: FederationSpec, seed: int) -> None:
        """Put the layers in; ``base`` is this contestant's own and stays changed."""
        self._layers: dict[str, Any] = {}  # PEFT's own layers
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # PEFT draws its start from the global generator
            for component, network in base.family.components.items():
                inside = [x for x in spec.layers if x.path.startswith(f"{component}.")]
                if not inside:
                    continue
                names = {id(module): name for name, module in network.named_modules()}
                chosen = {x.path: names[id(base.layer(x.path))] for x in inside}
                rank = max(spec.layer_rank(x) for x in inside)
                config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(chosen.values()))
                inject_adapter_in_model(config, network)
                self._layers |= {path: network.get_submodule(n) for path, n in chosen.items()}

    def trainable(self) -> dict[str, tuple[nn.Parameter, ...]]:
        return {path: self._sides(path) for path in self._layers}

    @contextlib.contextmanager
    def attached(self) -> Generator[None]:
        yield

    def state(self) -> dict[str, np.ndarray]:
        return {path: self._sides(path)[0].detach().numpy().copy() for path in self._layers}

    def residuals(self) -> dict[str, Residual]:
        """Return both sides of every layer as the scorer takes them."""
        pairs = {path: self._sides(path) for path in self._layers}
        return {
            path: Residual(up.detach().numpy().copy(), down.detach().numpy().copy())
            for path, (up, down) in pairs.items()
        }

    def _sides(self, path: str) -> tuple[nn.Parameter, nn.Parameter]:
        """Return (up, down): in PEFT's names lora_B and lora_A."""
        layer = self._layers[path]
        return layer.lora_B["default"].weight, layer.lora_A["default"].weight


class Bench:
    """Base, spec, concepts and what was trained before."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.base = Base.load(options.base)
        self.spec = _spec(options.base, options.rank)
        folders = sorted(path for path in options.concepts.iterdir() if path.is_dir())
        self.names = [folder.name for folder in folders[: options.num]]
        self.images = {
            name: ConceptImages.load(options.concepts / name, size=self.base.image_size, noun=NOUN)
            for name in self.names
        }
        self.scorers = {
            name: Scorer.on(self.base, images.held_out, num_draws=options.draws)
            for name, images in self.images.items()
        }

    def loss(self, name: str, key: str, factor: float) -> float:
        """Return the held-out loss of one concept, trained by one method at one factor."""
        settings = self._settings(METHODS[key], factor, self.names.index(name))
        place = self._place(name, METHODS[key].lora, settings)
        if place.is_file():
            return json.loads(place.read_text())["loss"]
        variant, trigger = self._trained(name, METHODS[key], settings)
        loss = self.scorers[name].loss(variant, phrase_of([trigger]))
        print(f"{key} {name} x{factor:g}: {loss:.5f}", file=sys.stderr, flush=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps({"method": key, "factor": factor, "loss": loss}))
        return loss

    def tuned(self, key: str) -> tuple[float, dict[str, float]]:
        """Return the best factor and the mean loss of each that was tried."""
        if not METHODS[key].tuned:
            return 1.0, {}
        some, tried, asked = self.names[: self.options.tune], {}, {1.0}
        while asked:
            tried |= {x: float(np.mean([self.loss(n, key, x) for n in some])) for x in asked}
            best = FACTORS.index(min(tried, key=tried.__getitem__))
            asked = {*FACTORS[max(0, best - 1) : best + 2]} - {*tried}
        return FACTORS[best], {f"{x:g}": tried[x] for x in sorted(tried)}

    def _trained(
        self, name: str, method: Method, settings: TrainingSettings
    ) -> tuple[Variant, Trigger]:
        trigger, slot = Trigger(f"{name}-x1"), self.names.index(name)
        base = Base.load(self.options.base) if method.lora else self.base
        made: list[OrdinaryLora] = []

        def residuals(base: Base, spec: FederationSpec, slot: int) -> OrdinaryLora | Adapter:
            if not method.lora:
                return Adapter(base, spec, slot)
            made.append(OrdinaryLora(base, spec, settings.seed))
            return made[-1]

        images = self.images[name]
        trained = train(
            base, self.spec, slot, [trigger], NOUN, images, settings, residuals=residuals
        )
        parts = made[0].residuals() if made else self._frozen(trained.a, slot)
        vectors = {encoder: rows for (encoder, _), rows in trained.embeddings.items()}
        return Variant(parts, {trigger.name: vectors}), trigger

    def _frozen(self, a: dict[str, np.ndarray], slot: int) -> dict[str, Residual]:
        """Return A and B of every layer; unquantised, as the LoRA is."""
        found = {}
        for layer in self.spec.layers:
            rank = self.spec.layer_rank(layer)
            place = {"seed": self.spec.seed, "layer": layer.path, "width": layer.width}
            b = block(self.spec.basis, rank=rank, slot=slot, **place)
            found[layer.path] = Residual(a[layer.path], np.ascontiguousarray(b.T))
        return found

    def _settings(self, method: Method, factor: float, number: int) -> TrainingSettings:
        own = TrainingSettings(threads=self.options.threads, seed=self.options.seed * 1000 + number)
        if self.options.steps:
            own = replace(own, steps=self.options.steps)
        rates = {"rate": own.rate * factor, "image_rate": own.image_rate * factor}
        return replace(own, **rates, null_weight=own.null_weight if method.null else 0.0)

    def _place(self, name: str, lora: bool, settings: TrainingSettings) -> Path:
        """Return the file of one training's loss: everything that decides it is in its name."""
        parts = [self.spec.id, self.images[name].digest, lora, settings.as_dict()]
        text = json.dumps([*parts, self.options.draws], sort_keys=True)
        return self.options.work / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    bench = Bench(options)
    factors, tried = {}, {}
    for key in options.methods:
        factors[key], tried[key] = bench.tuned(key)
    concepts = {name: _row(bench, name, factors) for name in bench.names}
    result = {
        "schema": "orthofed.single-concept/1",
        **_circumstances(options),
        "factors": factors,
        "tuning": tried,
        "concepts": concepts,
        "ratios": _ratios(concepts, options.methods),
    }
    print(json.dumps(result, indent=2) if options.json else json.dumps(result["ratios"]))


def _row(bench: Bench, name: str, factors: dict[str, float]) -> dict[str, float]:
    losses = {key: bench.loss(name, key, factor) for key, factor in factors.items()}
    return {"base": bench.scorers[name].base_loss(NOUN), **losses}


def _ratios(concepts: dict[str, dict[str, float]], methods: Sequence[str]) -> dict[str, object]:
    """Return orthofed's loss over each other's: the worst concept, the mean, who is within 3 %."""
    found: dict[str, object] = {}
    for key in methods:
        if key == "orthofed":
            continue
        ratios = [row["orthofed"] / row[key] for row in concepts.values()]
        found[f"orthofed_to_{key}"] = {
            "worst": round(max(ratios), 4),
            "mean": round(float(np.mean(ratios)), 4),
            "within_3_percent": sum(ratio <= 1.03 for ratio in ratios),
            "concepts": len(ratios),
        }
    return found


def _spec(folder: Path, rank: int) -> FederationSpec:
    base = BaseFolder(folder)
    return plan_spec(
        name="bench",
        base=BaseModel("other", "bench", "1", fingerprint_of(folder), "CC0-1.0"),
        layers=base.layers(),
        encoders=base.encoders(),
        seed=bytes(range(32)),
        rank=rank,
    )


def _circumstances(options: argparse.Namespace) -> dict[str, object]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/single_concept.py", *sys.argv[1:]]),
        "commit": commit.stdout.strip(),
        "hardware": platform.processor() or platform.machine(),
        "threads": options.threads,
        "versions": {name: version(name) for name in ("torch", "diffusers", "peft")},
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="the loss of one concept beside LoRA's")
    parser.add_argument("--json", action="store_true", help="the whole result")
    parser.add_argument("--base", type=Path, default=ASSETS / "pocket-base")
    parser.add_argument("--concepts", type=Path, default=ASSETS / "pocket-concepts")
    parser.add_argument("--work", type=Path, default=Path("build/single-concept"))
    parser.add_argument("--num", type=int, default=12, help="concepts")
    parser.add_argument("--tune", type=int, default=3, help="concepts to choose a rate on")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--steps", type=int, help="default: the trainer's")
    parser.add_argument("--draws", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*METHODS])
    return parser.parse_args()


if __name__ == "__main__":
    main()
