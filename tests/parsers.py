"""Every parser of bytes that somebody else made: one table, for the short form and for the fuzzer.

``PARSERS`` names each with its reader, the errors that it may raise, seeds (the known answers of
security.md 4.9 among them) and, where the format has one spelling, the writer that must give the
same bytes again. A new parser is one line; a new message of the wire contract is found by itself.
Not here: images, which the owner chooses and Pillow reads; files that only their own writer makes.
Imports nothing of the tests, so that the fuzzer can load it with coverage (fuzz_parser.py).
"""

import hashlib
import inspect
import struct
import tempfile
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orthofed.client import fork_proof, home, outbox, seen_heads, state, trust
from orthofed.coordinator import backup, bridge_request, folder, limits, mark
from orthofed.core import (
    address,
    canonical,
    checkpoint,
    contribution,
    document,
    head,
    invite,
    keyring,
    layout,
    leaf,
    member_rotation,
    merkle,
    names,
    node_key,
    receipt,
    release,
    request,
    spec,
    tensorfile,
    tile,
    withdrawal,
)
from orthofed.core.errors import (
    ContributionRejected,
    InputError,
    OrthoFedError,
    Refused,
    SpecError,
    VerificationFailed,
)
from orthofed.proto import failure, wire

from . import parser_seeds as seeds

_DOCUMENT = 16 << 10
"""The longest document that the coordinator reads, so the longest input of most parsers here."""
SCRATCH = tempfile.TemporaryDirectory(prefix="orthofed-parsers-")


@dataclass(frozen=True, slots=True)
class Parser:
    """``read`` gives a value or raises one of ``errors``; ``spell`` gives the same bytes again."""

    name: str
    read: Callable[[bytes], Any]
    seeds: tuple[bytes, ...]
    errors: tuple[type[OrthoFedError], ...] = (VerificationFailed,)
    spell: Callable[[Any], bytes] | None = None
    most: int = _DOCUMENT

    def run(self, data: bytes) -> bool:
        """Read ``data``; return whether it was taken. Raises what must not happen."""
        try:
            value = self.read(data)
        except self.errors:
            return False
        if self.spell is not None and (spelt := self.spell(value)) != data:
            raise AssertionError(f"{self.name} took {data!r} for {spelt!r}")
        return True


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="surrogateescape")


def _in_file(name: str, read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    """Return a reader of a file called ``name``; ``read`` is given its folder."""

    def written(data: bytes) -> object:
        place = Path(SCRATCH.name)
        (place / name).write_bytes(data)
        return read(place)

    return written


def _signed(kind: str, read: Callable[[document.Document], Any]) -> Callable[[bytes], Any]:
    """Return a reader of a body that is signed here, so that it gets past the signature."""

    def signed(data: bytes) -> object:
        body = canonical.decode(data)
        if not isinstance(body, dict):
            raise VerificationFailed("no object", why="a body is one", fix="none", code="no-body")
        return read(document.sign(kind, body, [seeds.CLIENT]))

    return signed


def _body(read: Callable[[object], Any]) -> Callable[[bytes], Any]:
    """Return a reader of a canonical body; `decode` is looked up late, for the seeded bugs."""
    return lambda data: read(canonical.decode(data))


def _spell(value: Any) -> bytes:
    return canonical.encode(value.body())


def _proof(data: bytes) -> tuple[int, int, list[bytes]]:
    low, size = struct.unpack("<QQ", data[:16].ljust(16, b"\0"))
    return low, size, [data[i : i + 32] for i in range(16, len(data), 32)]


def _inclusion(data: bytes) -> None:
    index, size, proof = _proof(data)
    root = merkle.root(seeds.HASHES)
    merkle.verify_inclusion(seeds.HASHES[2], index=index, size=size, proof=proof, root=root)


def _consistency(data: bytes) -> None:
    old_size, size, proof = _proof(data)
    old_root, root = merkle.root(seeds.HASHES[:2]), merkle.root(seeds.HASHES)
    merkle.verify_consistency(
        old_size=old_size, old_root=old_root, size=size, root=root, proof=proof
    )


def _tensors(data: bytes) -> None:
    header = tensorfile.parse_header(data, file_size=len(data))
    for info in header.tensors:
        start = header.data_start + info.offset
        tensorfile.read_tensor(info, data[start : start + info.size])


def _our_tensors(data: bytes) -> None:
    header = tensorfile.parse_header(data, file_size=len(data), ours=True)
    entries = [(info.name, info.dtype, info.shape) for info in header.tensors]
    spelt = [
        tensorfile.header_bytes(entries, header.metadata, keep_order=keep_order)
        for keep_order in (False, True)
    ]
    if data[: header.data_start] not in spelt:
        raise AssertionError("a header that our writer does not make")


def _checkpoint(data: bytes) -> None:
    found = checkpoint.open_checkpoint(data, seeds.LEDGER.public_hex, seeds.LOG)
    if not data.startswith(checkpoint.sign_checkpoint(seeds.LEDGER, found)):
        raise AssertionError("a checkpoint with two spellings")


def _invite(data: bytes) -> None:
    text = _text(data).strip()
    if invite.Invite.from_text(text).to_text() != text:
        raise AssertionError("an invite with two spellings")


def _address(data: bytes) -> None:
    text = _text(data).strip()
    if address.FederationAddress.from_text(text).to_text() != text:
        raise AssertionError("an address with two spellings")


def _slug(data: bytes) -> None:
    slug = names.slug(_text(data))
    names.check_trigger(slug, taken=("anna-k7",), reserved=("cat",))
    if names.slug(slug) != slug:
        raise AssertionError("a slug that is none")


def _title(data: bytes) -> None:
    title = names.check_title(_text(data))
    if not all(c.isprintable() or unicodedata.category(c) == "Zs" for c in title):
        raise AssertionError("a title that a terminal would obey")


def _failure(data: bytes) -> None:
    status, _, detail = _text(data).partition("\n")
    told = str(failure.error_from(status, detail, status))
    if not all(c == "\n" or c.isprintable() for c in told):
        raise AssertionError("an error that a terminal would obey")


def _trust(data: bytes) -> None:
    """Read a spec and a chain of keyrings, one a line, as a consumer does."""
    first, *rings = data.split(b"\n")
    trust.trusted_federation(seeds.SPEC_LOG, first, rings)


def _session(data: bytes) -> None:
    """Read a saved session whose hash fits; one whose hash does not is never parsed."""
    digest = hashlib.sha256(data).hexdigest().encode()
    _in_file("state.json", state.load)(data + b"\n" + digest + b"\n")


def _memory(data: bytes) -> None:
    seen = seen_heads.SeenHeads(Path(SCRATCH.name))
    seen.path(seeds.LOG).parent.mkdir(exist_ok=True)
    seen.path(seeds.LOG).write_bytes(data)
    seen.of(seeds.LOG)


def _messages() -> Iterable[Parser]:
    """Yield a parser for every message of the wire contract."""
    for name, kind in sorted(vars(wire).items()):
        if inspect.isclass(kind) and hasattr(kind, "from_bytes"):
            mine: list[Any] = [each for each in seeds.MESSAGES if isinstance(each, kind)]
            examples = [each.to_bytes() for each in mine]
            generic = (b"\x08\1\x10\2", b"\x0a\x10" + bytes(16))
            yield Parser(f"wire.{name}", _message(kind), (*examples, *generic), (InputError,))


def _message(kind: type[Any]) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        value = kind.from_bytes(data)
        if kind.from_bytes(value.to_bytes()) != value:  # protobuf has no one spelling, a value has
            raise AssertionError(f"{value!r} does not come back")

    return read


def _signed_formats() -> Iterable[Parser]:
    keyring_bytes = seeds.keyring_document().to_bytes()
    manifests = (canonical.encode(seeds.MANIFEST), canonical.encode(seeds.PRIVATE))
    yield Parser(
        "canonical JSON",
        _body(lambda value: value),
        (seeds.HEADER, keyring_bytes, b'["\\"",[[['),
        spell=canonical.encode,
    )
    yield Parser(
        "base64url",
        lambda data: canonical.decode_base64(data.decode("latin-1")),
        (b"AAEC", b"AA"),
        spell=lambda value: canonical.encode_base64(value).encode(),
    )
    yield Parser(
        "text in JSON",
        lambda data: canonical.decode_text(data.decode("latin-1")),
        (b"VGhlIHdyZW4",),
        spell=lambda value: canonical.encode_text(value).encode(),
    )
    yield Parser(
        "document",
        lambda data: document.parse(data, kind="keyring"),
        (keyring_bytes,),
        spell=lambda value: value.to_bytes(),
    )
    yield Parser(
        "request header",
        request.parse_request,
        (seeds.HEADER,),
        (Refused,),
        spell=lambda value: canonical.encode(value.to_body()),
        most=2 << 10,
    )
    yield Parser(
        "join proof",
        _signed("join", lambda value: value.verify([seeds.CLIENT.public_hex])),
        (canonical.encode(seeds.JOIN),),
        most=2 << 10,
    )
    yield Parser(
        "keyring",
        _body(keyring.Keyring.from_body),
        (canonical.encode(seeds.keyring_document().body),),
        spell=lambda value: canonical.encode(value.to_body()),
        most=8 << 10,
    )
    manifest = contribution.ContributionManifest
    yield Parser("contribution manifest", _body(manifest.from_body), manifests, spell=_spell)
    yield Parser(
        "signed contribution",
        _signed("contribution", manifest.from_document),
        manifests,
        spell=_spell,
    )
    yield Parser(
        "withdrawal",
        _signed("withdrawal", withdrawal.Withdrawal.from_document),
        (canonical.encode(seeds.WITHDRAWAL),),
        spell=_spell,
    )
    rotation = member_rotation.MemberRotation
    yield Parser(
        "rotation",
        lambda data: rotation.from_document(document.parse(data, kind="rotation")),
        (seeds.ROTATION,),
        most=2 << 10,
    )
    yield Parser(
        "release manifest",
        _body(release.ReleaseManifest.from_body),
        (canonical.encode(seeds.RELEASE_BODY),),
        spell=_spell,
    )


def _ledger() -> Iterable[Parser]:
    place = struct.pack("<QQ", 2, 3)
    inclusion = place + b"".join(merkle.inclusion_proof(seeds.HASHES, 2, 3))
    consistency = place + b"".join(merkle.consistency_proof(seeds.HASHES, 2, 3))
    witnessed = seeds.NOTE + "\u2014 witness AAAA\n".encode()
    key = seeds.LEDGER.public_hex
    said = leaf.admission_leaf(leaf=3, verdict="quarantined", why="norm")
    yield Parser("ledger leaf", leaf.parse_leaf, (*seeds.leaves(), said), spell=canonical.encode)
    yield Parser("checkpoint", _checkpoint, (seeds.NOTE, witnessed))
    yield Parser(
        "receipt",
        receipt._split,
        (seeds.RECEIPT,),
        spell=lambda parts: receipt.make_receipt(*parts),
    )
    yield Parser(
        "verified receipt",
        lambda data: receipt.verify_receipt(data, log=seeds.LOG, ledger_key=key),
        (seeds.RECEIPT,),
    )
    yield Parser(
        "head",
        _signed("head", head.LedgerHead.from_document),
        (canonical.encode(seeds.HEAD.body()),),
        spell=_spell,
    )
    yield Parser(
        "tile name",
        lambda data: tile.Tile.parse(_text(data)),
        (b"tile/0/x001/x234/067.p/3", b"tile/entries/000"),
        spell=lambda value: value.name.encode(),
        most=512,
    )
    yield Parser(
        "tile of leaves",
        lambda data: tile.split_entries(data, 3),
        (tile.join_entries(seeds.leaves()), b"\0\0\0\1x"),
        spell=tile.join_entries,
    )
    yield Parser(
        "fork proof",
        fork_proof.ForkProof.from_bytes,
        (seeds.FORK,),
        spell=lambda value: value.to_bytes(),
    )
    yield Parser(
        "checked fork proof",
        lambda data: fork_proof.ForkProof.from_bytes(data).check(seeds.LOG),
        (seeds.FORK,),
    )
    yield Parser("remembered head", _memory, (seeds.SEEN,), (InputError,))
    yield Parser("inclusion proof", _inclusion, (inclusion,))
    yield Parser("consistency proof", _consistency, (consistency,))


def _other_files() -> Iterable[Parser]:
    either = (VerificationFailed, SpecError)
    both = seeds.SPEC.to_bytes() + b"\n" + seeds.SPEC_RING.to_bytes()
    yield Parser(
        "spec",
        spec.FederationSpec.from_bytes,
        (seeds.SPEC.to_bytes(),),
        either,
        spell=lambda value: value.to_bytes(),
    )
    yield Parser("spec and keyrings", _trust, (both,), either)
    yield Parser("tensor file", _tensors, (seeds.TENSORS, seeds.BLOB), (InputError,))
    yield Parser("our tensor file", _our_tensors, (seeds.TENSORS, seeds.BLOB), (InputError,))
    yield Parser(
        "contribution blob",
        lambda data: layout.unpack(seeds.LAYOUT, data),
        (seeds.BLOB,),
        (ContributionRejected,),
        spell=lambda tensors: layout.pack(seeds.LAYOUT, tensors),
    )
    yield Parser(
        "high-water mark",
        _in_file("high-water", lambda place: mark.read_mark(place / "high-water")),
        seeds.MARKS,
    )
    yield Parser(
        "backup manifest", _in_file("backup.json", backup.BackupManifest.read), (seeds.BACKUP,)
    )
    yield Parser(
        "coordinator.toml",
        _in_file(
            "coordinator.toml", lambda place: folder.Settings.read(place / "coordinator.toml")
        ),
        (b'base = "/b"\nhostnames = ["a"]\nreserve_mib = 1\n',),
        (InputError,),
    )
    yield Parser("saved session", _session, (seeds.SESSION,), (InputError,))
    yield Parser(
        "outbox",
        _in_file("outbox", lambda place: outbox.Outbox(place / "outbox")),
        (seeds.CHAINED,),
    )
    yield Parser(
        "membership",
        _in_file("federation.json", lambda place: home.Home(place).membership()),
        (seeds.MEMBERSHIP,),
    )


def _texts() -> Iterable[Parser]:
    link = seeds.INVITE.address.to_text().encode()
    bracketed = b"orthofed://[::1]:7443/" + seeds.LOG.encode()
    yield Parser("invite", _invite, (seeds.INVITE.to_text().encode(),), (InputError,))
    yield Parser("address", _address, (link, bracketed), (InputError,))
    yield Parser("slug", _slug, (b"Anna-K8", "\uff21nna".encode()), (InputError, Refused))
    yield Parser(
        "node key",
        lambda data: node_key.node_key(_text(data)),
        (seeds.NODE_LINE.encode(), seeds.NODE_LINE[:-8].encode(), b"ssh-ed25519 AAAA"),
        (InputError,),
        most=1 << 10,
    )
    yield Parser("bridge line", bridge_request.parse_line, seeds.BRIDGE_LINES, (InputError,))
    yield Parser("title", _title, (b"The wren",), (InputError,))
    yield Parser(
        "release file name",
        lambda data: release.check_release_name(_text(data)),
        (b"lora/a.safetensors", b"../a"),
        most=512,
    )
    yield Parser("error text", _failure, (b"INTERNAL\nwhat\nwhy: a", b"lease-lost\nx\x1b[2J"))
    yield Parser(
        "peer",
        lambda data: limits.network_of(_text(data)),
        (b"ipv4:192.0.2.7:5000", b"ipv6:%5Bfe80::1%25eth0%5D:5", b"unix:"),
        most=512,
    )


PARSERS: tuple[Parser, ...] = (
    *_signed_formats(),
    *_ledger(),
    *_other_files(),
    *_texts(),
    *_messages(),
)
