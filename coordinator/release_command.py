"""``orthofed coordinator release``: one merge of every accepted contribution, signed and published.

It goes on after a break by itself. Not here: how a release is made (releasing.py).
"""

from typing import Annotated, Final

import typer

from .command_line import Folder, Json, desk_of, lambda_1024, say, show

EXAMPLE: Final = "Example: orthofed coordinator release fed --lambda 0.6"


def release(
    directory: Folder,
    strength: Annotated[
        float | None, typer.Option("--lambda", help="Merge weight, 0 to 2; default the spec's.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Only finish a release that was interrupted.")
    ] = False,
    samples: Annotated[
        bool,
        typer.Option(
            "--samples",
            help="With pictures of concepts whose owners let them be shown, drawn by torch.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Merge every accepted contribution into one signed, published release."""
    from .picturing import drawn
    from .releasing import publish_newest

    draw = drawn if samples else None
    share = None if strength is None else lambda_1024(strength)
    with desk_of(directory) as (folder, desk):
        made = publish_newest(folder, desk, lambda_1024=share, resume=resume, say=say, draw=draw)
        found = desk.ask("contributions", {})["contributions"]
    text = (
        f"release {made['n']}: {made['concepts']} concepts in {made['folder']}"
        if made["new"]
        else f"nothing new: release {made['n']} is the newest"
    )
    waiting = sum(each["state"] == "quarantined" for each in found)
    if waiting:
        noun = "contribution waits" if waiting == 1 else "contributions wait"
        text += f"\n{waiting} {noun} in quarantine: orthofed coordinator contributions {directory}"
    value = {"schema": "orthofed.coordinator.release/1", **made, "quarantined": waiting}
    show(value, text, as_json)
