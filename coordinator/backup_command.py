"""``orthofed coordinator backup``: a checked copy of the folder, made while the coordinator runs.

Not here: what is copied, and how (backup.py).
"""

from pathlib import Path
from typing import Annotated, Final

import typer

from .command_line import Folder, Json, say, show

EXAMPLE: Final = "Example: orthofed coordinator backup fed -o /mnt/backup/2026-11-25"


def backup(
    directory: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the backup; new or empty.")],
    as_json: Json = False,
) -> None:
    """Copy everything but the private keys, checked to the byte, while the coordinator runs."""
    from .backup import back_up
    from .clock import SystemClock
    from .folder import DataFolder
    from .fs import Fs

    folder = DataFolder.open(directory)
    made = back_up(folder, out.absolute(), fs=Fs(), clock=SystemClock(), say=say)
    total = sum(file.bytes for file in made.files)
    value = {
        "schema": "orthofed.coordinator.backup/1",
        "folder": str(out),
        "fed": made.fed,
        "log": made.log,
        "leaves": made.size,
        "root": made.root,
        "files": len(made.files),
        "bytes": total,
        "keys": False,
    }
    text = (
        f"backup of {made.size} ledger leaves in {out}: {len(made.files)} files, {total:,} bytes,"
        f" each hashed\nprivate keys are not in it: keep a copy of {folder.keys} elsewhere"
    )
    show(value, text, as_json)
