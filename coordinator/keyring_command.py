"""``orthofed coordinator rotate`` and ``keyring``: new keys, with root keys here or elsewhere.

``rotate`` does it in one step where the root keys lie in the folder. Where they lie on other
machines, as they should, ``keyring propose`` writes a file, ``keyring sign`` adds a signature on
each of those machines, without a network, and ``keyring install`` brings it into the ledger. No
private key is ever printed or given as an argument. docs/keys.md tells when to do what.
"""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .command_line import Folder, Json, desk_of, say, show

if TYPE_CHECKING:
    from ..core.keyring import Keyring
    from ..core.keys import SigningKey
    from .fs import Fs

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
ROTATE_EXAMPLE = "Example: orthofed coordinator rotate fed --ledger --release"

Ledger = Annotated[bool, typer.Option("--ledger", help="Make a new ledger key.")]
Release = Annotated[bool, typer.Option("--release", help="Make a new release key.")]
Keep = Annotated[
    bool, typer.Option("--keep-release", help="With --release: let the old ones sign too.")
]
Days = Annotated[int, typer.Option(min=1, max=3650, help="How long the keyring is in force.")]
Proposal = Annotated[Path, typer.Argument(metavar="FILE", help="The proposed keyring.")]


def rotate(
    directory: Folder,
    ledger: Ledger = False,
    release: Release = False,
    keep_release: Keep = False,
    root: Annotated[
        bool, typer.Option("--root", help="Make a new root key, the only one.")
    ] = False,
    days: Days = 365,
    as_json: Json = False,
) -> None:
    """Give the federation new keys at once, signed by the root keys in its folder."""
    from .keyfile import key_files, read_key
    from .rotation import Change, countersign, newest_public, proposal_bytes, propose

    with desk_of(directory) as (folder, desk):
        newest = newest_public(folder)
        signers = [read_key(path) for path in key_files(folder.keys, "root")]
        _check_roots(newest, {key.public_hex for key in signers})
        own = [_new_root(folder.keys)] if root else []
        change = Change(
            ledger=ledger,
            release=release,
            keep_release=keep_release,
            root=tuple(key.public_hex for key in own),
            need=1 if root else None,
            days=days,
        )
        ring = propose(folder.keys, newest, change, now_s=_now_s(), fs=_fs())
        data = proposal_bytes(ring)
        for key in [*signers, *own]:
            if key.public_hex in (*newest.root, *ring.root):
                data = countersign(data, key)[1]
        desk.ask("keyring-install", {"document": data.decode("ascii")})
    say(f"keep a copy of {directory / 'keys'} elsewhere: backups have no private keys")
    show(_facts(ring), f"keyring {ring.n} is in force", as_json)


@app.command(name="show", epilog="Example: orthofed coordinator keyring show fed")
def show_newest(directory: Folder, as_json: Json = False) -> None:
    """Show the newest keyring: who signs what, and until when."""
    from .folder import DataFolder
    from .rotation import newest_public

    ring = newest_public(DataFolder.open(directory))
    show(_facts(ring), _text(ring), as_json)


@app.command(epilog="Example: orthofed coordinator keyring root root-2.pem")
def root(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The key's file; new.")],
    as_json: Json = False,
) -> None:
    """Make a root key, on the machine where it stays, and print its public half."""
    from ..core.errors import InputError
    from .keyfile import write_key

    if file.exists():
        raise InputError(
            f"{file} is there already",
            why="a root key that is written over is lost",
            fix="choose another file name",
            code="key-exists",
        )
    key = _random_key()
    write_key(file.absolute(), key, fs=_fs())
    value = {"schema": "orthofed.coordinator.keyring.root/1", "root": key.public_hex}
    show(value, key.public_hex, as_json)


@app.command(
    name="propose",
    epilog="Example: orthofed coordinator keyring propose fed --ledger -o next.json",
)
def propose_next(  # noqa: PLR0913, PLR0917  # each is an option that a person may set
    directory: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    ledger: Ledger = False,
    release: Release = False,
    keep_release: Keep = False,
    roots: Annotated[
        list[str] | None,
        typer.Option("--root", help="A root's public key; repeatable: all roots from then on."),
    ] = None,
    need: Annotated[int | None, typer.Option(min=1, help="How many roots must sign.")] = None,
    days: Days = 365,
    as_json: Json = False,
) -> None:
    """Write the next keyring to a file, for the machines with the root keys to sign."""
    from .folder import DataFolder
    from .rotation import Change, newest_public, proposal_bytes, propose

    change = Change(
        ledger=ledger,
        release=release,
        keep_release=keep_release,
        root=tuple(roots or ()),
        need=need,
        days=days,
    )
    folder = DataFolder.open(directory)
    ring = propose(folder.keys, newest_public(folder), change, now_s=_now_s(), fs=_fs())
    _fs().write_whole(out.absolute(), proposal_bytes(ring))
    show(_facts(ring), f"{_text(ring)}\nsign {out} with the root keys, then install it", as_json)


@app.command(epilog="Example: orthofed coordinator keyring sign next.json --key root.pem")
def sign(
    file: Proposal,
    key: Annotated[Path, typer.Option(help="The root key's file.")],
    as_json: Json = False,
) -> None:
    """Add a root's signature to a proposed keyring; needs neither network nor coordinator."""
    from .keyfile import read_key
    from .rotation import countersign

    ring, data = countersign(file.read_bytes(), read_key(key))
    _fs().write_whole(file.absolute(), data)
    show(_facts(ring), f"signed:\n{_text(ring)}", as_json)


@app.command(epilog="Example: orthofed coordinator keyring install fed next.json")
def install(directory: Folder, file: Proposal, as_json: Json = False) -> None:
    """Bring a signed keyring into the ledger; from then on its keys sign and no others."""
    from ..core.errors import InputError
    from .caller import who_runs
    from .clock import SystemClock
    from .folder import DataFolder
    from .rotation import install_stopped

    data, folder = file.read_bytes(), DataFolder.open(directory)
    try:
        with desk_of(directory) as (_, desk):
            document = data.decode("ascii", errors="replace")
            n = desk.ask("keyring-install", {"document": document})["n"]
    except InputError as error:
        if error.code != "bad-key-file":
            raise
        # The ledger key is lost: nobody can run this coordinator before the new key is in force.
        who = who_runs(os.getpid(), os.getuid())
        n = install_stopped(folder, data, who=who, clock=SystemClock(), fs=_fs())
    show(
        {"schema": "orthofed.coordinator.keyring.install/1", "n": n},
        f"keyring {n} is in force",
        as_json,
    )


def _check_roots(newest: "Keyring", have: set[str]) -> None:
    from ..core.errors import InputError

    num = len(have & set(newest.root))
    if num < newest.need:
        raise InputError(
            f"{num} of the {newest.need} root keys that must sign are in the folder",
            why="root keys belong on other machines, and only they can change a keyring",
            fix="run orthofed coordinator keyring propose, sign and install",
            code="roots-elsewhere",
        )


def _new_root(keys: Path) -> "SigningKey":
    from .keyfile import save_next_key

    key = _random_key()
    save_next_key(keys, "root", key, fs=_fs())
    return key


def _random_key() -> "SigningKey":
    import secrets

    from ..core.keys import SigningKey

    return SigningKey.from_seed(secrets.token_bytes(32))


def _facts(ring: "Keyring") -> dict[str, Any]:
    return {
        "schema": "orthofed.coordinator.keyring/1",
        "n": ring.n,
        "ledger": ring.ledger,
        "release": list(ring.release),
        "root": list(ring.root),
        "need": ring.need,
        "until": ring.until,
    }


def _text(ring: "Keyring") -> str:
    until = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(ring.until))
    lines = [f"keyring {ring.n}, in force until {until}"]
    lines.append(f"ledger   {ring.ledger}")
    lines += [f"release  {key}" for key in ring.release]
    lines += [f"root     {key}" for key in ring.root]
    return "\n".join([*lines, f"{ring.need} of {len(ring.root)} roots must sign the next one"])


def _now_s() -> int:
    from .clock import SystemClock

    return SystemClock().wall_s()


def _fs() -> "Fs":
    from .fs import Fs

    return Fs()
