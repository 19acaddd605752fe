"""``orthofed client fleet-key``: tells the coordinator which Flower node is this member's.

Nothing slow is imported before it runs. Run by the owner, since a member key signs it; the node key
itself is made and kept by the courier's account (fleet_folder.py).
"""

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from .command_line import HomeOption, Json, Patience

FLEET_KEY_EXAMPLE: Final = "Example: orthofed client fleet-key /var/lib/orthofed-courier/node.pub"


def fleet_key(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The node.pub that `orthofed client fleet` made.")
    ],
    home: HomeOption = None,
    as_json: Json = False,
    patience_s: Patience = 120,
) -> None:
    """Name this machine's Flower node to the coordinator; again is harmless."""
    from ..core.errors import InputError
    from .channel import Channel
    from .fleet_key import fleet_key as register
    from .home import Home
    from .masters import Masters
    from .outbox import Outbox

    try:
        line = file.read_text("ascii")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} cannot be read: {error}",
            why="the node's public key is one line of text in it",
            fix="start orthofed client fleet once, then give the node.pub that it names",
            code="no-node-key",
        ) from error
    place = Home.at(home)
    with place.lock():
        membership, outbox = place.membership(), Outbox(place.folder / "outbox.jsonl")
        with Channel(
            membership.host_port,
            ca=membership.ca,
            log=membership.log,
            outbox=outbox,
            certificate=place.certificate(),
            patience_s=patience_s,
        ) as channel:
            register(channel, Masters(place).newest().member(membership.log), line)
    if as_json:
        print(json.dumps({"schema": "orthofed.fleet-key/1", "registered": True}))
        return
    print("registered: the operator's orders can reach this machine within a minute")
