"""Makes identity.safetensors: `python -m study.build_identity --work DIR` in benchmarks/.

Draws PEOPLE invented people in LOOKS ways each (dicebear's Open Peeps and Adventurer, as the base's
own pictures were drawn), also as the base's autoencoder returns them, and trains embedder.py to
tell them apart under shifts, turns, blur and noise. No identity of a concept is among them. Needs
node, npm and resvg_py as assets/build_base.py does. Half an hour on a core, deterministic on one
machine.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from orthofed.assets import avatars, pictures
from orthofed.assets.concepts import BANNED
from orthofed.client.base import Base

from .embedder import WEIGHTS, WIDTH, Embedder

PEEPS, ADVENTURERS, LOOKS = 500, 150, 10
SHARPNESS, MARGIN = 16.0, 0.2
ASSETS = Path(__file__).parent.parent.parent / "assets"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("../build/identity"))
    parser.add_argument("--steps", type=int, default=4000)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    drawn = _drawn(options.work)
    model = _trained(drawn, options.steps)
    halves = {name: values.half().contiguous() for name, values in model.state_dict().items()}
    save_file(halves, WEIGHTS)


def _drawn(work: Path) -> Tensor:
    """Return (people, 2 x LOOKS, 3, 64, 64) uint8: drawn, then as the autoencoder returns them."""
    place = work / "people.npy"
    if not place.is_file():
        people = invented(work)
        svgs = pictures.avatar_svgs(work, [look for looks in people for look in looks])
        images = [Image.fromarray(pictures.rasterise(svg)) for svg in svgs]
        base = Base.load(ASSETS / "pocket-base")
        again = []
        for at in range(0, len(images), 64):
            with torch.no_grad():
                again += base.images(base.latents(images[at : at + 64]))
        both = np.stack([np.asarray(x) for x in (*images, *again)])
        shape = (len(people), LOOKS, 64, 64, 3)
        halves = [half.reshape(shape) for half in np.split(both, 2)]
        np.save(place, np.concatenate(halves, axis=1).transpose(0, 1, 4, 2, 3))
    return torch.from_numpy(np.load(place))


def invented(work: Path) -> list[list[avatars.Avatar]]:
    """Return LOOKS drawings of each person whom the embedder learns to tell apart."""
    rng, seen = np.random.default_rng(7), {*BANNED}
    hairs = pictures.adventurer_hairs(work)
    people = [_peep(rng, seen) for _ in range(PEEPS)]
    return people + [_adventurer(rng, seen, hairs) for _ in range(ADVENTURERS)]


def _peep(rng: np.random.Generator, seen: set[tuple[str, ...]]) -> list[avatars.Avatar]:
    """Return LOOKS drawings of one person whom nobody in ``seen`` looks like."""
    while True:
        head, skin = avatars.draw(rng, avatars.PEEPS_HEAD), avatars.draw(rng, avatars.PEEPS_SKIN)
        hair = avatars.draw(rng, avatars.PEEPS_HAIR)
        beard = avatars.draw(rng, avatars.PEEPS_BEARD) if rng.random() < 0.5 else ""
        who = avatars.peep_identity(head, skin, hair)
        if who not in BANNED and (*who, beard) not in seen:
            break
    seen.add((*who, beard))
    looks = []
    for _ in range(LOOKS):
        face, ground = avatars.draw(rng, avatars.PEEPS_FACE), avatars.draw(rng, avatars.BACKGROUNDS)
        clothes = avatars.draw(rng, avatars.PEEPS_CLOTHES)
        worn = avatars.draw(rng, avatars.PEEPS_ACCESSORY) if rng.random() < 0.35 else ""
        options = avatars.peep_options(head, skin, hair, face, clothes, ground, worn, beard)
        looks.append(avatars.Avatar("openPeeps", options | avatars.jitter(rng), ""))
    return looks


def _adventurer(
    rng: np.random.Generator, seen: set[tuple[str, ...]], hairs: list[str]
) -> list[avatars.Avatar]:
    fixed = ("hair", "hairColor", "skinColor")
    while True:
        person = avatars.adventurer(rng, hairs).options
        who = tuple(str(person[key]) for key in fixed)
        if who not in seen:
            break
    seen.add(who)
    kept = {key: person[key] for key in fixed}
    looks = [avatars.adventurer(rng, hairs).options | kept for _ in range(LOOKS)]
    return [avatars.Avatar("adventurer", options, "") for options in looks]


def _trained(drawn: Tensor, steps: int) -> Embedder:
    """Train with a margin on the right person's cosine (CosFace, arXiv 1801.09414)."""
    model, centres = Embedder(), nn.Parameter(torch.randn(len(drawn), WIDTH))
    parameters = [*model.parameters(), centres]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for step in range(steps):
        who = torch.randint(len(drawn), (64,))
        seen = _shaken(drawn[who, torch.randint(drawn.shape[1], (64,))].float() / 127.5 - 1)
        cosine = model(seen) @ functional.normalize(centres, dim=1).t()
        cosine = cosine - MARGIN * functional.one_hot(who, len(drawn))
        loss = functional.cross_entropy(SHARPNESS * cosine, who)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            print(step, round(loss.item(), 4), flush=True)
    return model.eval()


def _shaken(images: Tensor) -> Tensor:
    """Return the images moved, turned, scaled, blurred, noised and dimmed a little."""
    n = len(images)
    turn, size = (torch.rand(n) - 0.5) * math.pi / 9, 1 + (torch.rand(n) - 0.5) * 0.24
    place = torch.zeros(n, 2, 3)
    place[:, 0, 0], place[:, 0, 1] = turn.cos() / size, -turn.sin() / size
    place[:, 1, 0], place[:, 1, 1] = turn.sin() / size, turn.cos() / size
    place[:, :, 2] = (torch.rand(n, 2) - 0.5) * 0.25
    grid = functional.affine_grid(place, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    soft = functional.avg_pool2d(functional.pad(moved, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = torch.rand(n, 1, 1, 1)
    noisy = share * soft + (1 - share) * moved + 0.05 * torch.randn_like(moved)
    return noisy * (1 + (torch.rand(n, 1, 1, 1) - 0.5) * 0.2) + (torch.rand(n, 1, 1, 1) - 0.5) * 0.1


if __name__ == "__main__":
    main()
