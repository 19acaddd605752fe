"""``orthofed plan``: how many concepts fit a base, and what one contribution weighs.

It founds nothing and needs no folder. Not here: the arithmetic (planning.py).
"""

from pathlib import Path
from typing import Annotated, Final

import typer

from ..core.published import PublishedModel  # typer reads the options' choices off these two
from .command_line import Adapted, Capacity, Json, Overlap, QuietColumns, Rank, show

EXAMPLE: Final = "Example: orthofed plan --family sd15 --targets all --rank 20"


def plan(
    base: Annotated[
        Path | None, typer.Option(help="A base model: a diffusers pipeline folder.")
    ] = None,
    family: Annotated[
        PublishedModel | None,
        typer.Option(help="Instead of a folder: the shapes of a published model."),
    ] = None,
    targets: Adapted = "attention",
    rank: Rank = None,
    capacity: Capacity = None,
    overlap: Overlap = 1,
    quiet_columns: QuietColumns = "",
    as_json: Json = False,
) -> None:
    """Show how many concepts fit and what one contribution weighs."""
    from ..core.errors import InputError
    from ..core.published import published_layers
    from .base import BaseFolder
    from .columns import read_prompts
    from .planning import Planned

    if (base is None) == (family is None):
        raise InputError(
            f"{2 - (base, family).count(None)} models to plan for",
            why="a plan is for one: a folder, or a published model",
            fix="give either --base FOLDER or --family sd15, sd21 or sdxl",
            code="bad-option",
        )
    if base is None and quiet_columns:
        raise InputError(
            "--quiet-columns without a base model's folder",
            why="the base draws the prompts to find the columns that hear least",
            fix="give --base FOLDER in place of --family",
            code="bad-option",
        )
    if quiet_columns and overlap > 1:
        raise InputError(
            f"quiet columns with {overlap} bases",
            why="the prompts tell which columns of the first basis hear least, not of the others",
            fix="leave either the overlap or the quiet columns out",
            code="bad-option",
        )
    prompts = read_prompts(quiet_columns) if quiet_columns else []
    if base is not None:
        layers = BaseFolder(base).layers(targets)
    else:
        layers = published_layers(family or "sd15", targets)
    planned = Planned.of(layers, targets=targets, rank=rank, capacity=capacity, epochs=overlap)
    if base is not None and prompts:
        planned = planned.listened(BaseFolder(base), prompts)
    show(planned.as_dict(), planned.text(), as_json)
