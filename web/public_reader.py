"""Reads what the public page shows, through the unsigned calls of the wire contract alone.

Law: the page gives nothing that the public gRPC would not give, since this is its only source and
it refuses to make any call that somebody signs. Releases never change, so the last few are kept;
full bundles of leaves too. Cost: a page is a handful of calls in this process, no network.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any, Protocol, TypeVar

from ..coordinator.call import Answer, Call
from ..core.canonical import decode_text
from ..core.checkpoint import open_checkpoint
from ..core.document import from_value, parse
from ..core.dp_claim import DpClaim
from ..core.errors import Refused, VerificationFailed
from ..core.keyring import Keyring
from ..core.leaf import parse_leaf
from ..core.release import FileEntry, ReleaseManifest
from ..core.sample_picture import picture_name
from ..core.slots import upload_bytes
from ..core.spec import FederationSpec
from ..core.tile import ENTRIES, TILE_WIDTH, Tile, split_entries, split_hashes, tile_in
from ..core.tiled import TiledTree
from ..proto import methods, wire
from ..proto.methods import Method
from .public_facts import Concept, Federation, Leaf, LedgerState, Proof, Release, ReleaseFile

_PIECE = 1 << 20
_LAST_RELEASE = (1 << 32) - 1  # 32 bits on the wire
_KEPT_RELEASES = 4
_KEPT_BUNDLES = 16
_PEER = "unix:page"
_T = TypeVar("_T")


class _Message(Protocol):
    def to_bytes(self) -> bytes: ...


class PublicReader:
    """The public side of one coordinator; for any number of threads."""

    def __init__(self, answer: Answer, link: Callable[[], str]) -> None:
        """Ask ``answer``, the service's; ``link`` gives the federation's public address."""
        self._answer = answer
        self._link = link
        self._lock = Lock()
        self._spec: tuple[bytes, FederationSpec] | None = None
        self._releases: OrderedDict[int, Release] = OrderedDict()
        self._bundles: OrderedDict[int, tuple[bytes, ...]] = OrderedDict()

    def federation(self) -> Federation:
        """Return what this federation is."""
        said = self._ask(methods.GET_SPEC, wire.SpecRequest(), wire.SpecReply.from_bytes)
        spec = self._parsed(said.spec)
        return Federation(
            name=spec.name,
            fed=hashlib.sha256(said.spec).hexdigest(),
            log=said.checkpoint.split(b"\n", 1)[0].decode("ascii").rpartition("/")[2],
            link=self._link(),
            base_name=spec.base.name,
            base_revision=spec.base.revision,
            base_licence=spec.base.licence,
            base_hint=said.base_hint,
            basis=spec.basis,
            ranks=spec.ranks,
            num_layers=len(spec.layers),
            capacity=spec.capacity,
            disjoint_slots=spec.disjoint_slots,
            free_slots=said.free_slots,
            kept_slots=spec.capacity * spec.limits.operator_slots_percent // 100,
            upload_bytes=upload_bytes(spec.layers, dict(spec.ranks)),
        )

    def releases(self) -> tuple[int, ...]:
        """Return the numbers of all releases, ascending."""
        return self._ask(
            methods.LIST_RELEASES, wire.ListRequest(), wire.ListReply.from_bytes
        ).releases

    def mark(self) -> bytes:
        """Return what differs when there is news: the signed checkpoint, and what is released."""
        return self._public("checkpoint") + repr(self.releases()).encode()

    def release(self, n: int) -> Release:
        """Return one release. Raises Refused: there is none."""
        with self._lock:
            if n in self._releases:
                self._releases.move_to_end(n)
                return self._releases[n]
        found = self._read_release(n)
        self._keep(self._releases, found.n, found, most=_KEPT_RELEASES)
        return found

    def newest(self) -> Release | None:
        """Return the newest release, None before the first."""
        numbers = self.releases()
        return self.release(numbers[-1]) if numbers else None

    def picture(self, n: int, concept: str) -> bytes:
        """Return the sample of a concept, or raise Refused; T10: looked up by what is listed."""
        for each in self.release(n).concepts:
            if each.name == concept and each.picture:
                return self._file(n, each.picture)
        raise Refused(
            "there is no such picture",
            why="a release has samples where its operator drew them",
            fix="look at the concepts of the release",
            code="not-found",
        )

    def ledger(self) -> LedgerState:
        """Return the newest published checkpoint, its signature checked."""
        note = self._public("checkpoint")
        said = self._ask(methods.GET_SPEC, wire.SpecRequest(), wire.SpecReply.from_bytes)
        log = note.split(b"\n", 1)[0].decode("ascii").rpartition("/")[2]
        key = Keyring.from_body(parse(said.keyrings[-1], kind="keyring").body).ledger
        found = open_checkpoint(note, key, log)
        return LedgerState(found.size, found.root.hex(), note.decode("utf-8"), key)

    def leaves(self, start: int, end: int, *, size: int) -> tuple[Leaf, ...]:
        """Return the leaves from ``start`` to before ``end`` of a ledger of ``size``."""
        found = list[Leaf]()
        for index in range(max(0, start), min(end, size)):
            body = self._bundle(index >> 8, size)[index & 0xFF]
            found.append(Leaf(index, str(parse_leaf(body)["kind"]), body))
        return tuple(found)

    def proof(self, index: int) -> Proof:
        """Return a leaf with its way to the newest root. Raises Refused: there is none."""
        state = self.ledger()
        if not 0 <= index < state.size:
            raise Refused(
                f"the ledger has no leaf {index}",
                why=f"it has leaves 0 to {state.size - 1}",
                fix="choose one of them",
                code="not-found",
            )
        tree = TiledTree(state.size, self._hashes)
        path = tuple(each.hex() for each in tree.inclusion_proof(index))
        (leaf,) = self.leaves(index, index + 1, size=state.size)
        return Proof(leaf, path, state)

    def _read_release(self, n: int) -> Release:
        if n > _LAST_RELEASE:
            raise Refused(
                f"there is no release {n}",
                why=f"a release has a number 1 to {_LAST_RELEASE}",
                fix="choose one of those that are listed",
                code="not-found",
            )
        request = wire.ManifestRequest(n)
        said = self._ask(methods.GET_MANIFEST, request, wire.ManifestReply.from_bytes)
        manifest = ReleaseManifest.from_document(parse(said.document, kind="release"))
        names = {file.name for file in manifest.files}
        data = self._file(manifest.n, "info.json")
        signed = next(file for file in manifest.files if file.name == "info.json")
        if hashlib.sha256(data).hexdigest() != signed.sha256:
            raise VerificationFailed(
                f"info.json of release {manifest.n} is not what was signed",
                why="its SHA-256 differs: somebody changed it on the coordinator's disk",
                fix="its operator runs orthofed doctor, and releases again",
                code="file-differs",
            )
        info = json.loads(data)
        times = self._times([int(each["leaf"]) for each in info["concepts"]], manifest.size)
        concepts = [_concept(each, names, times) for each in info["concepts"]]
        return Release(
            n=manifest.n,
            t=manifest.t,
            size=manifest.size,
            leaf=_index(said.receipt),
            files=tuple(_file(each) for each in manifest.files),
            concepts=tuple(sorted(concepts, key=lambda each: each.name)),
            left_out=manifest.left_out,
        )

    def _times(self, leaves: list[int], size: int) -> dict[int, int]:
        """Return when each contribution was signed, by its leaf."""
        found = dict[int, int]()
        for index in leaves:
            said = parse_leaf(self._bundle(index >> 8, size)[index & 0xFF])
            signed = from_value(said["doc"], kind="contribution")
            found[index] = int(str(signed.body["t"]))
        return found

    def _parsed(self, data: bytes) -> FederationSpec:
        if self._spec is None or self._spec[0] != data:
            self._spec = (data, FederationSpec.from_bytes(data))
        return self._spec[1]

    def _bundle(self, index: int, size: int) -> tuple[bytes, ...]:
        with self._lock:
            if index in self._bundles:
                self._bundles.move_to_end(index)
                return self._bundles[index]
        tile = tile_in(ENTRIES, index, size)
        data, width = self._tile(tile)
        found = split_entries(data, width)
        if width == TILE_WIDTH:  # it never changes
            self._keep(self._bundles, index, found, most=_KEPT_BUNDLES)
        return found

    def _hashes(self, tile: Tile) -> tuple[bytes, ...]:
        data, width = self._tile(tile)
        return split_hashes(data, width)[: tile.width]

    def _tile(self, tile: Tile) -> tuple[bytes, int]:
        """Return a tile's bytes and how wide they are: the full one where it was filled since."""
        try:
            return self._public(tile.name), tile.width
        except Refused:
            return self._public(tile.full.name), TILE_WIDTH

    def _file(self, n: int, name: str) -> bytes:
        return self._whole(methods.READ, lambda at: wire.ReadRequest(n, name, at, _PIECE))

    def _public(self, name: str) -> bytes:
        return self._whole(methods.READ_PUBLIC, lambda at: wire.PublicRequest(name, at, _PIECE))

    def _whole(self, method: Method, request: Callable[[int], _Message]) -> bytes:
        data = b""
        while True:
            reply = self._ask(method, request(len(data)), wire.ReadReply.from_bytes)
            data += reply.data
            if len(data) >= reply.total_bytes or not reply.data:
                return data

    def _ask(self, method: Method, request: _Message, read: Callable[[bytes], _T]) -> _T:
        if method.signer != "nobody":
            raise AssertionError("the public page makes unsigned calls alone")
        return read(self._answer(Call(method, request.to_bytes(), b"", b"", _PEER)))

    def _keep(self, kept: "OrderedDict[int, Any]", key: int, value: object, *, most: int) -> None:
        with self._lock:
            kept[key] = value
            while len(kept) > most:
                kept.popitem(last=False)


def _index(receipt: bytes) -> int:
    """Return the place that a receipt names; whether it is so, `orthofed verify` asks."""
    return int(receipt.split(b"\nindex ", 1)[1].split(b"\n", 1)[0])


def _file(entry: FileEntry) -> ReleaseFile:
    return ReleaseFile(entry.name, entry.bytes, entry.sha256)


def _concept(said: dict[str, Any], names: set[str], times: dict[int, int]) -> Concept:
    picture = picture_name(said["concept"])
    return Concept(
        name=said["concept"],
        triggers=tuple(each["trigger"] for each in said["triggers"]),
        title=decode_text(said["title"]) if "title" in said else "",
        client=said["client"],
        licence=said["licence"],
        slot=said["slot"],
        leaf=said["leaf"],
        lambda_1024=said["lambda"],
        t=times[said["leaf"]],
        claim=DpClaim.from_body(said["dp"]).said if "dp" in said else "",
        picture=picture if picture in names else "",
    )
