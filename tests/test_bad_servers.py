"""R18 and T16: a consumer that has seen a ledger, and servers that lie about it or its files.

Each case changes the one server from which a good folder was pulled; test_bad_bundles.py changes
that folder. Nothing wrong gets a name, nothing wrong is remembered, each refusal names its check.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orthofed.client.channel import Channel
from orthofed.client.origin import WireOrigin
from orthofed.client.pull import PART, Pull
from orthofed.client.seen_heads import SeenHeads
from orthofed.client.verify import verify_folder
from orthofed.core.errors import VerificationFailed
from orthofed.proto import wire

from .bundles import LEAF, Parts, contributed, first, founded, good
from .mirror import NOW_S, Mirror, PublicTwist, SignedRelease, Twist

GOOD, OLD = good(), first()


def pull(server: SignedRelease, out: Path, *, now_s: int = NOW_S, **twists: Any) -> None:
    """Pull from a server that may misbehave; the home lies beside ``out``."""
    with Mirror(server) as mirror:
        for name, twist in twists.items():
            setattr(mirror, name, twist)
        address = mirror.address
        with Channel(address.host_port, ca=address.ca, log=GOOD.log_id, patience_s=0) as channel:
            seen = SeenHeads(out.parent / "home")
            Pull(WireOrigin(channel), GOOD.log_id, out, seen, clock=lambda: now_s).run()


def test_the_good_bundle_is_a_pulled_folder_and_verifies(tmp_path: Path) -> None:
    """What the cases below change is, byte for byte, what a pull leaves; and it is good."""
    pull(GOOD.served(), tmp_path / "out")

    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == GOOD.folder()
    verified = verify_folder(tmp_path / "out", log=GOOD.log_id, now_s=NOW_S)
    assert (verified.release.manifest.n, verified.release.leaf) == (2, LEAF)
    assert verified.view.head.size == 11


def cut(request: wire.ReadRequest | wire.PublicRequest, honest: wire.ReadReply) -> wire.ReadReply:
    """Answer with a byte less."""
    del request
    return replace(honest, data=honest.data[:-1])


def longer(
    request: wire.ReadRequest | wire.PublicRequest, honest: wire.ReadReply
) -> wire.ReadReply:
    """Answer with a byte more."""
    del request
    return replace(honest, data=honest.data + b"x")


def endless(
    request: wire.ReadRequest | wire.PublicRequest, honest: wire.ReadReply
) -> wire.ReadReply:
    """Answer as if the file had no end."""
    del request
    return replace(honest, total_bytes=1 << 62)


def silent(
    request: wire.ReadRequest | wire.PublicRequest, honest: wire.ReadReply
) -> wire.ReadReply:
    """Answer with nothing, for ever."""
    del request
    return replace(honest, data=b"")


def only(name: str, twist: PublicTwist) -> PublicTwist:
    """Let one public file alone be answered wrongly."""
    return lambda request, honest: twist(request, honest) if request.name == name else honest


def with_public(parts: Parts, **files: bytes | None) -> SignedRelease:
    """Return a server whose public files are changed; `__` is a slash, `_` a dot."""
    served = parts.served()
    changed = {n.replace("__", "/").replace("_", "."): data for n, data in files.items()}
    public = {name: data for name, data in {**served.public, **changed}.items() if data is not None}
    return replace(served, public=public)


SERVED, OLD_SERVED = GOOD.served(), OLD.served()
TWISTS: dict[str, PublicTwist] = {
    "cut": cut,
    "longer": longer,
    "endless": endless,
    "silent": silent,
}
FILE_TWISTS: dict[str, Twist] = {
    "cut": cut,
    "longer": longer,
    "endless": endless,
    "silent": silent,
}
PUBLIC = {
    "checkpoint": "checkpoint",
    "head.json": "head",
    "spec.json": "spec",
    "keyring/1.json": "keyring",
    "tile/entries/000.p/11": "ledger",
}
SERVERS: dict[str, tuple[SignedRelease, dict[str, Any], str]] = {
    "release 1 as the newest": (OLD_SERVED, {}, "rollback"),
    "an older head": (
        replace(SERVED, public={**SERVED.public, "head.json": OLD_SERVED.public["head.json"]}),
        {},
        "head",
    ),
    "an older checkpoint": (
        replace(SERVED, public={**SERVED.public, "checkpoint": OLD_SERVED.public["checkpoint"]}),
        {},
        "head",
    ),
    "the manifest of release 1": (replace(SERVED, reply=OLD_SERVED.reply), {}, "manifest"),
    "the manifest of another federation": (
        replace(SERVED, reply=founded(fresh=9).served().reply),
        {},
        "manifest",
    ),
    "the public files of another federation": (
        replace(SERVED, public=founded(fresh=9).served().public),
        {},
        "log id",
    ),
    "a frozen ledger": (SERVED, {"now_s": NOW_S + 604_801}, "freeze"),
    "a keyring that ran out": (SERVED, {"now_s": NOW_S + 366 * 86_400}, "expiry"),
    "a head that names another manifest": (
        replace(GOOD, head={"manifest": "5" * 64}).served(),
        {},
        "rollback",
    ),
    "a fork of the same size": (
        replace(GOOD, leaves=(*GOOD.leaves[:8], *contributed("bert", GOOD.log_id))).served(),
        {},
        "fork",
    ),
    "a fork that grew": (
        replace(
            GOOD,
            leaves=(*GOOD.leaves[:8], *contributed("bert", GOOD.log_id)),
            after=(GOOD.leaves[2],),
            head={"manifest": GOOD.signed.id},
        ).served(),
        {},
        "fork",
    ),
    "no leaves": (with_public(GOOD, tile__entries__000_p__11=None), {}, "ledger"),
    **{
        f"{name} {how}": (SERVED, {"public_twist": only(name, twist)}, check)
        for name, check in PUBLIC.items()
        for how, twist in TWISTS.items()
    },
}


@pytest.mark.parametrize(("server", "twists", "check"), SERVERS.values(), ids=list(SERVERS))
def test_a_server_that_lies_about_the_ledger_is_refused(
    server: SignedRelease, twists: dict[str, Any], check: str, tmp_path: Path
) -> None:
    """The consumer has seen release 2 of 11 leaves; nothing is fetched, what was seen stays."""
    pull(SERVED, tmp_path / "before")
    before = SeenHeads(tmp_path / "home").of(GOOD.log_id)

    with pytest.raises(VerificationFailed) as caught:
        pull(server, tmp_path / "out", **twists)

    assert caught.value.what.startswith(f"check failed: {check}: "), caught.value.what
    assert SeenHeads(tmp_path / "home").of(GOOD.log_id) == before
    assert {path.name for path in (tmp_path / "out").iterdir()} == {PART}


@pytest.mark.parametrize("twist", FILE_TWISTS.values(), ids=list(FILE_TWISTS))
def test_a_server_that_lies_about_a_file_is_refused(twist: Twist, tmp_path: Path) -> None:
    """T16: each answer has the length that was asked for, of a file whose length is signed."""
    with pytest.raises(VerificationFailed, match="of release 2"):
        pull(SERVED, tmp_path / "out", twist=twist)

    assert {path.name for path in (tmp_path / "out").iterdir()} == {PART}
