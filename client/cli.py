"""The commands of the data owner and of the consumer: options in, text or JSON out.

`app` is mounted as ``orthofed client``; `verify` and `demo` stand at the root, as `pull` does
(pull_command.py). Results go to stdout, everything else to stderr; with ``--json`` one object,
or one a line where the command reports progress. Nothing is imported before a command runs but
typer, so that ``--help`` is quick. Exit codes are made by __main__ from the errors' classes.
"""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from . import daemon_command
from .approve_command import APPROVE_EXAMPLE, approve
from .command_line import (
    BaseFolder,
    Certificate,
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
    finite,
)
from .fleet_command import FLEET_EXAMPLE, fleet
from .fleet_key_command import FLEET_KEY_EXAMPLE, fleet_key
from .give_back_command import GIVE_BACK_EXAMPLE, give_back
from .import_command import IMPORT_EXAMPLE, import_
from .recover_command import RECOVER_EXAMPLE, recover
from .rotate_command import ROTATE_EXAMPLE, rotate
from .score_command import SCORE_EXAMPLE, score
from .sent_command import SENT_EXAMPLE, sent
from .settings_command import SETTINGS_EXAMPLE, settings
from .share_command import SHARE_EXAMPLE, share
from .status_command import STATUS_EXAMPLE, status
from .withdraw_command import WITHDRAW_EXAMPLE, withdraw

if TYPE_CHECKING:
    from .happened import Happened

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

EXAMPLES: Final = {
    "demo": "Example: orthofed demo --concepts 4 --out demo",
    "verify": "Example: orthofed verify release-1",
}


@app.command(epilog="Example: orthofed client join --invite invite.txt")
def join(
    url: Annotated[
        str | None, typer.Argument(help="https://HOST:PORT, if not the invite's own address.")
    ] = None,
    invite: Annotated[str, typer.Option("--invite", help="Its file; - for stdin.")] = "",
    certificate: Certificate = None,
    home: HomeOption = None,
    as_json: Json = False,
    patience_s: Patience = 30,
) -> None:
    """Join a federation: pin its ids, register this client's key."""
    from ..core.layout import ContributionLayout
    from . import join as joining
    from .home import Home
    from .invite_file import read_invite

    if not invite:
        raise _needs("--invite", "orthofed client join --invite FILE")
    text = read_invite(invite)
    joined = joining.join(
        Home.at(home), text, url=url, patience_s=patience_s, certificate=certificate
    )
    spec = joined.federation.spec
    facts = {
        "schema": "orthofed.join/1",
        "name": spec.name,
        "fed": spec.id,
        "log": joined.membership.log,
        "capacity": spec.capacity,
        "disjoint_slots": spec.disjoint_slots,
        "free_slots": joined.free_slots,
        "upload_bytes": ContributionLayout(spec, (2,)).size,
        "base": spec.base.name,
    }
    if as_json:
        print(json.dumps(facts))
        return
    print(f"joined    {facts['name']}")
    print(f"spec      {facts['fed']}")
    print(f"base      {facts['base']}")
    print(f"slots     {facts['free_slots']} of {facts['capacity']} are free")
    if spec.disjoint_slots < spec.capacity:
        print(f"overlap   only the first {spec.disjoint_slots} share nothing with any other")
    print(f"upload    {facts['upload_bytes']:,} bytes a concept")


@app.command(
    epilog="Example: orthofed client train --concept anna-k7 --class-noun person"
    " --images photos --base base"
)
def train(  # noqa: PLR0913, PLR0917  # each is an option that a person may set
    concept: ConceptOption,
    class_noun: ClassNoun,
    images: Annotated[Path, typer.Option(help="Folder of images; it stays at home.")],
    base: BaseFolder,
    trigger: Annotated[
        list[str] | None, typer.Option(help="Trigger word; repeatable; default: the concept.")
    ] = None,
    vectors: Annotated[int, typer.Option(min=1, max=8, help="Learned vectors a trigger.")] = 2,
    title: Title = None,
    licence: Licence = None,
    pictures: Pictures = None,
    corrective: Annotated[
        bool,
        typer.Option("--corrective", help="Train what was sent further, in the newest release."),
    ] = False,
    shared: Shared = False,
    share_file: ShareFile = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    seed: Seed = None,
    device: Device = None,
    dp: Annotated[
        str | None, typer.Option(help="eps=8: differential privacy per image; needs hundreds.")
    ] = None,
    dp_mode: Annotated[
        str | None, typer.Option(help="sgd or mean: mean is for 30 images or more, words alone.")
    ] = None,
    config: TrainingConfig = None,
    preset: Annotated[
        str | None, typer.Option(help="Settings by name; orthofed client settings lists them.")
    ] = None,
    home: HomeOption = None,
    private_to: Annotated[
        list[str] | None,
        typer.Option(help="Seal for this consumer alone: ofr1:... or a file; repeatable."),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
    patience_s: Patience = 600,
) -> None:
    """Teach one concept from your images and send what was learnt. Run again to go on."""
    from .asking import check_somebody_answers
    from .egress import beforehand
    from .home import Home
    from .invite_file import read_share
    from .recipient_key import recipients
    from .train_command import train_concept
    from .train_options import TrainOptions
    from .train_view import TrainView

    check_somebody_answers(yes=yes, as_json=as_json)
    options = TrainOptions(
        concept=concept,
        noun=class_noun,
        images=images,
        base=base,
        triggers=tuple(trigger or ()),
        vectors=vectors,
        title=title,
        licence=licence,
        pictures=pictures,
        config=config,
        preset=preset,
        steps=steps,
        seed=seed,
        device=device,
        private_to=recipients(private_to or ()),
        dp_epsilon=TrainOptions.epsilon_of(dp),
        dp_mode=dp_mode,
        corrective=corrective,
        shared=shared,
        share=read_share(share_file) if share_file else None,
    )
    place = Home.at(home)
    if as_json:
        train_concept(
            place, options, report=_print_event, ask=beforehand(concept), patience_s=patience_s
        )
        return
    with TrainView() as view:
        ask = beforehand(concept, view.accept) if yes else view.ask
        session = train_concept(place, options, report=view.show, ask=ask, patience_s=patience_s)
    print(f"{session.concept} is with the federation: slot {session.slot}, receipt kept")


app.command("import", epilog=IMPORT_EXAMPLE)(import_)
app.command(epilog=SETTINGS_EXAMPLE)(settings)


app.command(epilog=SCORE_EXAMPLE)(score)


@app.command(epilog="Example: orthofed client fetch-base owner/name base --revision main")
def fetch_base(
    source: Annotated[str, typer.Argument(help="A hub id, or one .safetensors file.")],
    folder: Annotated[Path, typer.Argument(help="The folder to make.")],
    config: Annotated[
        Path | None, typer.Option(help="Pipeline folder with the configs of a single file.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch of the hub.")] = None,
    as_json: Json = False,
) -> None:
    """Make the base model's folder out of a hub repository or a single file."""
    from .base import fingerprint_of
    from .fetch_base import fetch_base as fetch

    made = fetch(source, folder, config=config, revision=revision)
    found = fingerprint_of(made)
    if as_json:
        facts = {"schema": "orthofed.base/1", "folder": str(made), "fingerprint": found}
        print(json.dumps(facts))
        return
    print(f"base         {made}")
    print(f"fingerprint  {found}")


app.command(epilog=STATUS_EXAMPLE)(status)
daemon_command.register(app)
app.command(epilog=APPROVE_EXAMPLE)(approve)
app.command(epilog=SHARE_EXAMPLE)(share)
app.command("give-back", epilog=GIVE_BACK_EXAMPLE)(give_back)
app.command(epilog=WITHDRAW_EXAMPLE)(withdraw)
app.command(epilog=FLEET_EXAMPLE)(fleet)
app.command(epilog=FLEET_KEY_EXAMPLE)(fleet_key)
app.command(epilog=SENT_EXAMPLE)(sent)
app.command(epilog=RECOVER_EXAMPLE)(recover)
app.command(epilog=ROTATE_EXAMPLE)(rotate)


def demo(
    concepts: Annotated[int, typer.Option(help="How many data owners, each with a concept.")] = 4,
    out: Annotated[Path, typer.Option(help="Folder for everything; it is emptied.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of every training.")] = 0,
    rank: Annotated[int, typer.Option(min=1, help="Columns of a slot.")] = 8,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps a client.")] = None,
    lambda_: Annotated[
        float,
        typer.Option(
            "--lambda", min=0, max=2, callback=finite, help="Merge weight of the release."
        ),
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """Run a whole federation on this machine: coordinator, data owners, release, consumer."""
    from .demo import DemoSettings, report_rows, run_demo

    report = run_demo(
        DemoSettings(concepts=concepts, out=out, seed=seed, rank=rank, steps=steps, lambda_=lambda_)
    )
    if as_json:
        print(json.dumps(report))
        return
    print("concept       slot  retention  at 0.6  L base  single  merged  seconds  bytes sent")
    for row in report_rows(report):
        print(
            f"{row.name:<12}  {row.slot:>4}  {row.retention:>9.3f}  {row.retention_06:>6.3f}"
            f"  {row.loss_base:.4f}  {row.loss_single:.4f}  {row.loss_merged:.4f}"
            f"  {row.train_s:>7.0f}  {row.upload_bytes:>10,}"
        )
    print(f"verified {report['verified']}, lambda {report['lambda']}, {report['seconds']} s")
    print(f"report  {out / 'report.html'}")


def verify(
    directory: Annotated[Path, typer.Argument(help="Folder that orthofed pull made.")],
    log: Annotated[
        str | None, typer.Option(help="The log id that it has to be of, 64 hex digits.")
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Derive every byte from the contributions; see --base")
    ] = False,
    base: Annotated[
        Path | None, typer.Option(help="Base model, for --rebuild or a composed whole model.")
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Day on which keys must be in force; today."),
    ] = None,
    max_age_days: Annotated[
        int | None, typer.Option(min=0, help="Refuse a ledger head older than this.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a pulled release without a network: signatures, ledger proof, every byte."""
    from .rebuild_command import rebuild_release, rebuilt_text
    from .transfer_view import TransferView
    from .verify import verify_folder
    from .verify_composed import is_composed
    from .verify_composed_command import tell_composed

    if rebuild and base is None:
        raise _needs("--base", "the same command with --base FOLDER")
    with TransferView("verifying") as view:
        now_s = int(at.replace(tzinfo=UTC).timestamp() + 86_399 if at else time.time())
        max_age_s = None if max_age_days is None else max_age_days * 86_400
        if is_composed(directory):
            tell_composed(directory, base, log, now_s=now_s, max_age_s=max_age_s, as_json=as_json)
            return
        found = verify_folder(
            directory, log=log, now_s=now_s, max_age_s=max_age_s, on_bytes=view.show
        )
    head, age_s = found.view.head, max(0, now_s - found.view.head.t)
    if rebuild and base is not None:
        rebuild_release(directory, found.release, base)
    manifest = found.release.manifest
    if as_json:
        facts = {
            "schema": "orthofed.verify/1",
            "verified": True,
            "release": manifest.n,
            "fed": manifest.fed,
            "log": manifest.log,
            "files": found.num_files,
            "of_files": len(manifest.files),
            "as": found.kinds,
            "made": found.num_made,
            "bytes": found.num_bytes,
            "rebuilt": rebuild,
            "size": head.size,
            "root": head.root,
            "head_age_s": age_s,
        }
        print(json.dumps(facts))
        return
    part = f" of {len(manifest.files)}, for {', '.join(found.kinds)}" if found.kinds else ""
    made = f" and {found.num_made} made by a consumer" if found.num_made else ""
    files = f"{found.num_files} files{part}{made}"
    print(f"verified: release {manifest.n}, {files}, {found.num_bytes:,} bytes")
    if rebuild:
        print(rebuilt_text(manifest))
    print(f"ledger    {head.size} leaves, head signed {age_s / 86_400:.1f} days before")
    print(f"log id    {manifest.log}")


def _print_event(happened: "Happened") -> None:
    line = {"schema": "orthofed.train/1", "event": happened.name, **happened.values}
    print(json.dumps(line), flush=True)


def _needs(option: str, example: str) -> Exception:
    from ..core.errors import InputError

    return InputError(
        f"{option} is missing",
        why="it is needed",
        fix=f"run {example}",
        code="option-missing",
    )
