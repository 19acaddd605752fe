"""``orthofed coordinator approve``: the operator takes a contribution into the next release."""

from typing import Annotated

import typer

from .command_line import MOST_NUMBER, Folder, Json, desk_of, show

EXAMPLE = "Example: orthofed coordinator approve fed 7"
Leaf = Annotated[
    int, typer.Argument(help="Its number: the ledger leaf, as listed.", min=0, max=MOST_NUMBER)
]


def approve(directory: Folder, leaf: Leaf, as_json: Json = False) -> None:
    """Let a quarantined contribution into the next release; it is judged no more."""
    with desk_of(directory) as (_, desk):
        before = desk.ask("approve", {"leaf": leaf})["was"]
    value = {
        "schema": "orthofed.coordinator.approve/1",
        "leaf": leaf,
        "was": before,
        "state": "accepted",
    }
    show(value, f"contribution {leaf} was {before}, is accepted", as_json)
