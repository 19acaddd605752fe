"""Pictures of a trial, and whom they show by the embedder.

    identity    share of pictures whose cosine to their person reaches the embedder's threshold
    likeness    mean cosine to the person (image alignment, with features that know only people)
    confusion   share of pictures that are nearer to another concept of the study, by which

Every method draws the same prompts from the same noise. The threshold is the equal error rate on
real held-out drawings of the concepts, against each other. Source: method.md 8.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from orthofed.client.sample import draw
from orthofed.core.fusion import RIDGE

from .bench import Bench, Learnt
from .embedder import WEIGHTS, Embedder, equal_error
from .merging import RECORDED, merged
from .recipes import METHODS
from .trial import Trial

_RESULT = "drawn.json"


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the pictures of one trial show, by concept; ``nearest``: counts by concept."""

    trial: Trial
    identity: dict[str, float]
    likeness: dict[str, float]
    nearest: dict[str, dict[str, int]]

    def as_plain(self) -> dict[str, Any]:
        """Return what stands in a result; figures name the concepts, in their order."""
        trial = self.trial
        return {
            "method": trial.method,
            "factor": trial.factor,
            "lambda": trial.lambda_,
            "identity": self.identity,
            "likeness": self.likeness,
            "nearest": self.nearest,
        }

    @staticmethod
    def of_plain(held: Mapping[str, Any]) -> "Drawn":
        """Read what ``as_plain`` wrote."""
        trial = Trial(held["method"], held["factor"], tuple(held["identity"]), held["lambda"])
        return Drawn(trial, held["identity"], held["likeness"], held["nearest"])


class Gallery:
    """Draws for one bench and judges."""

    def __init__(self, bench: Bench, *, count: int) -> None:
        """Draw ``count`` pictures a prompt."""
        self._bench, self._count = bench, count

    def judged(self, trial: Trial) -> Drawn:
        """Return what the trial's pictures show; pictures are kept beside the result."""
        return Drawn(trial, **json.loads((self._made(trial) / _RESULT).read_text()))

    def sheets(self, trial: Trial) -> dict[str, Path]:
        """Return where each concept's pictures of the trial lie, all on one sheet, row by row."""
        place = self._made(trial)
        return {name: place / f"{name}.png" for name in trial.names}

    def _made(self, trial: Trial) -> Path:
        """Return the folder of the trial's pictures, which are drawn unless they are there."""
        method, work = METHODS[trial.method], self._bench.conditions.work
        parts = [self._bench.learnt(method.recipe, n, trial.factor) for n in trial.names]
        place = work / "drawn" / self._key(trial, parts)
        if not (place / _RESULT).is_file():
            place.mkdir(parents=True, exist_ok=True)
            part = place / f"{_RESULT}.{os.getpid()}.part"
            part.write_text(json.dumps(self._drawn(trial, parts, place)))
            part.replace(place / _RESULT)
        return place

    @cached_property
    def threshold(self) -> tuple[float, float]:
        """Return (threshold, equal error rate) on real drawings that nothing was trained on."""
        genuine, impostor = [], []
        for name, images in self._bench.images.items():
            vectors = self._embedder.of([item.image for item in images.held_out])
            for other, person in self._people.items():
                (genuine if other == name else impostor).extend((vectors @ person).tolist())
        return equal_error(np.array(genuine), np.array(impostor))

    @cached_property
    def _embedder(self) -> Embedder:
        return Embedder.load()

    @cached_property
    def _people(self) -> dict[str, np.ndarray]:
        return {
            name: self._embedder.person([item.image for item in images.train])
            for name, images in self._bench.images.items()
        }

    def _drawn(self, trial: Trial, parts: list[Learnt], place) -> dict[str, object]:
        bench, people = self._bench, self._people
        how = METHODS[trial.method].merge
        variants = [part.variant for part in parts]
        model = merged(how, variants, lambda i: bench.inputs(parts[i]), lambda_=trial.lambda_)
        names, bar = [*people], self.threshold[0]
        identity, likeness, nearest = {}, {}, {}
        with model.applied(bench.base) as tokens:
            for name, part in zip(trial.names, parts, strict=True):
                prompts = [prompt.replace("{}", part.phrase) for prompt in bench.people.prompts]
                seed, steps = bench.conditions.seed, bench.conditions.sampling
                rows = draw(bench.base, tokens, prompts, count=self._count, seed=seed, steps=steps)
                images = [image for row in rows for image in row]
                cosines = self._embedder.of(images) @ np.stack([*people.values()]).T
                own = cosines[:, names.index(name)]
                identity[name] = float((own >= bar).mean())
                likeness[name] = float(own.mean())
                found = [names[k] for k in cosines.argmax(1)]
                nearest[name] = {who: found.count(who) for who in sorted({*found})}
                _sheet(images).save(place / f"{name}.png")
        return {"identity": identity, "likeness": likeness, "nearest": nearest}

    def _key(self, trial: Trial, parts: list[Learnt]) -> str:
        conditions = self._bench.conditions
        weights = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
        merge = METHODS[trial.method].merge
        decides = [merge, trial.lambda_, [part.key for part in parts]]
        decides += [RIDGE] if merge in RECORDED else []
        text = json.dumps(
            [
                *decides,
                self._bench.people.prompts,
                self._count,
                conditions.sampling,
                conditions.seed,
                weights,
            ]
        )
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return f"{trial.method}-{len(parts)}@{trial.lambda_:g}-{digest}"


def _sheet(images: list[Image.Image]) -> Image.Image:
    """Return all images in rows, as many a row as fit a square."""
    columns = int(np.ceil(np.sqrt(len(images))))
    side = images[0].width
    sheet = Image.new("RGB", (columns * side, -(-len(images) // columns) * side), "white")
    for number, image in enumerate(images):
        sheet.paste(image, (number % columns * side, number // columns * side))
    return sheet
