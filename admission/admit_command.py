"""``orthofed admit``: measure what waits, on the base itself, and tell the coordinator.

What it does is worker.py's; nothing slow is imported before the command runs.
"""

import time
from typing import Annotated, Final

import typer

from ..coordinator.command_line import Folder, Json, show

EXAMPLE: Final = "Example: orthofed admit fed --watch"
_PAUSE_S: Final = 5.0


def admit(
    directory: Folder,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until Ctrl-C, beside a running coordinator.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, mps or auto.")] = "auto",
    as_json: Json = False,
) -> None:
    """Measure new contributions on the base model; needs what the client needs (torch)."""
    from .worker import Worker

    worker = Worker(directory, device, is_beside=watch)
    done = worker.once()
    while watch:
        time.sleep(_PAUSE_S)
        done += worker.once()
    value = {"schema": "orthofed.admit/1", "contributions": done}
    lines = [f"{each['leaf']:>5}  {each['state']}" for each in done]
    show(value, "\n".join(lines) or "nothing to measure", as_json)
