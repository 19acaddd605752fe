"""``orthofed coordinator init``: what the operator chooses, and the folder that comes of it.

Nothing slow is imported before it runs. Not here: how a federation is founded (founding.py).
"""

from pathlib import Path
from typing import Annotated, Final

import typer

from .command_line import (
    Adapted,
    Capacity,
    Folder,
    Json,
    Overlap,
    QuietColumns,
    Rank,
    lambda_1024,
    say,
    show,
)

EXAMPLE: Final = "Example: orthofed coordinator init fed --base ./base --name wren --rank 4"
_LISTEN: Final = "127.0.0.1:7070"
_NO_LICENCE: Final = "LicenseRef-unknown"
_UNKNOWN: Final = (
    "no licence of the base model is known, and releases hold its weights; --base-licence says it\n"
)


def init(  # noqa: PLR0913, PLR0917  # a federation has this many choices
    directory: Folder,
    base: Annotated[Path, typer.Option(help="The base model: a diffusers pipeline folder.")],
    name: Annotated[str, typer.Option(help="The federation's name: a-z, 0-9 and hyphens.")],
    rank: Rank = None,
    capacity: Capacity = None,
    overlap: Overlap = 1,
    targets: Adapted = "attention",
    strength: Annotated[float, typer.Option("--lambda", help="Default merge weight, 0 to 2.")] = 1,
    address: Annotated[str, typer.Option(help="HOST:PORT that invites and links name.")] = "",
    listen: Annotated[str, typer.Option(help="HOST:PORT to listen on.")] = _LISTEN,
    hostname: Annotated[
        list[str] | None, typer.Option(help="A name or address for the certificate; repeatable.")
    ] = None,
    ttl: Annotated[int, typer.Option(help="Seconds until an idle lease can be given away.")] = 900,
    leases_a_day: Annotated[int, typer.Option(help="Leases a member may have a day.")] = 3,
    basis: Annotated[str, typer.Option(help="hadamard, haar or gaussian.")] = "hadamard",
    quiet_columns: QuietColumns = "",
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
    base_licence: Annotated[str, typer.Option(help="The base model's SPDX id.")] = _NO_LICENCE,
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
    from .columns import read_prompts
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
        prompts=read_prompts(quiet_columns) if quiet_columns else (),
        epochs=overlap,
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
        "disjoint_slots": spec.disjoint_slots,
        "layers": len(spec.layers),
        "ranks": {str(width): rank for width, rank in spec.ranks},
        "upload_bytes": upload,
        "token_layers": len(spec.token_layers),
        "base_name": spec.base.name,
    }
    shared = ""
    if spec.epochs > 1:
        shared = (
            f"slots 0 to {spec.disjoint_slots - 1} share nothing and are leased first; later ones"
            " overlap with some of them, as orthofed plan says\n"
        )
    tokens = f", tokens for each of {spec.token_sets} layers" if spec.token_layers else ""
    text = (
        f"federation {spec.name} ({spec.id[:16]}): {spec.capacity} slots over"
        f" {len(spec.layers)} layers, {upload / 1e6:.1f} MB a contribution{tokens}\n"
        f"{shared}every file names the base model {spec.base.name!r}; --base-name gives another\n"
        f"{_UNKNOWN if base_licence == _NO_LICENCE else ''}"
        f"move {directory / 'keys' / 'root.pem'} to another machine: only new keys need it\n"
        f"next: orthofed coordinator serve {directory}{_listening(address, listen)}"
    )
    show(value, text, as_json)


def _listening(address: str, listen: str) -> str:
    """Return the option of ``serve`` for who named an address and not where to listen.

    >>> _listening("127.0.0.1:7443", "127.0.0.1:7070")
    ' --listen 127.0.0.1:7443'
    >>> _listening("fed.example.org:7443", "127.0.0.1:7070")
    ' --listen 0.0.0.0:7443'
    >>> _listening("fed.example.org:443", "10.0.0.7:7070")
    ''
    """
    if not address or address == listen or listen != _LISTEN:
        return ""
    host, _, port = address.rpartition(":")
    if host not in {"localhost", "127.0.0.1", "[::1]"}:
        host = "[::]" if host.startswith("[") else "0.0.0.0"  # noqa: S104  # told, not bound
    return f" --listen {host}:{port}"
