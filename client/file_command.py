"""The half of `orthofed doctor` that looks at one file; __main__.py sends a folder elsewhere."""
# ruff: noqa: T201, PLC0415  # as in cli.py: printing, imports inside

import json
from pathlib import Path
from typing import Final

import typer

EXAMPLE: Final = "Example: orthofed doctor anna.safetensors"


def examine(path: Path, *, as_json: bool) -> None:
    """Print what the file is, which programs load it and what is wrong with it.

    Exit code 4: a check failed. Raises InputError: there is no file.
    """
    from ..core.errors import InputError
    from ..core.shown import shown
    from .examined_file import examine_file
    from .file_view import file_json, file_text

    if not path.is_file():
        raise InputError(
            f"no file or folder at {shown(str(path), 200)}",
            why="doctor reads a model file, or a coordinator's folder",
            fix="give the path of a .safetensors file",
            code="no-such-file",
        )
    found = examine_file(path)
    print(json.dumps(file_json(found)) if as_json else file_text(found), flush=True)
    if found.failed:
        raise typer.Exit(4)
