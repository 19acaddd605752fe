"""Makes text.safetensors, the two heads of wording.py: `python -m study.build_text --work DIR`.

Draws captioned pictures of the kinds that the base was taught (assets/pictures.py), other draws
than the base's and nobody of a concept among them, every second one as the base's autoencoder
returns it. Both encoders stay as they are; two linear heads learn which caption goes with which
picture (InfoNCE, arXiv 1807.03748, both ways). Every tenth picture and emoji name is left out, and
told apart at the end. Needs node, npm and resvg_py as assets/build_base.py does. Half an hour on a
core, deterministic on one machine.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from orthofed.assets import avatars, emoji, pictures
from orthofed.assets.concepts import BANNED
from orthofed.client.base import Base

from .build_adventurers import PEOPLE, who
from .features import WIDTH as SEEN
from .features import Features
from .sentences import WIDTH as SAID
from .sentences import Sentences
from .wording import WEIGHTS, WIDTH

COUNTS = {"openPeeps": 2500, "adventurer": 1500, "toonHead": 300, "bigSmile": 300}
SAYINGS = 4
"""Captions of each picture: the whole, and some that leave out parts of it."""
BATCH, STEPS, WARMTH = 512, 3000, 0.07
ASSETS = Path(__file__).parent.parent.parent / "assets"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("../build/text"))
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if not (work / "encoded.npz").is_file():
        images, texts, left_out = _drawn(work)
        seen = Features().of(images)
        said = Sentences().of([text for some in texts for text in some])
        said = said.reshape(len(texts), SAYINGS, SAID)
        np.savez(work / "encoded.npz", seen=seen, said=said, left_out=left_out)
        (work / "texts.json").write_text(json.dumps(texts))
    with np.load(work / "encoded.npz") as held:
        seen, said, left_out = held["seen"], held["said"], held["left_out"]
    heads = _trained(torch.from_numpy(seen[~left_out]), torch.from_numpy(said[~left_out]))
    texts = json.loads((work / "texts.json").read_text())
    print(_retrieval(heads, seen, said, left_out, texts))
    save_file({name: head.half().contiguous() for name, head in heads.items()}, WEIGHTS)


def _drawn(work: Path) -> tuple[list[Image.Image], list[list[str]], np.ndarray]:
    """Return pictures, SAYINGS captions of each, and which are left out of the training."""
    rng = np.random.default_rng(11)
    hairs = pictures.adventurer_hairs(work)
    people = [avatars.peep(rng, BANNED) for _ in range(COUNTS["openPeeps"])]
    while len(people) < COUNTS["openPeeps"] + COUNTS["adventurer"]:
        person = avatars.adventurer(rng, hairs)
        if who(person) not in PEOPLE.values():
            people.append(person)
    people += [avatars.toon(rng) for _ in range(COUNTS["toonHead"])]
    people += [avatars.big_smile(rng) for _ in range(COUNTS["bigSmile"])]
    svgs = pictures.avatar_svgs(work, people)
    captions = [person.caption for person in people]
    left_out = [number % 10 == 0 for number in range(len(people))]
    order: list[str] = [*emoji.NAMES]
    for name in emoji.SETS:
        for key, icon in pictures.icons(work, name).items():
            svg, text = emoji.picture(rng, key, icon)
            svgs.append(svg)
            captions.append(text)
            left_out.append(order.index(key) % 10 == 0)
    images = [Image.fromarray(pictures.rasterise(svg)) for svg in svgs]
    base = Base.load(ASSETS / "pocket-base")
    for at in range(0, len(images), 128):
        some = slice(at, at + 128, 2)
        with torch.no_grad():
            images[some] = base.images(base.latents(images[some]))
    return images, [_said(rng, caption) for caption in captions], np.array(left_out)


def _said(rng: np.random.Generator, caption: str) -> list[str]:
    """Return the caption and SAYINGS - 1 shorter ones: a prompt seldom says everything."""
    opening, *parts = caption.split(", ")
    shorter = []
    for _ in range(SAYINGS - 1):
        kept = [part for part in parts if rng.random() < 0.5]
        shorter.append(", ".join([opening, *kept]))
    return [caption, *shorter]


def _trained(seen: Tensor, said: Tensor) -> dict[str, Tensor]:
    """Return both heads, "picture" (WIDTH, SEEN) and "text" (WIDTH, SAID)."""
    heads = {
        "picture": nn.Linear(SEEN, WIDTH, bias=False),
        "text": nn.Linear(SAID, WIDTH, bias=False),
    }
    parameters = [head.weight for head in heads.values()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=STEPS)
    for step in range(STEPS):
        chosen = torch.randint(len(seen), (BATCH,))
        words = said[chosen, torch.randint(SAYINGS, (BATCH,))]
        one = functional.normalize(heads["picture"](seen[chosen]), dim=1)
        two = functional.normalize(heads["text"](words), dim=1)
        cosines = one @ two.T / WARMTH
        # A caption that says the same of several pictures is right for each of them.
        same = (words @ words.T > 1 - 1e-4).float()
        wanted = same / same.sum(1, keepdim=True)
        loss = functional.cross_entropy(cosines, wanted) + functional.cross_entropy(
            cosines.T, wanted
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 200 == 0:
            print(step, round(loss.item(), 4), file=sys.stderr, flush=True)
    return {name: head.weight.detach() for name, head in heads.items()}


def _retrieval(
    heads: dict[str, Tensor],
    seen: np.ndarray,
    said: np.ndarray,
    left_out: np.ndarray,
    texts: list[list[str]],
) -> str:
    """Return how often the whole caption of a picture left out is the nearest of all of these."""
    first: dict[str, int] = {}
    for number in np.flatnonzero(left_out):
        first.setdefault(texts[number][0], int(number))
    places = [*first.values()]
    one = functional.normalize(torch.from_numpy(seen[places]) @ heads["picture"].T, dim=1)
    two = functional.normalize(torch.from_numpy(said[places, 0]) @ heads["text"].T, dim=1)
    ranks = ((one @ two.T) > (one * two).sum(1, keepdim=True)).sum(1).numpy()
    found = [
        f"in the first {k}: {(ranks < k).mean():.3f} (chance {k / len(ranks):.3f})" for k in (1, 5)
    ]
    return f"{len(ranks)} captions; the right one {', '.join(found)}"


if __name__ == "__main__":
    main()
