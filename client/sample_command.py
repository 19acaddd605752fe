"""``orthofed sample``: options in, one PNG out; what it draws is sample.py's."""

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import click
import typer

from .command_line import Json, finite
from .loading import loading

if TYPE_CHECKING:
    from .drawing import Drawing
    from .plot import Plot

EXAMPLE: Final = (
    'Example: orthofed sample release-1 --size 128x64 --prompt "a peeps drawing of two people" '
    '--region "left: a peeps drawing of a anna-k7" '
    '--region "right: a peeps drawing of a bodo-x4" -o grid.png'
)
_AXES: Final = (
    "lambda=0,0.5,1, prompt, seed=3,9, concept=A,B (for {} in prompts), guidance=, steps=, apart="
)
_LAST_SEED: Final = 2**63 - 1
"""As on an axis; the images of one seed count on from it, and the generator takes twice that."""


def sample(  # noqa: PLR0913, PLR0917  # each is an option that a person may set
    directory: Annotated[Path, typer.Argument(help="A pulled release, or a base model.")],
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", help="Prompt of the whole picture; repeatable.")
    ] = None,
    card: Annotated[
        bool,
        typer.Option(
            "--card",
            help="One picture of each concept of a release, as its card shows them; --out is a"
            " folder.",
        ),
    ] = False,
    concept: Annotated[
        list[str] | None,
        typer.Option(help="With --card: of this concept only; repeatable; default: of each."),
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(
            help="AREA: PROMPT, read there only; left, right, top, bottom, center, top-left and the"
            " other quarters, or x0,y0,x1,y1 in fractions; repeatable."
        ),
    ] = None,
    negative: Annotated[str, typer.Option(help="What the pictures should not be.")] = "",
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT in pixels; default: the model's own.")
    ] = None,
    x: Annotated[str | None, typer.Option("--x", help=f"Columns of a plot: {_AXES}.")] = None,
    y: Annotated[str | None, typer.Option("--y", help="Rows of a plot, written as --x is.")] = None,
    compare: Annotated[
        str | None,
        typer.Option(help="Rows of a plot: base,single,merged,fused, or some, or concepts."),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="The base model's folder, which lambda and --compare need."),
    ] = None,
    fused: Annotated[
        Path | None,
        typer.Option(help="What orthofed fuse made of the release: draw with it; needs --base."),
    ] = None,
    class_noun: Annotated[
        str, typer.Option(help="With --compare: what the base reads in a trigger's place.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The picture, PNG; default: grid.png, or samples."),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Images a prompt and seed; default: 4 of one seed, or 1."),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(min=0, max=_LAST_SEED, help="Seed of an image; repeatable; default: 0."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Sampling steps.")] = 25,
    guidance: Annotated[float, typer.Option(min=0, callback=finite, help="Guidance scale.")] = 4.0,
    apart: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            callback=finite,
            help="With --region: the share of the noise, from the start, over which each area is"
            " drawn as a picture of its own; 0: all areas together throughout; default: 0.6.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Json = False,
) -> None:
    """Draw pictures from a release, one row a prompt; by area, along axes, or models compared."""
    if card:
        place = out or Path("samples")
        _draw_card(directory, place, prompts, concept or [], device=device, as_json=as_json)
        return
    from ..core.regions import APART, Region
    from .drawing import Drawing

    with loading():
        from .sample import sample as draw

    first = seed or [0]
    each = count or (4 if len(first) == 1 else 1)
    seeds = [start + k for start in first for k in range(each)]
    drawing = Drawing(
        [Region.parse(text) for text in region or []],
        negative,
        _size(size) if size else None,
        steps,
        guidance,
        APART if apart is None else apart,
    )
    out = out or Path("grid.png")
    if out.is_dir():  # known before minutes of drawing
        raise _folder(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if x or y or compare or fused:
        axes, models = (x, y, compare), (base, class_noun, fused)
        plot = _plot(directory, axes, prompts or [], seeds, drawing, models)
        picture, cells = plot.draw(device)
        picture.save(out, format="PNG")
        told = {"x": plot.x.kind, "y": plot.y.kind, "cells": [cell.body() for cell in cells]}
        _tell(out, len(plot.expanded(plot.y)), len(plot.expanded(plot.x)), as_json, told)
        return
    if (directory / "info.json").is_file():  # a base has no triggers
        _tell_strangers(directory, prompts or [], [one.prompt for one in drawing.regions])
    draw(directory, prompts or [], drawing, seeds=seeds, device=device).save(out, format="PNG")
    _tell(out, len(prompts or []), len(seeds), as_json, {})


def _tell_strangers(directory: Path, prompts: list[str], regions: list[str]) -> None:
    """Warn of each prompt without a trigger, which is drawn as the base would draw it."""
    from .variant import strangers

    found, triggers = strangers(directory, prompts, regions)
    for prompt in found:
        told = ", ".join(triggers[:12]) + (", ..." if len(triggers) > 12 else "")  # noqa: PLR2004
        print(f"warning: no trigger in {prompt!r}; the release has {told}", file=sys.stderr)


def _folder(out: Path) -> Exception:
    from ..core.errors import InputError

    return InputError(
        f"{out} is a folder",
        why="the grid is one picture, and --out is its file",
        fix=f"give -o {out / 'grid.png'}",
        code="bad-option",
    )


def _tell(out: Path, rows: int, columns: int, as_json: bool, told: dict[str, object]) -> None:
    if as_json:
        print(json.dumps({"schema": "orthofed.sample/1", "file": str(out), **told}))
        return
    print(f"{rows} x {columns} pictures in {out}")


def _plot(  # what the options said
    directory: Path,
    axes: tuple[str | None, str | None, str | None],
    prompts: list[str],
    seeds: list[int],
    drawing: "Drawing",
    models: tuple[Path | None, str, Path | None],
) -> "Plot":
    """Return the plot: rows are --y, --compare or the prompts; columns --x or the seeds."""
    from .axis import Axis
    from .plot import Plot
    from .variant import triggers_of

    x, y, compare = axes
    if y and compare:
        raise click.UsageError("--compare is the rows of a plot, and so is --y: give one of them")
    y = f"model={compare}" if compare else y
    rows = y or ("seed" if x == "prompt" else "prompt")
    columns = x or ("prompt" if rows.partition("=")[0] == "seed" else "seed")
    held = list(triggers_of(directory)) if "concept" in {rows, columns} else []
    given = {"prompt": prompts, "seed": [str(one) for one in seeds], "concept": held}
    parsed = [Axis.parse(text, given) for text in (columns, rows)]
    return Plot(directory, parsed[0], parsed[1], prompts, seeds, drawing, *models)


def _draw_card(
    directory: Path,
    out: Path,
    prompts: list[str] | None,
    concepts: list[str],
    *,
    device: str,
    as_json: bool,
) -> None:
    """Draw what a card shows. Raises InputError: a prompt, which the card has its own of."""
    from ..core.errors import InputError

    with loading():
        from .card_pictures import draw_pictures

    if prompts:
        raise InputError(
            "--card with --prompt",
            why="a card shows each concept by the same prompt",
            fix="leave out one of the two",
            code="options-differ",
        )
    names = draw_pictures(directory, out, concepts, device=device)
    if as_json:
        files = [str(out / f"{name}.png") for name in names]
        print(json.dumps({"schema": "orthofed.sample/1", "files": files}))
        return
    print(f"{len(names)} pictures in {out}")


def _size(text: str) -> tuple[int, int]:
    """Return (width, height) of ``128x64``. Raises InputError: it is written otherwise."""
    from ..core.errors import InputError

    found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    if found is None:
        raise InputError(
            f"--size {text[:40]!r} is no size",
            why="a size is a width and a height in pixels",
            fix="write it as --size 128x64",
            code="size-does-not-fit",
        )
    return int(found[1]), int(found[2])
