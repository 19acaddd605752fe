"""Reads single leaves of a ledger, each proven: by a link, a web server, a home or a folder.

Law: no leaf is given that was not led to the signed checkpoint; one look costs O(log n) files over
the wire, and from a pulled folder one read of its leaves. Whoever asks a coordinator also compares
its head with what was seen before and remembers it (ledger_view.py).
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..core import merkle
from ..core.errors import InputError, VerificationFailed
from ..core.fields import is_hex
from ..core.receipt import Receipt, make_receipt, verify_receipt
from ..core.tile import ENTRIES, TILE_WIDTH, tile_in
from ..core.tiled import TiledTree
from .home import Home
from .ledger_view import LedgerView, look, remember
from .open_origin import is_url, log_of_url, open_origin
from .public_source import PublicSource, WireSource, read_hashes, read_tile_entries
from .seen_heads import SeenHeads
from .trust import check, mismatch
from .verify import LOG, read_trust


@dataclass(frozen=True, slots=True)
class LedgerReader:
    """A trusted view and its leaves. ``tree`` proves them; ``bundle`` gives 256 of them, unproven.

    ``bundle(index)`` returns leaf bodies 256 index, 256 index + 1, ... of the view's ledger.
    """

    view: LedgerView
    tree: TiledTree
    bundle: Callable[[int], tuple[bytes, ...]]

    def leaves(self, start: int, count: int) -> Iterator[tuple[int, bytes]]:
        """Give index and body of up to ``count`` leaves from ``start`` on, each proven."""
        for index in range(start, min(start + count, self.view.head.size)):
            yield index, self._body(index, self.tree.inclusion_proof(index))

    def prove(self, index: int) -> bytes:
        """Return the proof file of one leaf under the newest checkpoint, checked.

        Raises InputError: there is no such leaf. Raises VerificationFailed: it cannot be proven.
        """
        size = self.view.head.size
        if not 0 <= index < size:
            raise InputError(
                f"leaf {index} of a ledger of {size} leaves",
                why=f"its leaves are called 0 to {size - 1}",
                fix="see orthofed ledger show",
                code="no-such-leaf",
            )
        proof = self.tree.inclusion_proof(index)
        made = make_receipt(self._body(index, proof), index, proof, self.view.note)
        self.check_proof(made)
        return made

    def check_proof(self, proof: bytes) -> Receipt:
        """Return what a proof file says, if it is of this very ledger.

        Raises VerificationFailed: it is not, or it is of another history than this view.
        """
        rings = self.view.federation.keyrings
        with check("ledger proof"):
            found = _by_any_key(proof, self.view.head.log, [ring.ledger for ring in rings])
            size = found.checkpoint.size
            if size > self.view.head.size:
                raise mismatch(
                    f"the proof is of {size} leaves, this view has {self.view.head.size}"
                )
            if self.tree.root(size) != found.checkpoint.root:  # T17
                raise VerificationFailed(
                    f"the first {size} leaves here are not those that the proof was made under",
                    why="the ledger's key signed two histories",
                    fix="keep both and tell others: they show that the ledger was forked",
                    code="forked",
                )
        return found

    def _body(self, index: int, proof: tuple[bytes, ...]) -> bytes:
        with check("ledger proof"):
            body = self.bundle(index >> 8)[index & 0xFF]
            merkle.verify_inclusion(
                merkle.leaf_hash(body),
                index=index,
                size=self.view.head.size,
                proof=proof,
                root=self.view.checkpoint.root,
            )
        return body


@contextmanager
def open_ledger(place: str, *, home: Path | None, patience_s: float) -> Generator[LedgerReader]:
    """Give the ledger at a link, a web server, in a home or a pulled folder, until the block ends.

    ``home``: where heads are remembered, for a link. Raises InputError: ``place`` is none of them.
    """
    if (Path(place) / LOG).is_file():
        yield folder_reader(Path(place))
        return
    if is_url(place):
        memory = Home.at(home)
        shown = memory.certificate()
        with open_origin(place, certificate=shown, patience_s=patience_s) as opened:
            yield wire_reader(opened.origin, opened.log, SeenHeads(memory.folder))
        return
    from .channel import Channel  # noqa: PLC0415  # a folder needs no network, so no grpc

    memory = _home(place)
    member, shown = memory.membership(), memory.certificate()
    with Channel(
        member.host_port,
        ca=member.ca,
        log=member.log,
        certificate=shown,
        patience_s=patience_s,
    ) as channel:
        yield wire_reader(WireSource(channel), member.log, SeenHeads(memory.folder))


def wire_reader(source: PublicSource, log: str, seen: SeenHeads) -> LedgerReader:
    """Return the reader of a ledger that is served; what was seen is compared and remembered."""
    view = look(source, log, seen, now_s=int(time.time()))
    remember(view, seen)
    tree = TiledTree(view.head.size, lambda tile: read_hashes(source, tile))
    kept: dict[int, tuple[bytes, ...]] = {}

    def bundle(index: int) -> tuple[bytes, ...]:
        if index not in kept:
            kept.clear()  # leaves are asked for in order: one bundle, up to 4 MiB, is enough
            kept[index] = read_tile_entries(source, tile_in(ENTRIES, index, view.head.size))
        return kept[index]

    return LedgerReader(view, tree, bundle)


def folder_reader(folder: Path) -> LedgerReader:
    """Return the reader of the ledger that a pulled folder carries; no network, no clock."""
    view, ledger, _ = read_trust(folder, _pinned(folder))
    levels = [[merkle.leaf_hash(body) for body in ledger.bodies]]
    while len(levels[-1]) >= TILE_WIDTH:
        below = levels[-1]
        ends = range(TILE_WIDTH, len(below) + 1, TILE_WIDTH)
        levels.append([merkle.root(below[end - TILE_WIDTH : end]) for end in ends])
    tree = TiledTree(
        view.head.size,
        lambda tile: tuple(levels[tile.level][tile.index << 8 :][: tile.width]),
    )
    return LedgerReader(view, tree, lambda index: ledger.bodies[index << 8 :][:TILE_WIDTH])


def log_of(place: str) -> str:
    """Return the log id of an address, a home or a pulled folder; nothing is asked of anybody."""
    if (Path(place) / LOG).is_file():
        return _pinned(Path(place))
    if is_url(place):
        return log_of_url(place)
    return _home(place).membership().log


def _pinned(folder: Path) -> str:
    log = (folder / LOG).read_text("ascii", errors="replace").strip()
    if not is_hex(log):
        raise VerificationFailed(
            f"{folder / LOG} is not one log id",
            why="it was changed",
            fix="pull the release again into a new folder",
            code="not-as-signed",
        )
    return log


def _home(place: str) -> Home:
    if not (Path(place) / "federation.json").is_file():
        raise InputError(
            f"{place} is no ledger",
            why="it is neither a link orthofed://..., nor a home that joined, nor a pulled release",
            fix="give the link that orthofed coordinator link printed, or a folder that"
            " orthofed pull made",
            code="no-ledger",
        )
    return Home(Path(place))


def _by_any_key(proof: bytes, log: str, keys: list[str]) -> Receipt:
    """Return the proof, its checkpoint signed by any ledger key that the log has had."""
    *others, newest = keys
    for key in others:
        try:
            return verify_receipt(proof, log=log, ledger_key=key)
        except VerificationFailed:
            continue
    return verify_receipt(proof, log=log, ledger_key=newest)
