"""The command `orthofed client share`: a secret line for whoever is to teach the same concept.

Nothing slow is imported before it runs. Not here: what a share is (core/share.py).
"""
# ruff: noqa: FBT002, T201, PLC0415  # as in cli.py: flags, printing, imports inside

import json
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

SHARE_EXAMPLE: Final = "Example: orthofed client share anna-k7 --uses 3 > share.txt"


def share(
    concept: Annotated[str, typer.Argument(help="Name of the concept, such as anna-k7.")],
    uses: Annotated[int, typer.Option(min=1, help="How many others may join it.")] = 1,
    most_images: Annotated[
        int | None,
        typer.Option(min=1, help="What one of them counts at most; default: your own number."),
    ] = None,
    home: Annotated[
        Path | None, typer.Option("--home", help="Folder of this client; default: the user's own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    patience_s: Annotated[
        float,
        typer.Option("--patience", min=0, help="Seconds to keep trying when nobody answers."),
    ] = 30,
) -> None:
    """Let others teach your concept too, from images of their own. The line is a secret."""
    from .home import Home
    from .sharing import share_concept

    place = Home.at(home)
    made = share_concept(place, concept, uses=uses, most_images=most_images, patience_s=patience_s)
    if as_json:
        facts = {
            "schema": "orthofed.share/1",
            "concept": made.concept,
            "leaf": made.share.leaf,
            "uses": made.share.uses,
            "most_images": made.share.most,
            "share": made.text,
        }
        print(json.dumps(facts))
        return
    print(made.text)
    print(
        f"for {made.share.uses} more owners of {made.concept}, {made.share.most} images each"
        " counted at most; whoever has the line can join",
        file=sys.stderr,
    )
