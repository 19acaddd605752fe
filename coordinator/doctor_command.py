"""``orthofed doctor`` of a coordinator's folder, or of a backup: every stored byte is read.

Exit code 4: something is damaged. Not here: what is looked at (doctor.py).
"""

from pathlib import Path
from typing import Annotated

import typer

from .command_line import Json, say, show


def doctor(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A coordinator's folder, or a backup.")
    ],
    as_json: Json = False,
) -> None:
    """Read every stored byte and name each bad file; exit code 4 if there is one."""
    from ..core.errors import InputError
    from .doctor import examine

    if (directory / "model_index.json").is_file():
        raise InputError(
            f"{directory} is a diffusers pipeline",
            why="doctor reads one model file, or a whole coordinator's folder",
            fix="give a file in it, or run orthofed audit on the folder",
            code="not-a-coordinator",
        )
    found = examine(directory, say=say)
    scrubbed = found.scrubbed
    value = {
        "schema": "orthofed.doctor/1",
        "healthy": found.healthy,
        "findings": [{"file": each.file, "what": each.what} for each in scrubbed.findings],
        "warnings": [{"file": each.file, "what": each.what} for each in found.warnings],
        "leaves": scrubbed.leaves,
        "files": scrubbed.files,
        "bytes": scrubbed.num_bytes,
        "sqlite": found.sqlite,
    }
    lines = [f"warning: {each.file} {each.what}" for each in found.warnings]
    lines += [f"damaged: {each.file} {each.what}" for each in scrubbed.findings]
    state = "healthy" if found.healthy else f"{len(scrubbed.findings)} findings"
    lines.append(
        f"{state}: {scrubbed.leaves} ledger leaves, {scrubbed.files} files,"
        f" {scrubbed.num_bytes:,} bytes read"
    )
    show(value, "\n".join(lines), as_json)
    if not found.healthy:
        raise typer.Exit(4)
