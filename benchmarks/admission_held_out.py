"""Train the held-out contributions: other concepts, other settings than thresholds were chosen on.

    python benchmarks/admission_held_out.py --minutes 60 --turn 0/2    # of admission_drawings.py

Law: what is trained here is looked at once, by `admission.py --held-out`; a threshold that is
changed after that needs drawings of another seed. Each federation has its own basis and twelve
concepts. Owners change what an owner may: steps, rates, batch, schedule, average; a quarter of
those of federation 1 keep the trainer's defaults, the others train a quarter as long. Federations
go one after the other, so a run that ends early leaves whole ones; a blob that is there is kept.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from admission_set import ASSETS, blob_of, spec_of

from orthofed.client.base import Base
from orthofed.client.training_settings import TrainingSettings

DEFAULTS = TrainingSettings(threads=1)
SMALL = replace(DEFAULTS, batch=4, null_batch=4)
OWNERS = (
    ("defaults", DEFAULTS),
    ("200 steps", replace(DEFAULTS, steps=200)),
    ("batch 4, rate 1.5 times", replace(SMALL, rate=1.5e-3)),
    ("batch 4, 200 steps", replace(SMALL, steps=200)),
    ("200 steps, rate doubled", replace(DEFAULTS, steps=200, rate=2e-3)),
    ("token_rate a third", replace(DEFAULTS, token_rate=1e-2)),
    ("defaults", DEFAULTS),
    ("batch 4, rate halved", replace(SMALL, rate=5e-4)),
    (
        "batch 4, min_snr_gamma 5, constant",
        replace(SMALL, min_snr_gamma=5.0, schedule="constant"),
    ),
    ("defaults", DEFAULTS),
    ("200 steps, ema_decay .98, jitters", replace(DEFAULTS, steps=200, ema_decay=0.98, jitters=4)),
    ("batch 4, 300 steps, image_rate doubled", replace(SMALL, steps=300, image_rate=6e-4)),
)
"""What an owner of federation 1 changed, and the settings; the seed is each contribution's own."""
SHORT = replace(SMALL, steps=200)
QUICK = (
    ("batch 4, 200 steps", SHORT),
    ("batch 4, 200 steps, rate doubled", replace(SHORT, rate=2e-3)),
    ("batch 4, 150 steps", replace(SHORT, steps=150)),
    ("batch 4, 200 steps, token_rate a third", replace(SHORT, token_rate=1e-2)),
    ("batch 4, 200 steps, rate halved", replace(SHORT, rate=5e-4)),
    ("batch 4, 300 steps", replace(SMALL, steps=300)),
    (
        "batch 4, 200 steps, constant, min_snr_gamma 5",
        replace(SHORT, schedule="constant", min_snr_gamma=5.0),
    ),
    ("batch 4, 200 steps, rate 1.5 times", replace(SHORT, rate=1.5e-3)),
    ("batch 4, 200 steps, ema_decay .98", replace(SHORT, ema_decay=0.98)),
    ("batch 4, 200 steps, image_rate doubled", replace(SHORT, image_rate=6e-4)),
    ("batch 2, 300 steps", replace(SMALL, steps=300, batch=2, null_batch=2)),
)
"""Owners of the other federations: a quarter of the defaults' work each, so that there are more."""


def owner_of(number: int, slot: int) -> tuple[str, TrainingSettings]:
    """Return how the contribution of a slot is trained; the drawings' styles meet all of them."""
    owners = OWNERS if number == 1 else QUICK
    says, settings = owners[(slot + 5 * number) % len(owners)]
    return says, replace(settings, seed=9_000 + 100 * number + slot)


def main() -> None:
    parser = argparse.ArgumentParser(description="train the contributions of the held-out set")
    parser.add_argument("--base", type=Path, default=ASSETS / "pocket-base")
    parser.add_argument("--drawings", type=Path, default=Path("build/held-out/drawings"))
    parser.add_argument("--work", type=Path, default=Path("build/held-out/blobs"))
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin none after these")
    parser.add_argument("--turn", default="0/1", help="of every N, the Kth: K/N")
    options = parser.parse_args()
    turn, turns = map(int, options.turn.split("/"))
    until_s = time.monotonic() + 60 * options.minutes
    torch.set_num_threads(1)
    base = Base.load(options.base)
    for folder in sorted(options.drawings.iterdir()):
        number = int(folder.name)
        spec = spec_of(base.folder, 100 + number, options.rank)
        for concept in json.loads((folder / "concepts.json").read_text()):
            slot = concept["slot"]
            if slot % turns != turn or time.monotonic() > until_s:
                continue
            says, settings = owner_of(number, slot)
            images = folder / f"{slot:02d}-{concept['name']}"
            work = options.work / str(number)
            blob_of(
                base, spec, images, slot, settings, work, name=concept["name"], noun=concept["noun"]
            )
            print(f"federation {number} slot {slot}: {says}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
