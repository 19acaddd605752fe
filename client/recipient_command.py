"""``orthofed recipient``: a consumer's own key, for what only named consumers can read."""

import json
from pathlib import Path
from typing import Annotated

import typer

from .command_line import Json

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

KeyFile = Annotated[Path, typer.Argument(metavar="FILE", help="The key's file.")]


@app.command(epilog="Example: orthofed recipient new carla.key")
def new(file: KeyFile, as_json: Json = False) -> None:
    """Make a key that opens private contributions, and print the line that data owners need."""
    from .recipient_key import new_recipient

    _print(new_recipient(file).to_text(), as_json=as_json)


@app.command(epilog="Example: orthofed recipient show carla.key")
def show(file: KeyFile, as_json: Json = False) -> None:
    """Print the line that data owners need, from the key's file."""
    from .recipient_key import load_recipient, public_half

    _print(public_half(load_recipient(file)).to_text(), as_json=as_json)


def _print(text: str, *, as_json: bool) -> None:
    print(json.dumps({"schema": "orthofed.recipient/1", "recipient": text}) if as_json else text)
