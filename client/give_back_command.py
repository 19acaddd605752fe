"""The command `orthofed client give-back`. Nothing slow is imported before it runs."""
# ruff: noqa: FBT002, T201, PLC0415  # as in cli.py: flags, printing, imports inside

import json
from pathlib import Path
from typing import Annotated, Final

import typer

GIVE_BACK_EXAMPLE: Final = "Example: orthofed client give-back anna-k7"


def give_back(
    concept: Annotated[str, typer.Argument(help="Name of the concept, such as anna-k7.")],
    home: Annotated[
        Path | None, typer.Option("--home", help="Folder of this client; default: the user's own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    patience_s: Annotated[
        float,
        typer.Option("--patience", min=0, help="Seconds to keep trying when nobody answers."),
    ] = 120,
) -> None:
    """Free the slot of a concept that you will not send; its training stays at home."""
    from .giving_back import give_back as carry_out
    from .home import Home

    done = carry_out(Home.at(home), concept, patience_s=patience_s)
    if as_json:
        facts = {"schema": "orthofed.give-back/1", "concept": done.concept}
        print(json.dumps({**facts, "slot": done.slot, "fence": done.fence}))
        return
    print(f"slot {done.slot} of {done.concept} is given back; what was trained stays at home")
