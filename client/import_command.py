"""The command `orthofed client import`: somebody's LoRA file into a leased slot.

Reads, measures and shows before it leases; then it is `orthofed client train` with another bench
(import_bench.py): the same lease, gate, outbox and receipt. ``--dry-run`` leases and sends nothing.
"""

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from .command_line import (
    BaseFolder,
    ClassNoun,
    ConceptOption,
    Device,
    HomeOption,
    Json,
    Licence,
    Patience,
    Pictures,
    Seed,
    Shared,
    ShareFile,
    Title,
    TrainingConfig,
    Yes,
)

IMPORT_EXAMPLE: Final = (
    "Example: orthofed client import anna.safetensors --embedding anna-words.safetensors"
    " --concept anna-k7 --class-noun person --base base"
)


def import_(  # noqa: PLR0913, PLR0917  # each is an option that a person may set
    file: Annotated[
        Path, typer.Argument(dir_okay=False, help="The LoRA, kohya's, diffusers' or PEFT's.")
    ],
    concept: ConceptOption,
    class_noun: ClassNoun,
    base: BaseFolder,
    embedding: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Its embedding, safetensors.")
    ] = None,
    foreign_trigger: Annotated[
        str, typer.Option(help='Words that call it where it has none, such as "sks person".')
    ] = "",
    vectors: Annotated[int, typer.Option(min=1, max=8, help="Vectors or tokens that call it.")] = 2,
    distil: Annotated[
        bool | None, typer.Option("--distil/--no-distil", help="Default: where kept is below .9.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of distillation.")] = None,
    seed: Seed = None,
    device: Device = None,
    config: TrainingConfig = None,
    title: Title = None,
    licence: Licence = None,
    pictures: Pictures = None,
    shared: Shared = False,
    share_file: ShareFile = None,
    num_images: Annotated[
        int | None,
        typer.Option(min=1, help="With --shared or --share: images that the LoRA was made from."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be kept; lease and send nothing.")
    ] = False,
    slot: Annotated[int, typer.Option(min=0, help="With --dry-run: in this slot.")] = 0,
    home: HomeOption = None,
    yes: Yes = False,
    as_json: Json = False,
    patience_s: Patience = 600,
) -> None:
    """Bring a LoRA that you have into a slot, and send it. Run again to go on."""
    from .asking import check_somebody_answers
    from .happened import Happened
    from .home import Home
    from .import_bench import ImportBench
    from .invite_file import read_share
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
        shared=shared,
        share=read_share(share_file) if share_file else None,
        config=config,
        steps=steps,
        seed=seed,
        device=device,
    )
    bench = ImportBench.asking(
        embedding=embedding,
        foreign_trigger=foreign_trigger,
        distil=distil,
        num_images=num_images,
    )
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
