"""Build pocket-base from the registries: data, tokenizer, autoencoder, networks, folder, card.

`python assets/build_base.py --work DIR` does everything in under three hours on two cores, less
on a GPU. A stage whose result lies in DIR is not done again, and the networks go on from
DIR/denoiser.pt, so the same command with a larger `--minutes` continues: the learning rate
follows the clock up to that total. `--export` writes the folder from the newest averaged weights
while training runs elsewhere.
"""

import argparse
import json
import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "assets"

import torch

from . import autoencoder, card, denoiser, export, pictures, pocket_base, vocabulary
from .concepts import BANNED


def main() -> None:
    """Read the command line and run the stages that are not done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / ".build")
    parser.add_argument("--minutes", type=float, default=100, help="in all, for the networks")
    parser.add_argument("--vae-minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--export", action="store_true", help="write the folder, train nothing")
    chosen = parser.parse_args()
    work, seed = chosen.work, chosen.seed
    work.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pictures.build(work, BANNED, seed=seed)
    if not (work / "tokenizer/vocab.json").exists():
        captions = json.loads((work / "pictures.json").read_text())["captions"]
        vocabulary.train(captions, work / "tokenizer")
    vae = autoencoder.train(work, minutes=chosen.vae_minutes, seed=seed, device=device)
    latents, factor = autoencoder.encode(work, vae, device=device)
    if not chosen.export:
        denoiser.train(work, latents, minutes=chosen.minutes, seed=seed, device=device)
    export.write(work, pocket_base(), vae.cpu(), factor)
    export.grid(pocket_base(), pocket_base() / "samples.png")
    card.write(work, pocket_base())


if __name__ == "__main__":
    main()
