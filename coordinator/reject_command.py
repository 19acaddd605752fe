"""``orthofed coordinator reject``: the operator keeps a contribution out for good."""

from typing import Annotated

import typer

from .approve_command import Leaf
from .command_line import Folder, Json, desk_of, show

EXAMPLE = 'Example: orthofed coordinator reject fed 7 --why "it draws somebody else"'


def reject(
    directory: Folder,
    leaf: Leaf,
    why: Annotated[str, typer.Option("--why", help="What its contributor is told.")],
    as_json: Json = False,
) -> None:
    """Keep a contribution out of every later release; its slot is free again when none holds it."""
    from .reason import reason

    told = reason(why)
    with desk_of(directory) as (_, desk):
        desk.ask("reject", {"leaf": leaf, "why": told})
    value = {"schema": "orthofed.coordinator.reject/1", "leaf": leaf, "state": "rejected"}
    show(value, f"contribution {leaf} is rejected; its owner reads why in client status", as_json)
