"""The half of `orthofed doctor` that looks at one file; __main__.py sends a folder elsewhere."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from .examined_file import ExaminedFile
    from .file_view import Fixed

EXAMPLE: Final = "Example: orthofed doctor anna.safetensors"


def model_of(place: Path) -> Path:
    """Return the file that a folder of PEFT is, and any other path as it is.

    Raises InputError: the folder is a release, which another command checks.
    """
    from ..core.errors import InputError
    from ..core.shown import shown

    if (place / "manifest.json").is_file() and (place / "info.json").is_file():
        raise InputError(
            f"{shown(str(place), 200)} is a release",
            why="doctor reads one model file, or a coordinator's folder",
            fix="run orthofed verify on the folder, and doctor on a file in it",
            code="not-a-file",
        )
    adapter = place / "adapter_model.safetensors"
    return adapter if adapter.is_file() else place


def examine(path: Path, *, out: Path | None, as_json: bool) -> None:
    """Print what the file is, which programs load it and what is wrong with it.

    ``out``: first write a copy there with what can be fixed, then examine that. Exit code 4: a
    check failed. Raises InputError: there is no file, or ``out`` is there.
    """
    from ..core.errors import InputError
    from ..core.shown import shown
    from .examined_file import examine_file
    from .file_view import file_json, file_text, fix_text

    if not path.is_file():
        raise InputError(
            f"no file or folder at {shown(str(path), 200)}",
            why="doctor reads a model file, or a coordinator's folder",
            fix="give the path of a .safetensors file",
            code="no-such-file",
        )
    found = examine_file(path)
    fixed = None if out is None else _fixed(found, out)
    if fixed is not None and fixed.out is not None:
        found = examine_file(fixed.out)
    if as_json:
        print(json.dumps(file_json(found, fixed)), flush=True)
    else:
        if out is not None:
            print(fix_text(fixed) if fixed else "no copy was written: the file cannot be read")
        print(file_text(found), flush=True)
    if found.failed:
        raise typer.Exit(4)


def _fixed(found: "ExaminedFile", out: Path) -> "Fixed | None":
    """Write the copy; None where the file could not be read, which its report says."""
    from ..core.file_fix import file_fix
    from .file_view import Fixed
    from .fixed_file import write_fixed

    if found.header is None or found.kind is None or found.values is None:
        return None
    fix = file_fix(found.header, found.kind, found.values)
    if not fix.changes:
        return Fixed(None, fix)
    write_fixed(found.path, found.header, fix, out)
    return Fixed(out, fix)
