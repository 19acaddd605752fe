"""``orthofed columns``: what each column of a planned federation hears, for `init` and `plan`.

They run it as a process of its own, since the coordinator never loads torch. Not here: which slot
gets which column (core/quiet.py).
"""

from pathlib import Path
from typing import Annotated, Final

import typer

EXAMPLE: Final = "Example: orthofed columns --base base --spec spec.json --prompts p.txt -o u.npz"


def columns(
    base: Annotated[Path, typer.Option(help="The base model: a diffusers pipeline folder.")],
    spec: Annotated[Path, typer.Option(help="The planned spec, as bytes.")],
    prompts: Annotated[Path, typer.Option(help="Public prompts, a line each.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Energies by layer, an .npz file.")],
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, mps or auto.")] = "auto",
) -> None:
    """Measure what each column of a planned basis hears in the base; needs torch."""
    from ..client.loading import loading
    from ..core.spec import FederationSpec

    planned = FederationSpec.from_bytes(spec.read_bytes())
    lines = prompts.read_text("utf-8").splitlines()
    with loading():
        import numpy as np

        from ..client.column_energies import column_energies
    np.savez(out, allow_pickle=False, **column_energies(base, planned, lines, device))
