"""Pictures of trials: drawn once, kept without loss, judged from what is kept.

Every method draws the same prompts from the same noise, whatever the training's seed. A concept's
pictures lie on one sheet (PNG) in a folder named by all that decides them; what the judge says of
them lies beside, named by all that decides that. So a judge that learns something new reads sheets
that took hours, and a run that is killed goes on at the next sheet.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from orthofed.client.sample import draw
from orthofed.client.variant import Variant
from orthofed.core.fusion import RIDGE

from .bench import SHARED_SEED, Bench, Learnt
from .drawn import Drawn
from .judge import Judge
from .merging import RECORDED, merged
from .recipes import METHODS
from .trial import Trial

_FIGURES = ("identity", "likeness", "nearest", "image", "text")


class Gallery:
    """Draws for one bench and has it judged."""

    def __init__(self, bench: Bench, *, count: int) -> None:
        """Draw ``count`` pictures a prompt."""
        self._bench, self._count = bench, count
        self.judge = Judge(bench)
        self._last: tuple[Trial, list[Learnt]] | None = None
        self._merged: tuple[Trial, Variant] | None = None

    def judged(self, trial: Trial) -> Drawn:
        """Return what the trial's pictures show."""
        verdict = self._folder(trial) / f"judged-{self.judge.digest}.json"
        if not verdict.is_file():
            prompts = self._bench.people.prompts
            found = {
                name: self.judge.of(name, _cut(path, len(prompts) * self._count), prompts)
                for name, path in self.sheets(trial).items()
            }
            held = {figure: {n: each[figure] for n, each in found.items()} for figure in _FIGURES}
            part = verdict.with_suffix(f".{os.getpid()}.part")
            part.write_text(json.dumps(held))
            part.replace(verdict)
        return Drawn(trial, **json.loads(verdict.read_text()))

    def sheets(self, trial: Trial) -> dict[str, Path]:
        """Return where each concept's pictures of the trial lie, all on one sheet, row by row."""
        return {name: self.sheet(trial, name) for name in trial.names}

    def is_drawn(self, trial: Trial) -> bool:
        """Tell whether all sheets of the trial are there."""
        return all(self._place(trial, name).is_file() for name in trial.names)

    def sheet(self, trial: Trial, name: str) -> Path:
        """Return the sheet of one concept, which is drawn unless it is there."""
        place = self._place(trial, name)
        if not place.is_file():
            bench = self._bench
            part = self._parts(trial)[trial.names.index(name)]
            prompts = [prompt.replace("{}", part.phrase) for prompt in bench.people.prompts]
            steps = bench.conditions.sampling
            with self._model(trial).applied(bench.base) as tokens:
                rows = draw(
                    bench.base, tokens, prompts, count=self._count, seed=SHARED_SEED, steps=steps
                )
            place.parent.mkdir(parents=True, exist_ok=True)
            unfinished = place.with_suffix(f".{os.getpid()}.part")
            _sheet([image for row in rows for image in row]).save(unfinished, format="png")
            unfinished.replace(place)
        return place

    def _model(self, trial: Trial) -> Variant:
        """Return the merged model; the last one is held, since its concepts are drawn in turn."""
        if self._merged is None or self._merged[0] != trial:
            parts, how = self._parts(trial), METHODS[trial.method].merge
            variants = [part.variant for part in parts]
            moments = lambda i: self._bench.inputs(parts[i])  # noqa: E731
            self._merged = trial, merged(how, variants, moments, lambda_=trial.lambda_)
        return self._merged[1]

    def _parts(self, trial: Trial) -> list[Learnt]:
        if self._last is None or self._last[0] != trial:
            recipe, told = METHODS[trial.method].recipe, (trial.factor, trial.seed)
            self._last = trial, [self._bench.learnt(recipe, n, *told) for n in trial.names]
        return self._last[1]

    def _place(self, trial: Trial, name: str) -> Path:
        return self._folder(trial) / f"{name}.png"

    def _folder(self, trial: Trial) -> Path:
        bench, method = self._bench, METHODS[trial.method]
        told = (trial.factor, trial.seed)
        keys = [bench.key(method.recipe, name, *told) for name in trial.names]
        decides = [method.merge, trial.lambda_, keys]
        decides += [RIDGE] if method.merge in RECORDED else []
        decides += [bench.people.prompts, self._count, bench.conditions.sampling, SHARED_SEED]
        digest = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:12]
        cell = trial.cell
        return bench.conditions.work / "drawn" / f"{trial.method}-{cell}-{digest}"


def _sheet(images: list[Image.Image]) -> Image.Image:
    """Return all images in rows, as many a row as fit a square."""
    columns = _columns(len(images))
    side = images[0].width
    sheet = Image.new("RGB", (columns * side, -(-len(images) // columns) * side), "white")
    for number, image in enumerate(images):
        sheet.paste(image, (number % columns * side, number // columns * side))
    return sheet


def _cut(path: Path, count: int) -> list[Image.Image]:
    """Return the ``count`` images of a sheet."""
    columns = _columns(count)
    with Image.open(path) as sheet:
        side = sheet.width // columns
        corners = [(n % columns * side, n // columns * side) for n in range(count)]
        return [sheet.crop((x, y, x + side, y + side)) for x, y in corners]


def _columns(count: int) -> int:
    return int(np.ceil(np.sqrt(count)))
