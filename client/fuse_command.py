"""``orthofed fuse``: options in, one LoRA file out; how it is fitted is fuse.py's."""

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from .command_line import BaseFolder, Json
from .loading import loading

EXAMPLE: Final = "Example: orthofed fuse release-1 --base base -o fused.safetensors"


def fuse(
    directory: Annotated[Path, typer.Argument(help="A pulled release.")],
    base: BaseFolder,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            help="What each concept is drawn by, with {} for its words; repeatable; default: the"
            ' federation\'s own and "a picture of {}".',
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The LoRA to write.")] = Path(
        "fused.safetensors"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the pictures.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Json = False,
) -> None:
    """Fit the concepts of a release to each other's company: one LoRA of the same size.

    For many concepts in one model. Nobody signs the result; the release's own LoRA is the exact
    merge, and what orthofed verify and audit speak of.
    """
    from ..core.shown import shown
    from .transfer_view import TransferView
    from .variant import spec_of

    spec = spec_of(directory)
    with loading():
        from .fuse import Fusion

    with TransferView("fusing", unit="concepts") as view:
        found = Fusion(directory, spec, base, prompts or [], seed, device).write(out, view.show)
    if as_json:
        kept = {
            each.concept: {"summed": round(each.summed, 4), "fused": round(each.fused, 4)}
            for each in found
        }
        print(json.dumps({"schema": "orthofed.fuse/1", "file": str(out), "error": kept}))
        return
    names = [shown(each.concept, 60) for each in found]  # of a folder that nobody verified
    width = max(map(len, ("concept", *names)))
    print(f"{'concept':{width}}  error when summed  when fused")
    for name, each in zip(names, found, strict=True):
        print(f"{name:{width}}  {each.summed:17.3f}  {each.fused:10.3f}")
    print(f"{len(found)} concepts in {out}, at their full weight; signed by nobody")
