"""``orthofed coordinator reject``: the operator keeps a contribution out for good."""

from typing import Annotated

import typer

from .approve_command import Leaf
from .command_line import Folder, Json, desk_of, show

EXAMPLE = 'Example: orthofed coordinator reject fed 7 --why "it draws somebody else"'
_MOST = 1_000


def reject(
    directory: Folder,
    leaf: Leaf,
    why: Annotated[str, typer.Option("--why", help="What its contributor is told.")],
    as_json: Json = False,
) -> None:
    """Keep a contribution out of every later release; its slot is free again when none holds it."""
    from ..core.errors import InputError

    if not why.strip() or len(why) > _MOST:
        raise InputError(
            f"a reason of {len(why.strip())} characters",
            why=f"the contributor reads it: 1 to {_MOST} characters",
            fix="say in one sentence what is wrong with the contribution",
            code="bad-reason",
        )
    with desk_of(directory) as (_, desk):
        desk.ask("reject", {"leaf": leaf, "why": why.strip()})
    value = {"schema": "orthofed.coordinator.reject/1", "leaf": leaf, "state": "rejected"}
    show(value, f"contribution {leaf} is rejected; its owner reads why in client status", as_json)
