"""The command `orthofed client rotate`: a new member key for this home, text or JSON out.

Nothing slow is imported before it runs. Not here: how it is done (rotation.py).
"""
# ruff: noqa: FBT002, T201, PLC0415  # as in cli.py: flags, printing, imports inside

import json
from pathlib import Path
from typing import Annotated, Final

import typer

ROTATE_EXAMPLE: Final = "Example: orthofed client rotate"


def rotate(
    home: Annotated[
        Path | None, typer.Option("--home", help="Folder of this client; default: the user's own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    patience_s: Annotated[
        float,
        typer.Option("--patience", min=0, help="Seconds to keep trying when nobody answers."),
    ] = 120,
) -> None:
    """Draw a new key for this home and let it take the old one's place. Again after a break."""
    from .home import Home
    from .rotation import rotate as carry_out

    done = carry_out(Home.at(home), patience_s=patience_s)
    if as_json:
        facts = {
            "schema": "orthofed.rotate/1",
            "old_member": done.old,
            "member": done.new,
            "epoch": done.epoch,
            "file": str(done.file),
        }
        print(json.dumps(facts))
        return
    print(f"member  {done.new}")
    print(f"before  {done.old}")
    print(f"keep a copy of {done.file}, and of the older ones beside it: what was contributed")
    print("under an old key is withdrawn by that key alone")
