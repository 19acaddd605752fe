"""An XY plot: one picture a cell, drawn by the model, prompt, seed and settings of its place.

A cell that asks for another weight, for one concept alone or for the base is drawn on the base with
the release's LoRA beside it, whose columns are scaled (variant.py): the base's weights stay what
they are, so lambda 0 is the base with the learned words, and no weight is read back out of a merged
file. If one cell of a plot needs that, all are drawn so; else by the release's own pipeline. Cells
of one model are drawn together. Cost: a picture a cell.
"""

import itertools
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from ..core.errors import InputError
from ..core.regions import Region
from ..core.spec import FederationSpec
from .axis import Axis
from .base import Base, check_base
from .drawing import Drawing
from .grid import labelled
from .opened import Opened, opened
from .placement import Machine, Placement
from .variant import Variant, held_triggers, spec_of, triggers_of

MAX_CELLS = 256
BASE, SINGLE, MERGED, FUSED = "base", "single", "merged", "fused"


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture: its place on both axes, and all that it is drawn by."""

    x: str
    y: str
    prompt: str
    seed: int
    drawing: Drawing
    model: str = MERGED  # or base, fused, or the concept that is alone
    lambda_: float | None = None  # None: as in the release

    def body(self) -> dict[str, object]:
        """Return what JSON says of the cell."""
        regions = [{"box": one.box, "prompt": one.prompt} for one in self.drawing.regions]
        return {
            "x": self.x,
            "y": self.y,
            "prompt": self.prompt,
            "regions": regions,
            "seed": self.seed,
            "model": self.model,
            "lambda": self.lambda_,
            "steps": self.drawing.steps,
            "guidance": self.drawing.guidance,
            "apart": self.drawing.apart,
        }


@dataclass(frozen=True, slots=True)
class Plot:
    """What is drawn: the release, the axes, and what each cell has where no axis says otherwise."""

    folder: Path
    x: Axis
    y: Axis
    prompts: Sequence[str]
    seeds: Sequence[int]
    drawing: Drawing
    base: Path | None = None  # needed for lambda and model
    noun: str = ""  # what the base reads in a trigger's place; empty: the trigger
    fused: Path | None = None  # of the release (fuse.py): what draws where no axis says otherwise

    def cells(self) -> list[Cell]:
        """Return every cell, row by row.

        Raises InputError: the axes do not fit together, or the release does not hold a concept.
        """
        if not self.prompts:
            raise InputError(
                "no prompt",
                why="every picture of a plot has one",
                fix="give --prompt TEXT at least once",
                code="no-prompt",
            )
        kinds = self.x.kind, self.y.kind
        xs, ys = (self.expanded(axis) for axis in (self.x, self.y))
        if kinds[0] == kinds[1] or len(xs) * len(ys) > MAX_CELLS:
            raise InputError(
                f"axes {kinds[0]} and {kinds[1]} of {len(xs)} x {len(ys)} values",
                why=f"two axes differ in kind and make at most {MAX_CELLS} pictures",
                fix="choose other axes, or fewer values",
                code="bad-axis",
            )
        told = [*self.prompts, *(region.prompt for region in self.drawing.regions)]
        if "concept" in kinds and not any("{}" in text for text in told):
            raise InputError(
                "no prompt has a place for the concept",
                why="the axis concept writes each trigger where {} stands",
                fix='write it as --prompt "a picture of {}"',
                code="no-place",
            )
        model = MERGED if self.fused is None else FUSED
        first = Cell("", "", self.prompts[0], self.seeds[0], self.drawing, model)
        found = list[Cell]()
        for y, x in itertools.product(ys, xs):
            moves = sorted(
                [(self.x.kind, x), (self.y.kind, y)], key=lambda one: one[0] == "concept"
            )
            cell = replace(first, x=x, y=y)
            for kind, value in moves:  # the concept last: into the prompt that the other axis chose
                words = held_triggers(self.folder, value) if kind == "concept" else (value,)
                cell = _moved(cell, kind, " ".join(words))
            found.append(cell)
        return found

    def draw(self, device: str = "auto") -> tuple[Image.Image, list[Cell]]:
        """Return the labelled plot and its cells.

        Raises InputError: no pipeline, a base that is not the release's, a concept that the release
        does not hold, no such device, or a size or region that does not fit.
        """
        cells = self.cells()
        placement = Placement.of(device, "fp32", Machine.here())
        made: dict[int, Image.Image] = {}
        with self._models(placement) as models:
            order = sorted(range(len(cells)), key=lambda k: str(_model_of(cells[k])))
            for _, group in itertools.groupby(order, key=lambda k: _model_of(cells[k])):
                those = list(group)
                with models.of(cells[those[0]]) as model:
                    for k in those:
                        cell = models.asked(cells[k])
                        made[k] = model.draw(cell.prompt, cell.drawing, [cell.seed])[0]
        width = len(self.expanded(self.x))
        images = [made[k] for k in range(len(cells))]
        rows = [images[k : k + width] for k in range(0, len(images), width)]
        xs, ys = cells[:width], cells[::width]
        picture = labelled(
            rows,
            [_label(self.x.kind, cell.x) for cell in xs],
            [_label(self.y.kind, cell.y) for cell in ys],
        )
        return picture, cells

    def expanded(self, axis: Axis) -> list[str]:
        """Return the axis' values, with ``single`` as the concepts that the prompts name."""
        if axis.kind != "model":
            return list(axis.values)
        told = " ".join([*self.prompts, *(region.prompt for region in self.drawing.regions)])
        found = list[str]()
        for value in axis.values:
            named = [
                concept
                for concept, words in triggers_of(self.folder).items()
                if any(_calls(word).search(told) for word in words)
            ]
            if value == SINGLE and not named:
                raise InputError(
                    "no prompt names a concept of the release",
                    why="a row single is one concept alone, each that a prompt names",
                    fix="name its trigger in --prompt or --region, or the concept in --compare",
                    code="names-no-concept",
                )
            if value == FUSED and self.fused is None:
                raise InputError(
                    "no --fused for the row fused",
                    why="orthofed fuse makes it, out of a release and its base",
                    fix="give --fused the file that it wrote",
                    code="option-missing",
                )
            if value not in {BASE, SINGLE, MERGED, FUSED}:
                held_triggers(self.folder, value)
            found += named if value == SINGLE else [value]
        return found

    @contextmanager
    def _models(self, placement: Placement) -> Generator["_Models"]:
        if self.fused is None and not {self.x.kind, self.y.kind} & {"lambda", "model"}:
            with opened(self.folder, placement) as model:
                yield _Models(self, {}, model=model)
            return
        spec = spec_of(self.folder)
        if self.base is None:
            raise InputError(
                "no --base for a plot over lambda or model, or with --fused",
                why="the release's checkpoint has the concepts in its weights already",
                fix=f"give --base the folder of {spec.base.name}, revision {spec.base.revision}",
                code="no-base",
            )
        check_base(self.base, spec)
        base = Base.load(self.base, placement=placement)
        yield _Models(self, triggers_of(self.folder), base=base, spec=spec)


@dataclass(frozen=True, slots=True)
class _Models:
    """The models of a plot: the release's own, or the base with the release's LoRA beside it."""

    plot: Plot
    triggers: Mapping[str, Sequence[str]]
    model: Opened | None = None
    base: Base | None = None
    spec: FederationSpec | None = None

    @contextmanager
    def of(self, cell: Cell) -> Generator[Opened]:
        """Give the model that draws ``cell``."""
        if self.model is not None:
            yield self.model
            return
        assert self.base is not None and self.spec is not None, "one of both"  # noqa: S101, PT018  # our own bug
        with self._variant(cell, self.spec).applied(self.base) as tokens:
            yield Opened.of_base(self.base, tokens)

    def _variant(self, cell: Cell, spec: FederationSpec) -> Variant:
        folder, fused = self.plot.folder, self.plot.fused
        if cell.model == BASE:
            return Variant()
        if cell.model == FUSED and fused is not None:
            weight = 1.0 if cell.lambda_ is None else cell.lambda_
            return Variant.of_fused(folder, spec, fused, lambda_=weight)
        alone = None if cell.model == MERGED else cell.model
        return Variant.of_release(folder, spec, lambda_=cell.lambda_, only=alone)

    def asked(self, cell: Cell) -> Cell:
        """Return ``cell`` as the base is asked for it: the noun in each trigger's place."""
        if cell.model != BASE or not self.plot.noun:
            return cell

        def plain(text: str) -> str:
            for words in self.triggers.values():
                for word in words:
                    text = _calls(word).sub(self.plot.noun, text)
            return text

        return _reworded(cell, plain)


def _calls(word: str) -> re.Pattern[str]:
    """Return what finds a trigger as a word of its own."""
    return re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])", re.IGNORECASE)


def _model_of(cell: Cell) -> tuple[str, float | None]:
    return cell.model, cell.lambda_


def _moved(cell: Cell, kind: str, value: str) -> Cell:
    """Return ``cell`` at ``value`` of an axis."""
    match kind:
        case "lambda":
            moved = replace(cell, lambda_=float(value))
        case "seed":
            moved = replace(cell, seed=int(value))
        case "model":
            moved = replace(cell, model=value)
        case "prompt":
            moved = replace(cell, prompt=value)
        case "concept":
            moved = _reworded(cell, lambda text: text.replace("{}", value))
        case "steps":
            moved = replace(cell, drawing=replace(cell.drawing, steps=int(value)))
        case "guidance":
            moved = replace(cell, drawing=replace(cell.drawing, guidance=float(value)))
        case _:
            moved = replace(cell, drawing=replace(cell.drawing, apart=float(value)))
    return moved


def _label(kind: str, value: str) -> str:
    """Return what stands beside a row, or over a column.

    >>> _label("model", "fused"), _label("model", "anna-k7"), _label("steps", "25")
    ('fused', 'anna-k7 alone', 'steps 25')
    """
    if kind == "model":
        return value if value in {BASE, MERGED, FUSED} else f"{value} alone"
    return value if kind in {"prompt", "concept"} else f"{kind} {value}"


def _reworded(cell: Cell, said: Callable[[str], str]) -> Cell:
    """Return ``cell`` with what ``said`` makes of its prompt and its regions' prompts."""
    regions = [Region(one.box, said(one.prompt)) for one in cell.drawing.regions]
    drawing = replace(cell.drawing, regions=regions)
    return replace(cell, prompt=said(cell.prompt), drawing=drawing)
