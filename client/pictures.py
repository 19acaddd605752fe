"""The demo's pictures: base, single and merged from the same noise, and crosstalk in the answers.

A concept alone is its own columns of the pulled release's stacked LoRA with its own vectors; merged
is the whole file with all vectors (variant.py). Everything here is made from the release that a
consumer pulled and from the demo's own images. Crosstalk in function space (method.md 6.1):

    crosstalk[i][j] = rms(answer with i and j - answer with i) / rms(answer with i - base's answer)

over noisy images of concept i and its prompt. Disjoint slots make it 0 in the weights, not in the
answers. Cost: 5 N images and N (N + 1) forward passes of a batch.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..core.spec import FederationSpec
from .base import Base
from .captions import PLACE
from .dataset import ConceptImages
from .draws import Draws
from .report import ConceptPictures, PairPictures, ReportPictures
from .sample import compare
from .score import phrase_of
from .trigger import Trigger
from .variant import Residual, Variant

_DRAWS = 48
_SEED = 7


@dataclass(frozen=True, slots=True)
class Shown:
    """What is drawn of one concept: its name, its images, its model and its phrase in prompts."""

    name: str
    images: ConceptImages
    variant: Variant
    phrase: str


def draw_report(
    base: Base,
    spec: FederationSpec,
    release: Path,
    folders: Sequence[tuple[str, Path]],
    *,
    noun: str,
    lambda_: float,
    count: int = 6,
) -> ReportPictures:
    """Return all pictures of the report.

    ``folders`` are concept names with their folders of images, ``count`` the samples in a row,
    ``lambda_`` the strength of the merged model; single concepts are shown at 1.
    """
    merged = Variant.of_release(release, spec, lambda_=lambda_)
    shown = [
        Shown(name, ConceptImages.load(folder, size=base.image_size, noun=noun), alone, phrase)
        for (name, folder), (alone, phrase) in zip(
            folders, _alone(release, spec, [name for name, _ in folders]), strict=True
        )
    ]
    template = shown[0].images.train[0].caption.split(",")[0]
    concepts = {
        one.name: _rows(base, one, merged, template=template, noun=noun, count=count)
        for one in shown
    }
    return ReportPictures(
        prompt=template,
        concepts=concepts,
        pair=_pair(base, shown, merged, template, count),
        crosstalk=_crosstalk(base, shown, noun),
    )


def _alone(release: Path, spec: FederationSpec, names: Sequence[str]) -> list[tuple[Variant, str]]:
    """Return each named concept's own part of the release, and its phrase."""
    whole = Variant.of_release(release, spec)
    concepts = json.loads((release / "info.json").read_bytes())["concepts"]
    places = {concept["concept"]: place for place, concept in enumerate(concepts)}
    parts = []
    for name in names:
        place = places[name]
        triggers = [Trigger(t["trigger"], t["vectors"]) for t in concepts[place]["triggers"]]
        vectors = {trigger.name: whole.vectors[trigger.name] for trigger in triggers}
        residuals = {}
        for layer in spec.layers:
            rank = spec.layer_rank(layer)
            columns = slice(place * rank, (place + 1) * rank)
            residual = whole.residuals[layer.path]
            residuals[layer.path] = Residual(
                residual.up[:, columns].copy(), residual.down[columns].copy()
            )
        alone = Variant(residuals, vectors, token_layers=spec.token_layers)
        parts.append((alone, phrase_of(triggers)))
    return parts


def _rows(
    base: Base, one: Shown, merged: Variant, *, template: str, noun: str, count: int
) -> ConceptPictures:
    prompt = template.replace(PLACE, one.phrase)
    rows = compare(
        base,
        [Variant(), one.variant, merged],
        [template.replace(PLACE, noun), prompt, prompt],
        count=count,
        seed=_SEED,
    )
    training = [_png(item.image) for item in one.images.train]
    return ConceptPictures(training, *([_png(image) for image in row] for row in rows))


def _pair(
    base: Base, shown: Sequence[Shown], merged: Variant, template: str, count: int
) -> PairPictures | None:
    if len(shown) == 1:
        return None
    prompt = template.replace(PLACE, f"{shown[0].phrase} and {shown[1].phrase}")
    (row,) = compare(base, [merged], [prompt], count=count, seed=_SEED)
    return PairPictures(prompt, [_png(image) for image in row])


@torch.no_grad()
def _crosstalk(base: Base, shown: Sequence[Shown], noun: str) -> list[list[float]]:
    table: list[list[float]] = []
    for one in shown:
        items = one.images.held_out
        latents = base.latents([item.image for item in items])
        draws = Draws.fixed(_DRAWS, like=latents, below=base.num_timesteps, seed=_SEED)
        asked = _Asked(base, latents, draws, [item.caption for item in items])
        plain = asked.answer(Variant(), noun)
        own = asked.answer(one.variant, one.phrase)
        row = [
            _rms(asked.answer(_beside(one.variant, other.variant), one.phrase) - own)
            / _rms(own - plain)
            if other is not one
            else 1.0
            for other in shown
        ]
        table.append(row)
    return table


def _beside(one: Variant, other: Variant) -> Variant:
    """Return the model with both residuals, but only the words of ``one``."""
    return Variant.sum_of([one, Variant(other.residuals)])


@dataclass(frozen=True, slots=True)
class _Asked:
    """Noisy images of one concept, to be answered by several models."""

    base: Base
    latents: Tensor
    draws: Draws
    captions: Sequence[str]

    def answer(self, variant: Variant, phrase: str) -> Tensor:
        """Return what ``variant`` predicts for every draw, asked for ``phrase``."""
        images, times = self.draws.images, self.draws.timesteps
        noisy = self.base.add_noise(self.latents[images], self.draws.noise, times)
        with variant.applied(self.base) as tokens:
            places: list[int] = images.tolist()
            prompts = [self.captions[place].replace(PLACE, phrase) for place in places]
            return self.base.predict(noisy, times, tokens.encode(prompts))


def _rms(values: Tensor) -> float:
    return values.double().square().mean().sqrt().item()


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").save(file, "PNG", optimize=True)
    return file.getvalue()
