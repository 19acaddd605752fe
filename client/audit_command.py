"""``orthofed audit``: options in, a table or JSON out, and exit code 4 for what is nobody's.

Nothing slow is imported before it runs. Not here: what an audit finds (audit.py).
"""
# ruff: noqa: FBT002, T201, PLC0415  # as in cli.py: flags, printing, imports inside

import json
from pathlib import Path
from typing import Annotated, Final

import typer

EXAMPLE: Final = "Example: orthofed audit some-lora.safetensors --release release-1"


def audit(
    file: Annotated[
        Path, typer.Argument(help="A LoRA (kohya, diffusers, PEFT) or a diffusers pipeline folder.")
    ],
    release: Annotated[Path, typer.Option(help="Folder that orthofed pull --contributions made.")],
    base: Annotated[
        Path | None, typer.Option(help="For a pipeline folder: the base model's folder.")
    ] = None,
    log: Annotated[
        str | None, typer.Option(help="The log id that the release has to be of, 64 hex digits.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Show who contributed which share of a file; exit code 4 if some of it is nobody's."""
    from .audit_file import audit_file
    from .audit_view import as_dict, as_text
    from .contributions import Contributions
    from .transfer_view import TransferView
    from .verify import verify_folder

    with TransferView("verifying") as view:
        found = verify_folder(release, log=log, on_bytes=view.show)
    with TransferView("auditing", unit="layers") as view:
        made_of = Contributions(release, found.release)
        audited = audit_file(file, made_of, base=base, on_layer=view.show)
    if as_json:
        print(json.dumps(as_dict(audited, found.release.manifest)))
    else:
        print(as_text(audited, found.release.manifest))
    if not audited.findings.clean:
        raise typer.Exit(4)
