"""``orthofed pull``: a release, or with ``--key`` a merge with what only this key opens."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .command_line import Certificate, HomeOption, Json, Patience, finite

if TYPE_CHECKING:
    from .local_merge import Merged
    from .open_origin import Opened
    from .seen_heads import SeenHeads

EXAMPLE = "Example: orthofed pull orthofed://example.org:7443/LOG -o release-1"


def pull(  # noqa: PLR0913, PLR0917  # each is an option that a person may set
    url: Annotated[
        str, typer.Argument(help="The federation's link, orthofed://..., or https://HOST/PATH#LOG.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the release.")],
    release: Annotated[int, typer.Option(min=0, help="Release number; 0: the newest.")] = 0,
    contributions: Annotated[
        bool, typer.Option("--contributions", help="Also fetch what verify --rebuild needs.")
    ] = False,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            help="Only files for kohya, a1111, diffusers, peft, checkpoint or full; repeatable.",
        ),
    ] = None,
    concept: Annotated[
        list[str] | None,
        typer.Option(help="Compose this concept's files at home, exactly; repeatable."),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(help="NAME=0.8: weight of a concept, to 1/1024; repeatable; composes too."),
    ] = None,
    mirror: Annotated[
        list[str] | None,
        typer.Option(help="https://HOST/PATH that has the files too; asked first; repeatable."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="Merge at home with what is sealed for this key; needs --base."),
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="Base model's folder: for --key, and to make whole models.")
    ] = None,
    lambda_: Annotated[
        float | None,
        typer.Option(
            "--lambda",
            min=0,
            max=2,
            callback=finite,
            help="With --key: weight of the private ones.",
        ),
    ] = None,
    home: HomeOption = None,
    certificate: Certificate = None,
    as_json: Json = False,
    patience_s: Patience = 120,
) -> None:
    """Fetch a release and check every byte. Run again to go on after a break."""
    from .client_certificate import read_certificate
    from .home import Home
    from .open_origin import open_origin
    from .seen_heads import SeenHeads

    if base is not None and key is None and not {"checkpoint", "full"} & set(kinds or ()):
        raise _needless_base()
    if lambda_ is not None and key is None:
        raise _needless_lambda()
    place = Home.at(home)
    shown = place.certificate() if certificate is None else read_certificate(certificate)
    with open_origin(url, mirrors=mirror or (), certificate=shown, patience_s=patience_s) as opened:
        seen = SeenHeads(place.folder)
        if concept or weight:
            if key is not None or contributions:
                raise _either()
            chosen = (concept or [], weight or [])
            _compose(opened, seen, out, release, chosen, kinds or [], base, as_json)
        elif key is None:
            _pull(opened, seen, out, release, contributions, kinds or [], base, as_json)
        else:
            merged = _merge(opened, seen, out, release, key, base, lambda_, kinds or [])
            _tell_merged(merged, out, as_json)


def _pull(
    opened: "Opened",
    seen: "SeenHeads",
    out: Path,
    release: int,
    contributions: bool,
    kinds: list[str],
    base: Path | None,
    as_json: bool,
) -> None:
    from .base_folder import BaseFolder
    from .choice import chosen_derived, chosen_files
    from .derived_files import INFO, derived_of
    from .pull import Pull
    from .transfer_view import TransferView

    with TransferView("pulling") as view:
        pull = Pull(
            opened.origin,
            opened.log,
            out.absolute(),
            seen,
            view.show,
            mirrors=opened.mirrors,
            base=None if base is None else BaseFolder(base),
        )
        found = pull.run(release, contributions=contributions, kinds=kinds)
    manifest = found.manifest
    derived = derived_of(out / INFO, manifest)
    files, made = chosen_files(manifest, kinds, derived), chosen_derived(derived, kinds)
    total = sum(file.bytes for file in (*files, *made))
    gone = Counter(why for _, why in manifest.left_out)
    if as_json:
        facts = {
            "schema": "orthofed.pull/1",
            "release": manifest.n,
            "fed": manifest.fed,
            "log": manifest.log,
            "files": len(files),
            "of_files": len(manifest.files),
            "made": len(made),
            "bytes": total,
            "fetched_bytes": pull.traffic.fetched_bytes,
            "saved_bytes": pull.traffic.saved_bytes,
            "concepts": len(manifest.contributions),
            "left_out": dict(sorted(gone.items())),
            "folder": str(out),
        }
        print(json.dumps(facts))
        return
    part = f" of {len(manifest.files)}" if kinds else ""
    part += f" and {len(made)} made here" if made else ""
    print(f"release {manifest.n} in {out}: {len(files)} files{part}, {total:,} bytes, verified")
    cost = pull.traffic
    print(f"fetched {cost.fetched_bytes:,} bytes, {cost.saved_bytes:,} were here or made here")
    if gone:
        told = ", ".join(f"{number} {why}" for why, number in sorted(gone.items()))
        print(f"left out of it: {told}")
    if not manifest.contributions:
        print("it holds no concept that everybody may read")
        if "private" in gone:
            print("what is sealed for you is merged by the same command with --key and --base")


def _compose(
    opened: "Opened",
    seen: "SeenHeads",
    out: Path,
    release: int,
    chosen: tuple[list[str], list[str]],
    kinds: list[str],
    base: Path | None,
    as_json: bool,
) -> None:
    from .base_folder import BaseFolder
    from .compose import Compose
    from .composition import weights_of
    from .transfer_view import TransferView

    concepts, weights = chosen[0], weights_of(chosen[1])
    with TransferView("pulling") as view:
        compose = Compose(
            opened.origin,
            opened.log,
            out.absolute(),
            seen,
            view.show,
            mirrors=opened.mirrors,
            base=None if base is None else BaseFolder(base),
        )
        found = compose.run(release, concepts, weights, kinds)
    if as_json:
        facts = {
            "schema": "orthofed.pull.composed/1",
            "release": found.n,
            "fed": found.fed,
            "log": found.log,
            "files": found.num_files,
            "bytes": found.num_bytes,
            "fetched_bytes": found.fetched_bytes,
            "weights_1024": found.weights,
            "folder": str(out),
        }
        print(json.dumps(facts))
        return
    print(
        f"composed from release {found.n} in {out}: {found.num_files} files,"
        f" {found.num_bytes:,} bytes, out of {found.fetched_bytes:,} fetched"
    )
    for name, share in found.weights.items():
        print(f"{name}  weight {share}/1024 = {share / 1024:.4f}")
    also = " from the base too (--base)" if {"checkpoint", "full"} & set(kinds) else ""
    print(f"signed by nobody; orthofed verify derives every byte anew{also}")


def _either() -> Exception:
    from ..core.errors import InputError

    return InputError(
        "--concept or --weight beside --key or --contributions",
        why="a composition is of public contributions, and always holds what it was made of",
        fix="run the command with one of them",
        code="bad-option",
    )


def _needless_base() -> Exception:
    from ..core.errors import InputError

    return InputError(
        "--base without --key, --as full or --as checkpoint",
        why="the base model makes whole models and nothing else",
        fix="leave --base out, or add --as full",
        code="bad-option",
    )


def _needless_lambda() -> Exception:
    from ..core.errors import InputError

    return InputError(
        "--lambda without --key",
        why="it weighs the private contributions, which a key opens; a release has its weights",
        fix="leave --lambda out, or compose with --weight NAME=0.8",
        code="bad-option",
    )


def _merge(
    opened: "Opened",
    seen: "SeenHeads",
    out: Path,
    release: int,
    key: Path,
    base: Path | None,
    strength: float | None,
    kinds: list[str],
) -> "Merged":
    from ..core.errors import InputError
    from .base_folder import BaseFolder
    from .local_merge import LocalMerge
    from .recipient_key import load_recipient
    from .transfer_view import TransferView

    if base is None:
        raise InputError(
            "--base is missing",
            why="with --key the model is merged here, and that needs the base model",
            fix="add --base and the folder of the base model",
            code="option-missing",
        )
    if opened.channel is None:
        raise InputError(
            "--key with the address of a web server",
            why="what is sealed is given by the coordinator alone",
            fix="give the federation's link, orthofed://...",
            code="needs-link",
        )
    channel, log = opened.channel, opened.log
    private = load_recipient(key)
    with TransferView("pulling") as view:
        merge = LocalMerge(channel, log, out.absolute(), seen, private, BaseFolder(base), view.show)
        weight = None if strength is None else round(strength * 1024)
        return merge.run(release, lambda_1024=weight, programs=kinds)


def _tell_merged(found: "Merged", out: Path, as_json: bool) -> None:
    manifest = found.release.manifest
    if as_json:
        facts = {
            "schema": "orthofed.pull.private/1",
            "release": manifest.n,
            "fed": manifest.fed,
            "log": manifest.log,
            "files": found.num_files,
            "bytes": found.num_bytes,
            "public": found.public,
            "private": found.private,
            "sealed_for_others": found.num_sealed_for_others,
            "folder": str(out),
        }
        print(json.dumps(facts))
        return
    print(
        f"release {manifest.n} merged in {out} with {', '.join(found.private)}:"
        f" {found.num_files} files, {found.num_bytes:,} bytes"
    )
    if found.num_sealed_for_others:
        print(f"{found.num_sealed_for_others} more are sealed for others")
    print("merged on this machine and signed by nobody: keep it to yourself")
