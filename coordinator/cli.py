"""``orthofed coordinator``: init, serve, invite, link, status, release, backup, restore, fork.

Errors are OrthoFedErrors, which __main__ prints. How a command reaches a running coordinator:
command_line.py. Nothing slow is imported before a command runs.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from ..core.published import PublishedModel  # typer reads the options' choices off these two
from ..core.targets import Targets
from . import (
    approve_command,
    audit_log_command,
    contributions_command,
    fleet_command,
    keyring_command,
    login_command,
    members_command,
    order_command,
    publish_command,
    reject_command,
    retention_command,
    revoke_command,
    serve_command,
)
from .command_line import Folder, Json, desk_of, say, show

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

Adapted = Annotated[
    Targets,
    typer.Option(
        "--targets",
        help="Which layers: attention, of the UNet alone, linear too, or convolutions as well.",
    ),
]
Rank = Annotated[int | None, typer.Option(help="Columns a slot owns in each layer; default 20.")]
Capacity = Annotated[int | None, typer.Option(help="How many concepts must fit.")]
_ADMISSION = {
    "gates": "by the gates of this process alone",
    "worker": "by its gates, and pending until `orthofed admit` has measured it on the base",
}
PLAN_EXAMPLE = "Example: orthofed plan --family sd15 --targets all --rank 20"


@app.command(epilog="Example: orthofed coordinator init fed --base ./base --name wren --rank 4")
def init(  # noqa: PLR0913, PLR0917  # a federation has this many choices
    directory: Folder,
    base: Annotated[Path, typer.Option(help="The base model: a diffusers pipeline folder.")],
    name: Annotated[str, typer.Option(help="The federation's name: a-z, 0-9 and hyphens.")],
    rank: Rank = None,
    capacity: Capacity = None,
    targets: Adapted = "attention",
    strength: Annotated[float, typer.Option("--lambda", help="Default merge weight, 0 to 2.")] = 1,
    address: Annotated[str, typer.Option(help="HOST:PORT that invites and links name.")] = "",
    listen: Annotated[str, typer.Option(help="HOST:PORT to listen on.")] = "127.0.0.1:7070",
    hostname: Annotated[
        list[str] | None, typer.Option(help="A name or address for the certificate; repeatable.")
    ] = None,
    ttl: Annotated[int, typer.Option(help="Seconds until an idle lease can be given away.")] = 900,
    leases_a_day: Annotated[int, typer.Option(help="Leases a member may have a day.")] = 3,
    basis: Annotated[str, typer.Option(help="hadamard, haar or gaussian.")] = "hadamard",
    layerwise_tokens: Annotated[
        bool,
        typer.Option(
            "--layerwise-tokens",
            help="Learn vectors for each place where the UNet reads the prompt; only OrthoFed loads"
            " them.",
        ),
    ] = False,
    base_name: Annotated[
        str, typer.Option(help="The base model's public name; default: its folder's.")
    ] = "",
    base_licence: Annotated[
        str, typer.Option(help="The base model's SPDX id.")
    ] = "LicenseRef-unknown",
    base_hint: Annotated[str, typer.Option(help="Where people get the base model.")] = "",
    prompt: Annotated[
        str | None,
        typer.Option(help="Asks the base for {} in its style; default: 'a photo of {}'."),
    ] = None,
    reserve_mib: Annotated[int, typer.Option(help="MiB that stay free on the disk.")] = 2048,
    high_water: Annotated[
        Path | None, typer.Option(help="File of the high-water mark, best on another volume.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Found a federation on a base model, in a new folder."""
    from ..core.address import is_host_port
    from ..core.basis import FAMILIES, Family
    from ..core.errors import InputError
    from ..core.slots import upload_bytes
    from ..core.spec import PROMPT, Limits
    from .clock import SystemClock
    from .folder import Settings
    from .founding import Choices, found
    from .fs import Fs

    family: Family | None = next((each for each in FAMILIES if each == basis), None)
    if family is None or (address and not is_host_port(address)):
        raise InputError(
            f"basis {basis!r}, address {address!r}",
            why=f"a basis is one of {', '.join(FAMILIES)}, an address is HOST:PORT",
            fix="correct the option",
            code="bad-option",
        )
    choices = Choices(
        prompt=PROMPT if prompt is None else prompt,
        name=name,
        rank=rank,
        capacity=capacity,
        lambda_1024=lambda_1024(strength),
        family=family,
        targets=targets,
        layerwise_tokens=layerwise_tokens,
        base_name=base_name,
        base_licence=base_licence,
        limits=Limits(ttl_s=ttl, hold_s=max(86_400, ttl), leases_a_day=leases_a_day),
    )
    hosts = [*(hostname or []), *([address.rpartition(":")[0]] if address else [])]
    settings = Settings(
        base=base.resolve(),
        base_hint=base_hint,
        address=address,
        listen=listen,
        hostnames=tuple(dict.fromkeys([*hosts, "localhost", "127.0.0.1"])),
        reserve_mib=reserve_mib,
        high_water="" if high_water is None else str(high_water.absolute()),
    )
    spec = found(directory, choices, settings, clock=SystemClock(), fs=Fs(), say=say)
    upload = upload_bytes(spec.layers, dict(spec.ranks))
    value = {
        "schema": "orthofed.coordinator.init/1",
        "fed": spec.id,
        "capacity": spec.capacity,
        "layers": len(spec.layers),
        "ranks": {str(width): rank for width, rank in spec.ranks},
        "upload_bytes": upload,
        "token_layers": len(spec.token_layers),
        "base_name": spec.base.name,
    }
    tokens = f", tokens for each of {spec.token_sets} layers" if spec.token_layers else ""
    text = (
        f"federation {spec.name} ({spec.id[:16]}): {spec.capacity} slots over"
        f" {len(spec.layers)} layers, {upload / 1e6:.1f} MB a contribution{tokens}\n"
        f"every file names the base model {spec.base.name!r}; --base-name gives another\n"
        f"move {directory / 'keys' / 'root.pem'} to another machine: only new keys need it\n"
        f"next: orthofed coordinator serve {directory}"
    )
    show(value, text, as_json)


def plan(
    base: Annotated[
        Path | None, typer.Option(help="A base model: a diffusers pipeline folder.")
    ] = None,
    family: Annotated[
        PublishedModel | None,
        typer.Option(help="Instead of a folder: the shapes of a published model."),
    ] = None,
    targets: Adapted = "attention",
    rank: Rank = None,
    capacity: Capacity = None,
    as_json: Json = False,
) -> None:
    """Show how many concepts fit and what one contribution weighs."""
    from ..core.errors import InputError
    from ..core.published import published_layers
    from .base import BaseFolder
    from .planning import Planned

    if (base is None) == (family is None):
        raise InputError(
            f"{2 - (base, family).count(None)} models to plan for",
            why="a plan is for one: a folder, or a published model",
            fix="give either --base FOLDER or --family sd15, sd21 or sdxl",
            code="bad-option",
        )
    if base is not None:
        layers = BaseFolder(base).layers(targets)
    else:
        layers = published_layers(family or "sd15", targets)
    planned = Planned.of(layers, targets=targets, rank=rank, capacity=capacity)
    show(planned.as_dict(), planned.text(), as_json)


def lambda_1024(strength: float) -> int:
    """Return a merge weight in 1024ths; raises InputError outside 0 to 2.

    >>> lambda_1024(0.6)
    614
    """
    from ..core.errors import InputError

    if not 0 <= strength <= 2:  # noqa: PLR2004  # method.md 3.2; also refuses NaN
        raise InputError(
            f"lambda {strength}",
            why="a merge weight is 0 to 2",
            fix="give a number from 0 to 2, such as 1 or 0.6",
            code="bad-lambda",
        )
    return round(strength * 1024)


@app.command(epilog="Example: orthofed coordinator invite fed --uses 5 --days 7")
def invite(
    directory: Folder,
    uses: Annotated[int, typer.Option(help="How many members it lets in.")] = 1,
    days: Annotated[int, typer.Option(help="How many days it lasts.")] = 7,
    operator: Annotated[
        bool, typer.Option("--operator", help="Its members may use the operator's own slots.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print an invite: a secret word that lets data owners join."""
    with desk_of(directory) as (_, desk):
        made = desk.ask("invite", {"uses": uses, "days": days, "operator": operator})
    show({"schema": "orthofed.coordinator.invite/1", **made}, made["invite"], as_json)


@app.command(epilog="Example: orthofed coordinator link fed")
def link(directory: Folder, as_json: Json = False) -> None:
    """Print the federation's public address, which `orthofed pull` takes."""
    with desk_of(directory) as (_, desk):
        made = desk.ask("link", {})
    show({"schema": "orthofed.coordinator.link/1", **made}, made["link"], as_json)


@app.command(epilog="Example: orthofed coordinator status fed --json")
def status(directory: Folder, as_json: Json = False) -> None:
    """Show slots, contributions, ledger and newest release."""
    from .running_leases import lease_line

    with desk_of(directory) as (_, desk):
        found = desk.ask("status", {})
    slots, contributions = found["slots"], found["contributions"]
    lines = [
        f"federation {found['name']} ({found['fed'][:16]}) at {found['address']}",
        f"slots {found['capacity']}: " + ", ".join(f"{n} {phase}" for phase, n in slots.items()),
        *(f"  {lease_line(each)}" for each in found["leases"]),
        "contributions: "
        + (", ".join(f"{n} {state}" for state, n in contributions.items()) or "none"),
        "members: " + ", ".join(f"{n} {how}" for how, n in found["members"].items()),
        f"admission: {_ADMISSION[found['admission']]}",
        f"ledger: {found['ledger_size']} leaves",
        f"newest release: {found['newest_release'] or 'none'}",
        f"free disk: {found['free_bytes'] / 1e9:.1f} GB above the reserve",
    ]
    show(found, "\n".join(lines), as_json)


@app.command(epilog="Example: orthofed coordinator release fed --lambda 0.6")
def release(
    directory: Folder,
    strength: Annotated[
        float | None, typer.Option("--lambda", help="Merge weight, 0 to 2; default the spec's.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Only finish a release that was interrupted.")
    ] = False,
    samples: Annotated[
        bool,
        typer.Option(
            "--samples",
            help="With pictures of concepts whose owners let them be shown, drawn by torch.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Merge every accepted contribution into one signed, published release."""
    from .picturing import drawn
    from .releasing import publish_newest

    draw = drawn if samples else None
    share = None if strength is None else lambda_1024(strength)
    with desk_of(directory) as (folder, desk):
        made = publish_newest(folder, desk, lambda_1024=share, resume=resume, say=say, draw=draw)
    text = (
        f"release {made['n']}: {made['concepts']} concepts in {made['folder']}"
        if made["new"]
        else f"nothing new: release {made['n']} is the newest"
    )
    show({"schema": "orthofed.coordinator.release/1", **made}, text, as_json)


@app.command(epilog="Example: orthofed coordinator backup fed -o /mnt/backup/2026-11-25")
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


@app.command(
    epilog="Example: orthofed coordinator restore /mnt/backup/2026-11-25 fed --keys /mnt/keys"
)
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


@app.command(epilog="Example: orthofed coordinator fork fed --yes")
def fork(
    directory: Folder,
    yes: Annotated[bool, typer.Option("--yes", help="Do it: what is newer is lost.")] = False,
    as_json: Json = False,
) -> None:
    """Go on from a database that is not the newest, and say in public what is lost."""
    from ..core.errors import InputError
    from .audit_log import AuditLog
    from .caller import who_runs
    from .clock import SystemClock
    from .closing import forget_sum
    from .folder import DataFolder
    from .fs import Fs
    from .mark import declare
    from .store import Store

    folder = DataFolder.open(directory)
    fs = Fs(reserve_bytes=folder.settings().reserve_mib << 20)
    if not yes:
        raise InputError(
            "--yes is missing",
            why="every receipt that is newer than this database loses its contribution for good",
            fix="look for a newer backup first; if there is none, add --yes",
            code="option-missing",
        )
    clock = SystemClock()
    with folder.locked():
        log = AuditLog(folder.audit_log, fs=fs, clock=clock)
        act = log.begun(who_runs(os.getpid(), os.getuid()), "fork", {})
        forget_sum(folder, fs=fs)
        store = Store(folder.database, fs=fs)
        try:
            before, now = store.run(lambda db: declare(db, folder, fs=fs, clock=clock))
        finally:
            store.close()
        log.ended(act, "ok")
        log.close()
    lost = 0 if before is None else max(0, before.size - now.size)
    value = {
        "schema": "orthofed.coordinator.fork/1",
        "kept": now.size,
        "lost": lost,
        "mark": str(folder.mark_file()),
    }
    text = f"the ledger goes on from {now.size} leaves; {lost} that the mark knew are lost"
    show(value, f"{text}\nsaid in public/forks.json", as_json)


def doctor(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A coordinator's folder, or a backup.")
    ],
    as_json: Json = False,
) -> None:
    """Read every stored byte and name each bad file; exit code 4 if there is one."""
    from .doctor import examine

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


app.command(epilog=contributions_command.EXAMPLE)(contributions_command.contributions)
app.command(epilog=fleet_command.EXAMPLE)(fleet_command.fleet)
app.command(epilog=approve_command.EXAMPLE)(approve_command.approve)
app.command(epilog=audit_log_command.EXAMPLE)(audit_log_command.audit_log)
app.command("login-link", epilog=login_command.EXAMPLE)(login_command.login_link)
app.command(epilog=keyring_command.ROTATE_EXAMPLE)(keyring_command.rotate)
app.add_typer(keyring_command.app, name="keyring", help="Keyrings: show, root, propose, sign.")
app.command(epilog=publish_command.EXAMPLE)(publish_command.publish)
app.command(epilog=reject_command.EXAMPLE)(reject_command.reject)
app.command(epilog=members_command.EXAMPLE)(members_command.members)
app.command(epilog=revoke_command.EXAMPLE)(revoke_command.revoke)
app.command(epilog=serve_command.EXAMPLE)(serve_command.serve)
app.command(epilog=order_command.EXAMPLE)(order_command.order)
app.command("round", epilog=order_command.ROUND_EXAMPLE)(order_command.round_)
app.command(epilog=order_command.LIST_EXAMPLE)(order_command.orders)
app.command("cancel-order", epilog=order_command.CANCEL_EXAMPLE)(order_command.cancel_order)
app.command(epilog=retention_command.EXAMPLE)(retention_command.retention)
