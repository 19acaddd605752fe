# pyright: basic
# torch publishes partial types.
"""Does the memorisation score tell trainings that learnt their images by heart from others.

    python benchmarks/memorisation.py --json                                    # hours on one core
    python benchmarks/memorisation.py --json --num 2 --seeds 1 --steps 4 --draws 16       # seconds

Aim (T21, security.md 2): 100 % of the runs that were overfitted on purpose are flagged, 5 % of the
regularised ones at most. Results: benchmarks/results/memorisation-cpu-1.json, docs/privacy.md.

    regularised   the trainer's defaults: 12 images, null-response term, 400 steps
    overfitted    four of them, no null-response term, 400 passes over each

Each run is a concept and a seed, trained on the shipped base and quantised as it would be sent; the
score is client/memorisation.py's with the draws of a training of its length. The threshold was set
between the two arms when 14 runs were done (``SEEN``); those that came later had no part in it and
are counted apart. What was trained is kept in `--work` and not trained again; `--kept` scores what
is there and trains nothing.
"""

import argparse
import datetime as dt
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from circumstances import commit, hardware

from orthofed.client.base import Base, fingerprint_of
from orthofed.client.base_folder import BaseFolder
from orthofed.client.dataset import ConceptImages
from orthofed.client.memorisation import memorisation, planned_draws
from orthofed.client.packing import packed, vectors_of
from orthofed.client.score import Scorer, phrase_of
from orthofed.client.training import train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.core.layout import ContributionLayout, pack, unpack
from orthofed.core.memorisation import BY_HEART
from orthofed.core.spec import BaseModel, FederationSpec, plan_spec

ASSETS = Path(__file__).parent.parent / "assets"
NOUN = "person"
FEW = 4
ARMS = ("regularised", "overfitted")
SEEN = {
    "regularised": ("anna-k7", "ivor-w7", "juno-z4", "kiki-n6", "lars-h3"),
    "overfitted": (
        *("anna-k7", "bodo-x4", "cleo-m6", "dara-v3", "emil-t7"),
        *("fern-q4", "gino-r3", "hana-p6", "ivor-w7"),
    ),
}
"""Runs of seed 0 whose scores were known when the threshold was set."""


class Bench:
    """Base, spec, concepts and what was trained before."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.base = Base.load(options.base)
        self.spec = _spec(options.base, options.rank)
        folders = sorted(path for path in options.concepts.iterdir() if path.is_dir())
        self.folders = folders[: options.num]

    def row(self, folder: Path, arm: str, seed: int) -> dict[str, Any] | None:
        """Return what one run's score is and costs; None where it was not trained."""
        images = ConceptImages.load(folder, size=self.base.image_size, noun=NOUN)
        if arm == "overfitted":
            images = ConceptImages(images.train[:FEW], images.held_out)
        triggers, settings = [Trigger(f"{folder.name}-x1")], self.settings(arm, seed)
        layout = ContributionLayout(self.spec, vectors_of(triggers))
        place = self._place(folder.name, images, settings)
        if not place.is_file():
            if self.options.kept:
                return None
            begun_s = time.process_time()
            made = train(self.base, self.spec, 0, triggers, NOUN, images, settings)
            cpu_s = time.process_time() - begun_s
            place.parent.mkdir(parents=True, exist_ok=True)
            place.with_suffix(".json").write_text(json.dumps({"cpu_s": cpu_s}))
            place.write_bytes(pack(layout, packed(made, self.spec)))
            print(f"{arm} {folder.name} seed {seed}: {cpu_s:.0f} s", file=sys.stderr, flush=True)
        tensors = unpack(layout, place.read_bytes())
        variant = Variant.of_contribution(self.spec, 0, triggers, tensors)
        phrase = phrase_of(triggers)
        scorer = Scorer.on(self.base, images.held_out, num_draws=self.options.draws)
        held_out = scorer.base_loss(NOUN), scorer.loss(variant, phrase)
        begun_s = time.process_time()
        found = memorisation(
            self.base,
            images.train,
            variant,
            phrase=phrase,
            noun=NOUN,
            held_out=held_out,
            num_draws=min(self.options.draws, planned_draws(settings)),
        )
        return {
            "concept": folder.name,
            "arm": arm,
            "seed": seed,
            "gain_trained": round(found.gain_trained, 4),
            "gain_held_out": round(found.gain_held_out, 4),
            "score": round(found.score, 4),
            "training_s": round(json.loads(place.with_suffix(".json").read_text())["cpu_s"], 1),
            "scoring_s": round(time.process_time() - begun_s, 1),
        }

    def settings(self, arm: str, seed: int) -> TrainingSettings:
        settings = TrainingSettings(threads=1, seed=seed)
        if arm == "overfitted":
            settings = replace(settings, null_weight=0.0, batch=FEW, steps=400)
        return replace(settings, steps=self.options.steps) if self.options.steps else settings

    def _place(self, name: str, images: ConceptImages, settings: TrainingSettings) -> Path:
        """Return the file of one training: everything that decides it is in its name."""
        decisive = {k: v for k, v in settings.as_dict().items() if not k.startswith("dp_")}
        text = json.dumps([self.spec.id, images.digest, decisive], sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:24]
        return self.options.work / f"{name}-{key}.safetensors"


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


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    bench = Bench(options)
    runs = [
        (folder, arm, seed)
        for seed in range(options.seeds)
        for folder in bench.folders
        for arm in ARMS
    ]
    rows = [row for run in runs if (row := bench.row(*run)) is not None]
    results = {
        "threshold": BY_HEART,
        "all": _counted(rows),
        "not_seen_when_the_threshold_was_set": _counted([r for r in rows if not _seen(r)]),
        "scoring_share": round(
            max((r["scoring_s"] / r["training_s"] for r in rows), default=0.0), 4
        ),
        "rows": rows,
    }
    print(json.dumps({**_circumstances(), "results": results}, indent=2 if options.json else None))


def _seen(row: dict[str, Any]) -> bool:
    """Return whether the threshold was set with this run's score at hand."""
    return row["seed"] == 0 and row["concept"] in SEEN[row["arm"]]


def _counted(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return runs, flagged ones, and the least and greatest score of each arm."""
    found = {}
    for arm in ARMS:
        scores = [row["score"] for row in rows if row["arm"] == arm]
        found[arm] = {
            "runs": len(scores),
            "flagged": sum(score > BY_HEART for score in scores),
            "least": min(scores, default=None),
            "greatest": max(scores, default=None),
        }
    return found


def _circumstances() -> dict[str, Any]:
    return {
        "schema": "orthofed.memorisation/1",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/memorisation.py", *sys.argv[1:]]),
        "commit": commit(),
        "hardware": hardware(),
        "threads": 1,
        "versions": {name: version(name) for name in ("diffusers", "numpy", "torch")},
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="what a score says of trainings by heart")
    parser.add_argument("--base", type=Path, default=ASSETS / "pocket-base")
    parser.add_argument("--concepts", type=Path, default=ASSETS / "pocket-concepts")
    parser.add_argument("--work", type=Path, default=Path("build/memorisation"))
    parser.add_argument("--num", type=int, default=12, help="concepts")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--steps", type=int, help="default: each arm's own")
    parser.add_argument("--draws", type=int, default=256)
    parser.add_argument("--kept", action="store_true", help="train nothing")
    parser.add_argument("--json", action="store_true", help="indented, for a results file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
