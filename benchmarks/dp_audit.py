# pyright: basic
# torch publishes partial types.
"""Does `--dp` do what it claims: an audit of the very step that trains, with 1,000 canaries.

    python benchmarks/dp_audit.py --json
    python benchmarks/dp_audit.py --json --mode mean                 # --dp-mode mean, one release

Aim (T22, security.md 2): in 20 of 20 seeds the lower bound on epsilon, at 95 %, is at most the
claimed one; and with the noise off, the control that must fail, it is above in 18 of 20 or more.
Results: benchmarks/results/dp-audit-cpu-1.json, dp-mean-audit-cpu-1.json, docs/log.md.

Each canary is a record of its own: whenever it is drawn its gradient is one unit vector in the
space of all that leaves, a direction no other canary has. That is the loudest that an image could
be. It takes part in a seed's training or not, by a coin; the auditor sees every noisy gradient,
which is more than what is sent, sums each canary's direction over the steps, and guesses the
highest sums took part and the lowest did not (one_run_audit.py). Beside the canaries real images
train the shipped base with client/noisy_gradient.py, image_records.py and per_image.py as they are.

With `--mode mean` (client/dp_mean.py) a canary's move is such a vector, twice as long as allowed,
beside the moves of the real images; there is one release, of eight token vectors and nothing else.

Claimed is epsilon 3: a perfect auditor of 1,000 canaries refutes 5.8 at most, 4.9 with the 400
guesses made here, so a claim of 8 cannot be tested.
The noise is the system's, so no two runs give the same figures. Cost: seconds a seed.
"""

import argparse
import datetime as dt
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from circumstances import commit, hardware
from one_run_audit import lower_bound, right_guesses
from safetensors import safe_open
from torch import Tensor

from orthofed.client.adapter import Adapter
from orthofed.client.attachment import Attachment
from orthofed.client.base import Base, fingerprint_of
from orthofed.client.caches import Caches
from orthofed.client.dataset import ConceptImages
from orthofed.client.dp_draws import DpDraws
from orthofed.client.dp_mean import DpMean
from orthofed.client.dp_plan import planned
from orthofed.client.image_records import ImageRecords
from orthofed.client.material import Material
from orthofed.client.noisy_gradient import Records, noisy_gradient
from orthofed.client.passes import Passes
from orthofed.client.per_image import parameters
from orthofed.client.tokens import LearnedTokens
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.core.dp_claim import DpClaim
from orthofed.core.spec import BaseModel, Encoder, FederationSpec, plan_spec
from orthofed.core.targets import target_layers

ASSETS = Path(__file__).parent.parent / "assets"
NOUN, TRIGGERS = "person", [Trigger("anna-k7")]
CANARIES, GUESSES, EPSILON = 1_000, 400, 3.0
MOVES = 4  # steps of each real image in a mean; none of them decides what an auditor sees


class NoNoise(DpDraws):
    """The control: everything but the noise."""

    def normal(self, count: int) -> np.ndarray:
        return np.zeros(count)


@dataclass
class Audited:
    """Real records, and behind them the canaries that take part, each with its direction."""

    real: Records
    directions: np.ndarray
    like: Sequence[Tensor]
    length: float = 1.0

    @property
    def count(self) -> int:
        return self.real.count + len(self.directions)

    def gradients(self, chosen: Sequence[int]) -> Iterator[list[Tensor]]:
        images = [record for record in chosen if record < self.real.count]
        if images:
            yield from self.real.gradients(images)
        canaries = [r - self.real.count for r in chosen if r >= self.real.count]
        rows = torch.zeros(len(canaries), sum(one.numel() for one in self.like))
        rows[range(len(canaries)), self.directions[canaries]] = self.length
        parts = rows.split([one.numel() for one in self.like], 1)
        yield [part.view(-1, *one.shape) for part, one in zip(parts, self.like, strict=True)]


@dataclass
class Bench:
    """The shipped base, a federation of rank 1 on it, and a few real images."""

    base: Base
    spec: FederationSpec
    images: ConceptImages
    settings: TrainingSettings

    @staticmethod
    def of(images: int, steps: int, mode: Literal["sgd", "mean"]) -> "Bench":
        folder = ASSETS / "pocket-base"
        base = Base.load(folder)
        layers, encoders = [], []
        for component in ("unet", "text_encoder"):
            for file in (folder / component).glob("*.safetensors"):
                with safe_open(file, "np") as weights:
                    shapes = {n: tuple(weights.get_slice(n).get_shape()) for n in weights.keys()}  # noqa: SIM118  # no dict
                layers += target_layers(component, shapes, "unet")
                tables = [s for n, s in shapes.items() if n.endswith("token_embedding.weight")]
                encoders += [Encoder(component, table[1]) for table in tables]
        spec = plan_spec(
            name="audit",
            base=BaseModel("other", "pocket", "1", fingerprint_of(folder), "CC0-1.0"),
            layers=layers,
            encoders=encoders,
            seed=bytes(32),
            rank=1,
        )
        found = ConceptImages.load(
            ASSETS / "pocket-concepts" / "anna-k7", size=base.image_size, noun=NOUN, apart=True
        )
        some = ConceptImages(found.train[:images], found.held_out)
        settings = TrainingSettings(dp_epsilon=EPSILON, steps=steps, dp_batch=64, null_weight=0.0)
        settings = replace(settings, dp_mode=mode)
        return Bench(base, spec, some, settings)

    def run_mean(self, seed: int, claim: DpClaim, draws: DpDraws) -> float:
        """Release one mean and return the lower bound on epsilon."""
        adapter = Adapter(self.base, self.spec, 0)
        triggers = [Trigger("anna-k7", 8)]  # so that every canary has a direction of its own
        tokens = LearnedTokens.from_noun(self.base, triggers, NOUN, seed=seed)
        told = (self.images, NOUN, self.settings, Caches.in_memory())
        passes = Passes(
            self.base, self.settings, Material.made(self.base, self.spec, tokens, *told)
        )
        attachment = Attachment(tokens.attached, adapter.attached)
        real = ImageRecords(passes, adapter, tokens, self.images.train, draws)
        mean = DpMean(real, claim, attachment)
        with attachment:
            for number in range(MOVES):
                mean.step(number)
        like = list(tokens.vectors.values())
        random = np.random.default_rng(seed)
        every = random.permutation(sum(one.numel() for one in like))[:CANARIES]
        took_part = random.random(CANARIES) < 0.5
        length = 2 * claim.clip_milli / 1e3
        records = Audited(mean.moves, every[took_part], like, length)
        with torch.no_grad():
            found = noisy_gradient(records, claim, draws, like)
        seen = torch.cat([part.flatten() for part in found]).numpy()[every]
        right = right_guesses(seen, took_part, GUESSES)
        return lower_bound(CANARIES, GUESSES, right, delta=claim.delta_e12 / 1e12)

    def run(self, seed: int, claim: DpClaim, draws: DpDraws) -> float:
        """Train once and return the lower bound on epsilon."""
        adapter = Adapter(self.base, self.spec, 0)
        tokens = LearnedTokens.from_noun(self.base, TRIGGERS, NOUN, seed=seed)
        like = parameters(adapter, tokens)
        told = (self.images, NOUN, self.settings, Caches.in_memory())
        passes = Passes(
            self.base, self.settings, Material.made(self.base, self.spec, tokens, *told)
        )
        real = ImageRecords(passes, adapter, tokens, self.images.train, draws)
        random = np.random.default_rng(seed)
        every = random.permutation(sum(one.numel() for one in like))[:CANARIES]
        took_part = random.random(CANARIES) < 0.5
        records = Audited(real, every[took_part], like)
        optimiser = torch.optim.AdamW(like, lr=self.settings.rate)
        seen = np.zeros(CANARIES)
        for _ in range(claim.steps):
            found = noisy_gradient(records, claim, draws, like)
            seen += torch.cat([part.flatten() for part in found]).numpy()[every]
            for parameter, gradient in zip(like, found, strict=True):
                parameter.grad = gradient
            optimiser.step()
        right = right_guesses(seen, took_part, GUESSES)
        return lower_bound(CANARIES, GUESSES, right, delta=claim.delta_e12 / 1e12)


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    bench = Bench.of(options.images, options.steps, options.mode)
    claim = planned(bench.settings, CANARIES // 2 + options.images)
    run = bench.run_mean if options.mode == "mean" else bench.run
    noisy = [run(seed, claim, DpDraws()) for seed in range(options.seeds)]
    control = [run(seed, claim, NoNoise()) for seed in range(options.seeds)]
    results = {
        "claim": claim.body(),
        "canaries": CANARIES,
        "guesses": GUESSES,
        "confidence": 0.95,
        "images": options.images,
        "seeds": options.seeds,
        "lower_bounds": [round(bound, 3) for bound in noisy],
        "at_most_the_claim": sum(bound <= EPSILON for bound in noisy),
        "lower_bounds_without_noise": [round(bound, 3) for bound in control],
        "above_the_claim_without_noise": sum(bound > EPSILON for bound in control),
    }
    print(json.dumps({**_circumstances(), "results": results}, indent=2 if options.json else None))


def _circumstances() -> dict[str, Any]:
    return {
        "schema": "orthofed.dp-audit/1",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/dp_audit.py", *sys.argv[1:]]),
        "commit": commit(),
        "hardware": hardware(),
        "threads": 1,
        "versions": {name: version(name) for name in ("dp-accounting", "numpy", "torch")},
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="an audit of differential privacy in one run")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--images", type=int, default=12, help="real ones beside the canaries")
    parser.add_argument("--mode", choices=("sgd", "mean"), default="sgd")
    parser.add_argument("--json", action="store_true", help="indented, for a results file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
