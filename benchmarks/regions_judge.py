# pyright: basic
# torch publishes partial types.
"""Who is in a picture: a small network, taught on real pictures of everybody, that may say nobody.

Classes are the federation's concepts and ``other``. Taught on the concepts' own training images;
as ``other`` on the images of people who are in no federation, on what the base draws when it is
asked for anybody, those who share most with a concept first, and on blends: two people side by
side, one above the other, or one over the other. So that "drawn" does not mean "other", every real
image is also shown as the base's autoencoder gives it back, and as the base finishes it from noise,
told how the person looks and no name. Never taught on: the held-out images, two of the people
outside, and pictures drawn with a concept's trigger, which are what is judged.

The threshold is where both errors are equal on pictures set aside for it: held-out images and
pictures of one concept that are not found, and pictures of nobody that are taken for somebody. The
latter are hard: half of the base's share two of head, skin and hair colour with a concept.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from orthofed.assets.avatars import PEEPS_BEARD, PEEPS_HAIR, PEEPS_HEAD, PEEPS_SKIN, peep
from orthofed.assets.concepts import BANNED
from orthofed.client.base import Base
from orthofed.client.tokens import LearnedTokens

HELD_OUT = 4  # the last images of each folder
STRENGTHS = (0.25, 0.4, 0.55)  # of noise that the base takes away again
STEPS = 600
BATCH = 48
DRAWN_STEPS = 15
CHUNK = 16
BLENDS = 5  # of each held-out image


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of the judge, as shares: none of these pictures was it taught on."""

    threshold: float
    error: float  # both errors there, the greater one
    held_out_accuracy: float  # held-out images of concepts that are given their name
    base_pictures_other: float  # pictures that the base draws of anybody
    people_outside_other: float  # held-out images of people whom it was shown as `other`
    strangers_other: float  # images of people whom it never saw
    blends_other: float  # held-out images of two concepts, blended


@dataclass(frozen=True, slots=True)
class Judge:
    """The network, the names of its classes but the last, and how sure it must be."""

    names: tuple[str, ...]
    network: nn.Module
    threshold: float

    def people(self, images: Sequence[Image.Image]) -> list[str | None]:
        """Return whom each of ``images`` shows: a concept's name, or None."""
        return _named(self.names, _probabilities(self.network, _pixels(images)), self.threshold)


def make_judge(
    base: Base,
    concepts: Path,
    names: Sequence[str],
    *,
    alone: Mapping[str, Sequence[Image.Image]],
    drawn: int,
) -> tuple[Judge, Report]:
    """Return a judge of ``names``, taught on ``drawn`` pictures of the base among others.

    ``alone``: pictures of one concept each, to set the threshold with.
    """
    outside = [p.name for p in sorted(concepts.iterdir()) if p.is_dir() and p.name not in names]
    strangers, others = outside[-2:], outside[:-2]
    real = {name: _read(concepts / name) for name in (*names, *outside)}
    other = len(names)
    pool, labels = [], []
    for name in (*names, *others):
        seen = real[name][:-HELD_OUT]
        shown = torch.cat([_pixels(seen), *_redrawn(base, concepts / name, seen)])
        pool.append(shown)
        labels += [names.index(name) if name in names else other] * len(shown)
    anybody = _pixels(_anybody(base, 2 * drawn))
    pool.append(anybody[:drawn])
    labels += [other] * drawn
    network = _taught(torch.cat(pool), torch.tensor(labels), len(names) + 1)

    held = {name: _pixels(images[-HELD_OUT:]) for name, images in real.items()}
    never = torch.cat([_pixels(real[name]) for name in strangers])
    those = torch.cat([held[name] for name in names] * BLENDS)
    whose = torch.arange(len(names)).repeat_interleave(HELD_OUT).repeat(BLENDS)
    mixed = _blended(those, whose, other, np.random.default_rng(3))
    half = drawn // 2  # one half of what it never saw sets the threshold, the other is reported
    aside = torch.cat([anybody[drawn : drawn + half], never[::2], mixed[::2]])
    told = [
        _probabilities(network, pixels)
        for name in names
        for pixels in (held[name][::2], _pixels(alone[name]))
    ]
    right = [name for name in range(other) for _ in "ab"]
    somebody = np.concatenate(
        [np.where(p.argmax(1) == k, p[:, k], 0) for p, k in zip(told, right, strict=True)]
    )
    nobody = _probabilities(network, aside)[:, :other].max(1)
    threshold, error = _threshold(somebody, nobody)
    judge = Judge(tuple(names), network, threshold)

    def share(pixels: Tensor, name: str | None) -> float:
        found = _named(judge.names, _probabilities(network, pixels), threshold)
        return round(sum(one == name for one in found) / len(found), 4)

    report = Report(
        round(threshold, 4),
        round(error, 4),
        round(float(np.mean([share(held[name][1::2], name) for name in names])), 4),
        share(anybody[drawn + half :], None),
        round(float(np.mean([share(held[name], None) for name in others])), 4),
        share(never[1::2], None),
        share(mixed[1::2], None),
    )
    return judge, report


def _read(folder: Path) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.png"))]


def _pixels(images: Sequence[Image.Image]) -> Tensor:
    """Return (n, 3, 64, 64), -1 to 1."""
    side = [image.convert("RGB").resize((64, 64), Image.Resampling.BICUBIC) for image in images]
    data = np.stack([np.asarray(image) for image in side])
    return torch.from_numpy(data).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def _redrawn(base: Base, folder: Path, images: Sequence[Image.Image]) -> list[Tensor]:
    """Return ``images`` as the autoencoder gives them back, and finished from each strength."""
    texts = [path.read_text("utf-8").strip() for path in sorted(folder.glob("*.txt"))]
    looks = _looks(folder)
    prompts = [f"{text.replace('{}', 'person')}, {looks}" for text in texts[: len(images)]]
    condition = LearnedTokens.of(base, {}).encode(prompts)
    latents = base.latents(images)
    found, random = [_pixels(base.images(latents))], torch.Generator().manual_seed(4)
    for strength in STRENGTHS:
        sampler = base.pipeline().scheduler
        sampler.set_timesteps(20)
        levels = [t for t in sampler.timesteps if int(t) <= strength * base.num_timesteps]
        noise = torch.randn(latents.shape, generator=random)
        noisy = base.add_noise(latents, noise, levels[0].expand(len(latents)))
        for level in levels:
            told = base.predict(noisy, level.expand(len(latents)), condition)
            noisy = sampler.step(told, level, noisy).prev_sample
        found.append(_pixels(base.images(noisy)))
    return found


def _looks(folder: Path) -> str:
    """Return in words that the base knows what one person's pictures have in common."""
    every = json.loads((folder.parent / "concepts.json").read_bytes())
    one = next(one for one in every if one["name"] == folder.name)
    colour = PEEPS_HAIR[one["hair"]]
    hair = PEEPS_HEAD[one["head"]][0].format(c=colour, s="white")
    beard = [PEEPS_BEARD[one["beard"]].format(c=colour)] if one["beard"] else []
    return ", ".join([hair, f"{PEEPS_SKIN[one['skin']]} skin", *beard])


@torch.no_grad()
def _anybody(base: Base, count: int) -> list[Image.Image]:
    """Return what the base draws of people who are no concept, half of them nearly one."""
    rng, near, far = np.random.default_rng(5), list[str](), list[str]()
    while len(near) < count // 2 or len(far) < count - count // 2:
        person = peep(rng, BANNED)
        alike = max(sum(map(str.__eq__, person.identity or (), one)) for one in BANNED)
        (near if alike == 2 else far).append(person.caption)  # two of head, skin, hair colour
    turns = zip(near, far, strict=False)
    captions = [text for pair in turns for text in pair][:count]
    tokens, pipeline, images = LearnedTokens.of(base, {}), base.pipeline(), list[Image.Image]()
    for start in range(0, count, CHUNK):
        some = captions[start : start + CHUNK]
        images += pipeline(
            **base.family.guided(tokens.encode(some), tokens.encode([""] * len(some))),
            num_inference_steps=DRAWN_STEPS,
            guidance_scale=4.0,
            generator=[torch.Generator().manual_seed(10_000 + start + k) for k in range(len(some))],
        ).images
    return images


def _taught(pool: Tensor, labels: Tensor, classes: int) -> nn.Module:
    """Return a network taught on augmented pictures of ``pool`` and on blends of them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = _network(classes)
    rng, random = np.random.default_rng(0), torch.Generator().manual_seed(0)
    by_class = [np.flatnonzero(labels.numpy() == k) for k in range(classes)]
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=STEPS)
    shares = np.array([1.0] * (classes - 1) + [2.0])  # `other` is the widest
    for _ in range(STEPS):
        drawn = rng.choice(classes, BATCH, p=shares / shares.sum())
        index = np.array([rng.choice(by_class[k]) for k in drawn])
        told, wanted = _beside(pool[index], pool, rng), labels[index].clone()
        mixed = BATCH // 6
        some = np.concatenate([index, index[::-1]])[:: len(index) // mixed][: 2 * mixed]
        told[:mixed] = _blended(pool[some], labels[some], classes - 1, rng)[:mixed]
        wanted[:mixed] = classes - 1
        loss = functional.cross_entropy(
            network(_augmented(told, random)), wanted, label_smoothing=0.02
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def _network(classes: int) -> nn.Module:
    layers, channels = list[nn.Module](), (3, 24, 48, 96, 128)
    for number, (given, made) in enumerate(pairwise(channels)):
        stride = 2 if number < 3 else 1
        layers += [nn.Conv2d(given, made, 3, stride, 1), nn.GroupNorm(8, made), nn.SiLU()]
    pooled = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(512, classes)]
    return nn.Sequential(*layers, *pooled)


def _augmented(x: Tensor, random: torch.Generator) -> Tensor:
    """Return ``x`` moved, turned, scaled, recoloured, blurred, and with noise."""

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(len(x), *shape, generator=random)

    scale, angle = draw(0.75, 1.3), draw(-0.2, 0.2)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    place = torch.cat([turn / scale[:, None, None], draw(-0.3, 0.3, 2, 1)], dim=2)
    grid = functional.affine_grid(place, list(x.shape), align_corners=False)
    x = functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    grey = x.mean(1, keepdim=True)
    x = (grey + draw(0.7, 1.3, 1, 1, 1) * (x - grey)) * draw(0.8, 1.2, 3, 1, 1)
    x = x + draw(-0.15, 0.15, 3, 1, 1)
    small = functional.interpolate(x, scale_factor=0.5, mode="area")
    blurred = functional.interpolate(small, scale_factor=2, mode="bilinear")
    x = torch.lerp(x, blurred, draw(0, 1, 1, 1, 1))
    return x + draw(0, 0.1, 1, 1, 1) * torch.randn(x.shape, generator=random)


def _beside(x: Tensor, pool: Tensor, rng: np.random.Generator) -> Tensor:
    """Return ``x``; in a third of them a neighbour's strip at one side, up to a fifth wide."""
    x = x.clone()
    for row in np.flatnonzero(rng.random(len(x)) < 1 / 3):
        other, width = pool[rng.integers(len(pool))], int(rng.integers(3, 14))
        if rng.random() < 0.5:
            x[row, :, :, :width] = other[:, :, -width:]
        else:
            x[row, :, :, -width:] = other[:, :, :width]
    return x


def _blended(x: Tensor, labels: Tensor, nobody: int, rng: np.random.Generator) -> Tensor:
    """Return pictures of ``x`` blended with another person's: beside, below, or one over the other.

    One label is one person, but for ``nobody``, which is many.
    """
    who, found = labels.numpy(), []
    for _ in range(len(x)):
        while True:
            k, j = (int(rng.integers(len(x))) for _ in "ab")
            if who[k] != who[j] or who[k] == nobody:
                break
        one, other, cut = x[k].clone(), x[j], int(rng.integers(26, 39))
        match int(rng.integers(3)):
            case 0:
                one[:, :, cut:] = other[:, :, : 64 - cut]
            case 1:
                one[:, cut:] = other[:, cut:]
            case _:
                one = torch.lerp(one, other, float(rng.uniform(0.4, 0.6)))
        found.append(one)
    return torch.stack(found)


@torch.no_grad()
def _probabilities(network: nn.Module, pixels: Tensor) -> np.ndarray:
    parts = [network(part).softmax(1) for part in pixels.split(256)]
    return torch.cat(parts).numpy()


def _named(names: Sequence[str], told: np.ndarray, threshold: float) -> list[str | None]:
    best = told.argmax(1)
    known = [*names, None]
    return [
        known[int(k)] if row[k] >= threshold else None for k, row in zip(best, told, strict=True)
    ]


def _threshold(somebody: np.ndarray, nobody: np.ndarray) -> tuple[float, float]:
    """Return the least threshold whose greater error is least, and that error.

    ``somebody``: the probability of the right name, or 0 where another is likelier; ``nobody``: of
    the likeliest name.
    """
    tried = np.linspace(0.5, 0.99, 50)
    errors = [max((somebody < at).mean(), (nobody >= at).mean()) for at in tried]
    best = int(np.argmin(errors))
    return float(tried[best]), float(errors[best])
