"""``orthofed audit``: options in, a table or JSON out, and exit code 4 for what is nobody's.

Exit code 1 where overlap hides what it is: nothing is against the release, and not all of it for.
Exit code 0 without contributions too: the shares were asked for, and the last lines say no more.

Nothing slow is imported before it runs. Not here: what an audit finds (audit.py).
"""

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from .command_line import HomeOption, Json

EXAMPLE: Final = "Example: orthofed audit some-lora.safetensors --release release-1"


def audit(
    file: Annotated[
        Path,
        typer.Argument(
            help="A LoRA (kohya, diffusers, PEFT), a checkpoint in one file, or a pipeline folder."
        ),
    ],
    release: Annotated[
        str,
        typer.Option(
            help="Folder of pull --contributions; orthofed://... or https://... (newest)."
        ),
    ],
    base: Annotated[
        Path | None, typer.Option(help="For a checkpoint: the base model's folder, or its file.")
    ] = None,
    log: Annotated[
        str | None, typer.Option(help="The log id that the release has to be of, 64 hex digits.")
    ] = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Show who contributed which share of a file; exit code 4 if some of it is nobody's."""
    from .audit_file import audit_file
    from .audit_source import audit_source
    from .audit_view import as_dict, as_text
    from .transfer_view import TransferView

    with audit_source(release, log=log, home=home) as made_of:
        with TransferView("auditing", unit="layers") as view:
            audited = audit_file(file, made_of, base=base, on_layer=view.show)
        manifest = made_of.release.manifest
    print(json.dumps(as_dict(audited, manifest)) if as_json else as_text(audited, manifest))
    if not (audited.findings.clean or audited.findings.shares_only):
        raise typer.Exit(4 if audited.findings.refuted else 1)
