"""The ledger as static tiles: names, bytes, proofs from them, and a folder that survives its kills.

Everything is compared with the tree of plain_ledger.py, which shares no code with the product.
"""

import random
import shutil
from pathlib import Path

import pytest

from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.folder import DataFolder, Settings
from orthofed.coordinator.fs import Fs
from orthofed.coordinator.heads import Heads
from orthofed.coordinator.ledger import Ledger
from orthofed.coordinator.store import Store
from orthofed.coordinator.tilecheck import check_tiles
from orthofed.coordinator.tiles import tile_files
from orthofed.core import merkle
from orthofed.core.errors import Refused, VerificationFailed
from orthofed.core.keys import SigningKey
from orthofed.core.leaf import lease_leaf
from orthofed.core.tile import (
    ENTRIES,
    Tile,
    edge_tiles,
    join_entries,
    split_entries,
    split_hashes,
    tile_in,
)
from orthofed.core.tiled import TiledTree

from .plain_ledger import PlainLedger
from .serving import FastFs

LEDGER = Ledger(SigningKey.from_seed(b"\2" * 32), "5" * 64)
SIZES = (1, 2, 3, 255, 256, 257, 511, 512, 513, 1000)


@pytest.fixture(scope="module")
def plain() -> PlainLedger:
    bodies = [
        lease_leaf(client="a" * 64, fence=n + 1, slot=0, triggers=["abc"]) for n in range(1300)
    ]
    return PlainLedger(bodies)


@pytest.mark.parametrize(
    ("tile", "name"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 0, 1), "tile/0/000.p/1"),
        (Tile(2, 1234067, 255), "tile/2/x001/x234/067.p/255"),
        (Tile(ENTRIES, 999), "tile/entries/999"),
        (Tile(ENTRIES, 1000, 8), "tile/entries/x001/000.p/8"),
    ],
)
def test_a_tile_has_one_name(tile: Tile, name: str) -> None:
    """The names of c2sp.org/tlog-tiles, there and back."""
    assert tile.name == name
    assert Tile.parse(name) == tile


@pytest.mark.parametrize(
    "name",
    [
        "tile/0/000.p/256",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/x000/000",
        "tile/0/0",
        "tile/0/1000",
        "tile/00/000",
        "tile/8/000",
        "tile/0/000/",
        "tile/0/000\n",
        "tile/entries/../../../keys/ledger.pem",
        "tile/0/\u0660\u0660\u0660",
        "/tile/0/000",
        "",
    ],
)
def test_any_other_name_is_refused(name: str) -> None:
    """T10: another spelling, another place, other digits."""
    with pytest.raises(VerificationFailed, match="a name that no tile has"):
        Tile.parse(name)


@pytest.mark.parametrize("size", SIZES)
def test_the_tiles_of_a_size_are_known_before_they_are_read(plain: PlainLedger, size: int) -> None:
    """Edge tiles and widths are those of the plain tree, at and around full tiles."""
    wanted = plain.tiles(size)

    assert {tile.name for tile in edge_tiles(size)} == {name for name in wanted if ".p/" in name}
    for name, data in wanted.items():
        tile = Tile.parse(name)
        assert tile_in(tile.level, tile.index, size) == tile
        assert len(data) <= tile.most_bytes
        if tile.level == ENTRIES:
            bodies = split_entries(data, tile.width)
            assert list(bodies) == plain.bodies[tile.index * 256 :][: tile.width]
            assert join_entries(bodies) == data
        else:
            assert b"".join(split_hashes(data, tile.width)) == data


@pytest.mark.parametrize(
    "data", [b"\0", b"\0\5abcd", b"\xff\xff" + bytes(65_535), b"\0\0" * 257, b"\0\1a"]
)
def test_leaves_whose_lengths_do_not_fit_are_refused(data: bytes) -> None:
    """T8: cut, too long, too many, too few."""
    with pytest.raises(VerificationFailed) as caught:
        split_entries(data, 2)

    assert caught.value.code == "bad-tile"


@pytest.mark.parametrize("data", [b"", bytes(31), bytes(33), bytes(32), bytes(32 * 257)])
def test_hashes_of_another_number_are_refused(data: bytes) -> None:
    """A tile is a whole number of hashes, as many as are needed, 256 at most."""
    with pytest.raises(VerificationFailed):
        split_hashes(data, 2)


@pytest.mark.parametrize("size", SIZES)
def test_proofs_from_tiles_are_those_of_the_tree(plain: PlainLedger, size: int) -> None:
    """Each proof equals RFC 6962's, for leaves and older sizes at and around full tiles."""
    files = plain.tiles(size)
    read: list[str] = []

    def tile(wanted: Tile) -> tuple[bytes, ...]:
        read.append(wanted.name)
        return split_hashes(files[wanted.name], wanted.width)

    for place in sorted({n for near in SIZES for n in (near - 1, near) if n < size}):
        tree = TiledTree(size, tile)
        read.clear()
        assert list(tree.inclusion_proof(place)) == plain.path(place, size)
        assert len(read) == len(set(read)) <= 4
        assert list(tree.consistency_proof(place + 1)) == plain.growth(place + 1, size)
        assert tree.root(place + 1) == plain.root(place + 1)


class House:
    """A store, its ledger and its public files, without the rest of a coordinator."""

    def __init__(self, folder: DataFolder, fs: Fs | None = None) -> None:
        self.folder = folder
        self.store = Store(folder.database, fs=FastFs())
        self.heads = Heads(self.store, LEDGER, folder, fs=fs or FastFs(), clock=SystemClock())

    def append(self, plain: PlainLedger, start: int, end: int) -> None:
        def some(db) -> None:
            for body in plain.bodies[start:end]:
                LEDGER.append(db, body)

        self.store.run(some)

    def files(self) -> dict[str, bytes]:
        public = self.folder.public
        return {name: (public / name).read_bytes() for name in tile_files(public)}

    def close(self) -> None:
        self.store.close()


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder(tmp_path / "fed")
    made.root.mkdir()
    made.make(Fs())
    shutil.rmtree(made.blobs)  # 256 folders that the copies below do without
    made.settings_file.write_text(Settings(base=tmp_path).to_toml())
    Store(made.database, fs=FastFs(), new=True).close()
    return made


def has_all(house: House, plain: PlainLedger, size: int) -> None:
    """Every tile of the size is there to the byte; others are earlier states of unfinished ones."""
    files, wanted = house.files(), plain.tiles(size)
    assert {name: files.get(name) for name in wanted} == wanted
    for name in files.keys() - wanted.keys():
        tile = Tile.parse(name)
        assert tile.width < 256
        whole = next(wanted[n] for n in wanted if n.startswith(tile.full.name))
        assert whole.startswith(files[name])


def test_tiles_grow_with_the_ledger_and_restarts_change_nothing(
    folder: DataFolder, plain: PlainLedger
) -> None:
    """1,300 leaves in steps of 1 to 300, with a restart between any two."""
    draw, size = random.Random(5), 0  # noqa: S311  # a replayable draw
    while size < 1300:
        house = House(folder)
        for _ in range(2):
            step = min(draw.choice([1, 1, 2, 60, 300]), 1300 - size)
            house.append(plain, size, size + step)
            size += step
            house.heads.write()
            has_all(house, plain, size)
        house.close()


def test_old_states_of_a_tile_are_dropped(folder: DataFolder, plain: PlainLedger) -> None:
    """A reader with a slightly older checkpoint finds its tile; the disk does not fill with them.

    The unfinished states of a full tile go with the next leaf, when no checkpoint needs them.
    """
    house = House(folder)
    for n in range(255):
        house.append(plain, n, n + 1)
        house.heads.write()
    parts = sorted(int(Path(name).name) for name in house.files() if "entries" in name)
    assert parts == list(range(240, 256))

    house.append(plain, 255, 256)
    house.heads.write()
    house.append(plain, 256, 257)
    house.heads.write()

    assert house.files().keys() == plain.tiles(257).keys()
    house.close()


class _Killed(Exception):
    """The process would have ended here."""


class KilledFs(FastFs):
    """Ends the process at the n-th thing that it is asked for."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)
        self._count()

    def make_folder(self, folder: Path, *, mode: int = 0o755) -> None:
        self._count()
        super().make_folder(folder, mode=mode)

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise _Killed


def test_a_kill_between_any_two_steps_needs_no_repair(
    folder: DataFolder, plain: PlainLedger, tmp_path: Path
) -> None:
    """From 250 leaves to 520, killed at each step: never a checkpoint without its tiles.

    The next start goes on, and leaves no temporary file behind.
    """
    house = House(folder)
    house.append(plain, 0, 250)
    house.heads.write()
    house.append(plain, 250, 520)
    house.close()
    kills = 0
    for after in range(1, 100):
        copy = DataFolder(shutil.copytree(folder.root, tmp_path / f"killed-{after}"))
        killed = House(copy, KilledFs(after))
        try:
            killed.heads.write()
        except _Killed:
            kills += 1
        else:
            break
        size = int((copy.public / "checkpoint").read_text().split("\n")[1])
        if size == 250:  # among the tiles: as SIGKILL inside a write leaves it
            (copy.public / "tile" / "0" / ".x.tmp").write_bytes(b"cut")
        files = killed.files()
        assert {name: files[name] for name in plain.tiles(size)} == plain.tiles(size)
        killed.close()

        again = House(copy)
        again.heads.write()
        has_all(again, plain, 520)
        again.close()
        assert not [*copy.public.rglob("*.tmp")]
        shutil.rmtree(copy.root)
    assert kills > 20


def test_a_full_disk_is_gone_on_from(folder: DataFolder, plain: PlainLedger) -> None:
    """ENOSPC in the middle of the tiles: the next try writes the rest, no leaf is counted twice."""

    class FullFs(FastFs):
        room = 3

        def write_whole(self, path: Path, data: bytes, *, mode: int = 0o644) -> None:
            self.room -= 1
            if self.room == 0:
                raise Refused("full", why="w", fix="f", code="no-room")
            super().write_whole(path, data, mode=mode)

    house = House(folder, FullFs())
    house.append(plain, 0, 600)
    with pytest.raises(Refused):
        house.heads.write()

    house.heads.write()

    has_all(house, plain, 600)
    house.close()


def test_after_a_fork_the_tiles_are_those_of_the_new_history(
    folder: DataFolder, plain: PlainLedger, tmp_path: Path
) -> None:
    """T28: an older database goes on by the operator's word; nothing of the lost leaves stays."""
    house = House(folder)
    house.append(plain, 0, 250)
    house.close()
    old = shutil.copy(folder.database, tmp_path / "old.db")
    house = House(folder)
    house.append(plain, 250, 300)
    house.heads.write()
    house.close()
    shutil.copy(old, folder.database)
    other = PlainLedger([*plain.bodies[:250], *plain.bodies[600:700]])

    house = House(folder)
    house.append(other, 250, 350)
    house.heads.write()

    has_all(house, other, 350)
    house.close()


def test_each_damaged_or_missing_tile_is_named(folder: DataFolder, plain: PlainLedger) -> None:
    """R16: a flipped bit, a cut file, a file that is gone, one that belongs to nothing."""
    house = House(folder)
    house.append(plain, 0, 600)
    house.heads.write()
    public = folder.public

    def faults(size: int = 600) -> dict[str, str]:
        names = tuple(tile_files(public))
        return dict(house.store.run(lambda db: list(check_tiles(db, public, names, size))))

    assert faults() == {}
    for name in house.files():
        path = public / name
        good = path.read_bytes()
        for bad in (bytes([good[0] ^ 1]) + good[1:], good[:-1], good + b"\0"):
            path.write_bytes(bad)
            assert faults().keys() == {name}
        path.unlink()
        assert faults().keys() == {name}
        path.write_bytes(good)
    (public / "tile" / "0" / "notes.txt").write_text("x")
    (public / "tile" / "0" / "009").write_bytes(bytes(8192))
    assert faults().keys() == {"tile/0/notes.txt", "tile/0/009"}
    house.close()


def test_a_damaged_edge_is_written_anew_at_the_next_start(
    folder: DataFolder, plain: PlainLedger
) -> None:
    """Restart is the only repair: what does not lead to the signed root is not gone on from."""
    house = House(folder)
    house.append(plain, 0, 300)
    house.heads.write()
    house.close()
    edge = folder.public / "tile" / "0" / "001.p" / "44"
    edge.write_bytes(bytes(44 * 32))

    house = House(folder)
    house.append(plain, 300, 310)
    house.heads.write()

    has_all(house, plain, 310)
    house.close()


def test_a_tile_of_a_million_leaves_is_two_groups_of_digits() -> None:
    """The root of 2^20 equal leaves comes from 16 tiles of level 1 by way of level 2."""
    leaf = merkle.leaf_hash(b"x")
    level = [leaf]
    for _ in range(3):
        level.append(merkle.root([level[-1]] * 256))
    tree = TiledTree(1 << 20, lambda tile: (level[tile.level],) * tile.width)

    proof = tree.inclusion_proof(999_999)

    root = tree.root(1 << 20)
    assert root == merkle.root([level[2]] * 16)
    merkle.verify_inclusion(leaf, index=999_999, size=1 << 20, proof=proof, root=root)
