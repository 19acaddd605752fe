"""What the commands of data owners and consumers share: options that mean the same everywhere.

An option stands here once two commands take it, so that its name, bounds and help are written
once; its default stays with the command. Nothing slow is imported, so that help is quick.
Not here: what only one command takes, and the operator's options (coordinator/command_line.py).
"""

import math
from pathlib import Path
from typing import Annotated

import typer


def finite(value: float | list[float] | None) -> float | list[float] | None:
    """Return what an option was given; the bounds of a number let ``nan`` through.

    Raises BadParameter: it is, or holds, no number or an endless one.
    """
    for each in value if isinstance(value, list) else [value]:
        if each is not None and not math.isfinite(each):
            raise typer.BadParameter(f"{each:g} is not a finite number")
    return value


HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Folder of this client; default: the user's own.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Patience = Annotated[
    float,
    typer.Option(
        "--patience", min=0, callback=finite, help="Seconds to keep trying when nobody answers."
    ),
]
Yes = Annotated[
    bool, typer.Option("--yes", help="Send without asking, but not what was learnt by heart.")
]
Certificate = Annotated[
    Path | None,
    typer.Option("--client-certificate", help="PEM file, if the coordinator asks for one."),
]
ConceptName = Annotated[str, typer.Argument(help="Name of the concept, such as anna-k7.")]
"""Of a concept that the home knows: the argument of what is done to it."""
ConceptOption = Annotated[
    str, typer.Option("--concept", help="Name of the concept, such as anna-k7.")
]
ClassNoun = Annotated[str, typer.Option("--class-noun", help="What it is one of, such as person.")]
BaseFolder = Annotated[Path, typer.Option("--base", help="Folder of the base model.")]
Title = Annotated[str | None, typer.Option("--title", help="Text shown beside the concept.")]
Licence = Annotated[
    str | None,
    typer.Option("--licence", help="SPDX id of what you publish; default: CC0-1.0."),
]
Pictures = Annotated[
    bool | None,
    typer.Option(
        "--pictures/--no-pictures",
        help="Let releases show a picture of it, drawn by the merged model.",
    ),
]
Shared = Annotated[
    bool,
    typer.Option("--shared", help="Sign how many images it has, so that others may join it."),
]
ShareFile = Annotated[
    str | None,
    typer.Option("--share", help="Join another owner's concept: the share's file; - for stdin."),
]
TrainingConfig = Annotated[Path | None, typer.Option("--config", help="Training settings in TOML.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of every draw.")]
Device = Annotated[
    str | None,
    typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps; default: the settings', auto."),
]
