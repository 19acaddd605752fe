"""The command `orthofed client share`: a secret line for whoever is to teach the same concept.

Nothing slow is imported before it runs. Not here: what a share is (core/share.py).
"""

import json
import sys
from typing import Annotated, Final

import typer

from .command_line import ConceptName, HomeOption, Json, Patience

SHARE_EXAMPLE: Final = "Example: orthofed client share anna-k7 --uses 3 > share.txt"


def share(
    concept: ConceptName,
    uses: Annotated[int, typer.Option(min=1, help="How many others may join it.")] = 1,
    most_images: Annotated[
        int | None,
        typer.Option(min=1, help="What one of them counts at most; default: your own number."),
    ] = None,
    home: HomeOption = None,
    as_json: Json = False,
    patience_s: Patience = 30,
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
