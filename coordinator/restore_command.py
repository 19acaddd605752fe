"""``orthofed coordinator restore``: a coordinator's folder out of a backup, checked to the byte.

Not here: how it is made, and what the high-water mark knows (restore.py).
"""

from pathlib import Path
from typing import Annotated, Final

import typer

from .command_line import Json, say, show

EXAMPLE: Final = "Example: orthofed coordinator restore /mnt/backup/2026-11-25 fed --keys /mnt/keys"


def restore(
    backup_folder: Annotated[Path, typer.Argument(metavar="BACKUP", help="A whole backup.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
    keys: Annotated[
        Path | None, typer.Option(help="Folder with the federation's private keys.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a backup to the byte, then make a coordinator's folder of it."""
    from .fs import Fs
    from .restore import restore as bring_back

    made = bring_back(backup_folder, directory.absolute(), keys=keys, fs=Fs(), say=say)
    value = {
        "schema": "orthofed.coordinator.restore/1",
        "folder": str(directory),
        "leaves": made.manifest.size,
        "keys": made.has_keys,
        "lost": made.lost,
    }
    lines = [
        f"{directory} holds {made.manifest.size} ledger leaves",
        "what came after them is not here; `orthofed client status` tells whoever has its receipt",
    ]
    if not made.has_keys:
        lines.append(f"put the private keys back into {directory / 'keys'} before you serve")
    if made.lost:
        lines.append(
            f"the high-water mark knows {made.lost} leaves more: serve will refuse to start;"
            " restore a newer backup, or run orthofed coordinator fork"
        )
    show(value, "\n".join(lines), as_json)
