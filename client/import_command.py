"""The command `orthofed client import`: somebody's LoRA file into a leased slot.

Reads, measures and shows before it leases; then it is `orthofed client train` with another bench
(import_bench.py): the same lease, gate, outbox and receipt. ``--dry-run`` leases and sends nothing.
"""
# ruff: noqa: FBT002, T201, PLC0415  # as in cli.py: flags, printing, imports inside

import json
from pathlib import Path
from typing import Annotated, Final

import typer

IMPORT_EXAMPLE: Final = (
    "Example: orthofed client import anna.safetensors --embedding anna-words.safetensors"
    " --concept anna-k7 --class-noun person --base base"
)


def import_(  # noqa: PLR0913, PLR0917  # each is an option that a person may set
    file: Annotated[Path, typer.Argument(help="The LoRA, kohya's, diffusers' or PEFT's.")],
    concept: Annotated[str, typer.Option(help="Name of the concept, such as anna-k7.")],
    class_noun: Annotated[str, typer.Option(help="What it is one of, such as person.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    embedding: Annotated[Path | None, typer.Option(help="Its embedding, safetensors.")] = None,
    foreign_trigger: Annotated[
        str, typer.Option(help='Words that call it where it has none, such as "sks person".')
    ] = "",
    vectors: Annotated[int, typer.Option(min=1, max=8, help="Vectors or tokens that call it.")] = 2,
    distil: Annotated[
        bool | None, typer.Option("--distil/--no-distil", help="Default: where kept is below .9.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of distillation.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of every draw.")] = None,
    device: Annotated[str | None, typer.Option(help="As orthofed client train.")] = None,
    config: Annotated[Path | None, typer.Option(help="Training settings in TOML.")] = None,
    title: Annotated[str | None, typer.Option(help="Text shown beside the concept.")] = None,
    licence: Annotated[str, typer.Option(help="SPDX id of what you publish.")] = "CC0-1.0",
    pictures: Annotated[
        bool,
        typer.Option(help="Let releases show a picture of it, drawn by the merged model."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be kept; lease and send nothing.")
    ] = False,
    slot: Annotated[int, typer.Option(min=0, help="With --dry-run: in this slot.")] = 0,
    home: Annotated[
        Path | None, typer.Option("--home", help="Folder of this client; default: the user's own.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send without asking.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    patience_s: Annotated[
        float, typer.Option("--patience", min=0, help="Seconds to keep trying.")
    ] = 600,
) -> None:
    """Bring a LoRA that you have into a slot, and send it. Run again to go on."""
    from .asking import check_somebody_answers
    from .happened import Happened
    from .home import Home
    from .import_bench import ImportBench
    from .train_command import train_concept
    from .train_options import TrainOptions
    from .train_view import TrainView

    options = TrainOptions(
        concept=concept,
        noun=class_noun,
        images=file,
        base=base,
        vectors=vectors,
        title=title,
        licence=licence,
        pictures=pictures,
        config=config,
        steps=steps,
        seed=seed,
        device=device,
    )
    bench = ImportBench.asking(embedding=embedding, foreign_trigger=foreign_trigger, distil=distil)
    place = Home.at(home)

    def tell(happened: Happened) -> None:
        line = {"schema": "orthofed.import/1", "event": happened.name, **happened.values}
        print(json.dumps(line), flush=True)

    if dry_run:
        from .import_dry_run import dry_run as measured

        with TrainView() as view:
            report = tell if as_json else view.show
            measured(place, options, bench, slot=slot, report=report)
        return
    check_somebody_answers(yes=yes, as_json=as_json)
    if as_json:
        train_concept(
            place, options, report=tell, ask=lambda _: True, patience_s=patience_s, bench=bench
        )
        return
    with TrainView() as view:
        ask = view.accept if yes else view.ask
        session = train_concept(
            place, options, report=view.show, ask=ask, patience_s=patience_s, bench=bench
        )
    print(f"{session.concept} is with the federation: slot {session.slot}, receipt kept")
