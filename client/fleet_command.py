"""``orthofed client fleet``: keeps Flower's SuperNode and the couriers running.

Nothing slow is imported before it runs, and flwr never (F15). Not here: when (fleet.py), how
(fleet_shell.py).
"""

import json
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from .command_line import Json

FLEET_EXAMPLE: Final = (
    "Example: orthofed client fleet /var/lib/orthofed-courier --superlink fed.example.org:8443"
    " --roots tls-ca.pem --orders /run/orthofed/orders.sock"
)


def fleet(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of the courier alone; made if missing.")
    ],
    superlink: Annotated[str, typer.Option(help="HOST:PORT of the operator's proxy.")],
    roots: Annotated[Path, typer.Option(help="The fleet's authority, from the operator; PEM.")],
    orders: Annotated[Path, typer.Option(help="The socket of `orthofed client daemon`.")],
    port: Annotated[
        int, typer.Option(min=1, max=65_535, help="SuperNode's port, on 127.0.0.1.")
    ] = 9094,
    same_account: Annotated[
        bool,
        typer.Option(
            "--same-account",
            help="Run as the account that owns the images: the operator's code could read them.",
        ),
    ] = False,
    log: Annotated[
        Literal["text", "json"],
        typer.Option(help="How stderr says what happens: a line of text, or one JSON object each."),
    ] = "text",
    as_json: Json = False,
) -> None:
    """Be woken through Flower: run SuperNode until SIGTERM or Ctrl-C, as an account of its own."""
    from ..fleet.account import refuse_the_owners_account
    from ..fleet.flower_tools import FlowerTools
    from ..fleet.journal import to_stderr
    from ..fleet.only_one import only_one
    from .fleet_folder import CourierFolder
    from .fleet_shell import CourierShell

    folder = CourierFolder(directory.absolute(), port)
    tools = FlowerTools.found(folder.home)
    orders = orders.absolute()
    refuse_the_owners_account(orders, holds="images and keys", allowed=same_account)
    to_stderr(log)
    folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with only_one(folder.path):
        folder.make()
        public_key = folder.public_key.read_text("ascii").strip()
        if as_json:
            facts = {
                "schema": "orthofed.client.fleet/1",
                "superlink": superlink,
                "public_key": public_key,
            }
            print(json.dumps(facts), flush=True)
        else:
            print(public_key, flush=True)
            print(f"once, as the owner: orthofed client fleet-key {folder.public_key}", flush=True)
        shell = CourierShell(
            folder, tools, superlink=superlink, roots=roots.absolute(), orders=orders
        )
        shell.run()
