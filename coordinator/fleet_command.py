"""``orthofed coordinator fleet``: keeps Flower's SuperLink and the bridge running.

Nothing slow is imported before it runs, and flwr never (F15). Not here: when (fleet.py), how
(fleet_shell.py).
"""

from pathlib import Path
from typing import Annotated

import typer

from .command_line import Json, Log, show

EXAMPLE = (
    "Example: orthofed coordinator fleet /var/lib/orthofed-fleet --bridge /run/orthofed/bridge.sock"
)


def fleet(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of the fleet alone; made if missing.")
    ],
    bridge: Annotated[Path, typer.Option(help="The socket of `orthofed coordinator serve`.")],
    port: Annotated[
        int, typer.Option(min=1, max=65_535, help="SuperLink's port, on 127.0.0.1.")
    ] = 8000,
    hostname: Annotated[
        list[str] | None, typer.Option(help="What clients call the proxy; repeatable.")
    ] = None,
    same_account: Annotated[
        bool,
        typer.Option(
            "--same-account",
            help="Run as the account that owns the ledger: delivered code could read its keys.",
        ),
    ] = False,
    log: Log = "text",
    as_json: Json = False,
) -> None:
    """Wake clients through Flower: run SuperLink and the bridge until SIGTERM or Ctrl-C."""
    import datetime as dt

    from ..fleet.account import refuse_the_owners_account
    from ..fleet.flower_tools import FlowerTools
    from ..fleet.journal import to_stderr
    from ..fleet.only_one import only_one
    from .fleet_folder import FleetFolder
    from .fleet_shell import FleetShell
    from .fs import Fs

    folder = FleetFolder(directory.absolute(), port)
    tools = FlowerTools.found(folder.home)
    bridge = bridge.absolute()
    refuse_the_owners_account(bridge, holds="the ledger and its keys", allowed=same_account)
    to_stderr(log)
    Fs().make_folder(folder.path, mode=0o700)
    with only_one(folder.path):
        folder.make(tuple(hostname or ()), bridge=bridge, now=dt.datetime.now(dt.UTC))
        value = {
            "schema": "orthofed.coordinator.fleet/1",
            "superlink": folder.address,
            "authority": str(folder.authority),
        }
        text = f"SuperLink on {folder.address}\nclients need {folder.authority}"
        show(value, text, as_json)
        FleetShell(folder, tools, bridge).run()
