"""What a ledger of a million leaves costs: one more leaf, and the proof of any (R11).

    python benchmarks/ledger.py --json

Aims (reliability.md 6, R11): append <= 1 ms and proof <= 20 ms at 10^6 leaves. What came out is in
docs/log.md.

`append_ms` is what a leaf adds to its transaction: tree, signature, receipt, rows; the median and
the 99th percentile over single appends to a store that holds the leaves before it; the commit's own
sync is not in it (`commit_ms` has both). `proof_ms` is a proof of inclusion of a random leaf, and
`growth_ms` one of consistency from a random size, from tile files on the disk, each with a tree of
its own, so that nothing is read before it is asked for. `publish_ms` is what one new leaf costs the
public tiles. `first_s` writes all of them once, as the first start of a new version does.
"""

import argparse
import datetime as dt
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from circumstances import commit, hardware

from orthofed.coordinator.fs import Fs
from orthofed.coordinator.ledger import Ledger, peaks
from orthofed.coordinator.store import Store
from orthofed.coordinator.tiles import Tiles
from orthofed.core import merkle
from orthofed.core.keys import SigningKey
from orthofed.core.leaf import lease_leaf
from orthofed.core.merkle import Peaks
from orthofed.core.tile import Tile, split_hashes
from orthofed.core.tiled import TiledTree

LOG = "5" * 64
LEDGER = Ledger(SigningKey.from_seed(b"\2" * 32), LOG)


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        result = _measure(Path(scratch), options.leaves, options.rounds)
    told = {
        "schema": "orthofed.benchmark-ledger/1",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "commit": commit(),
        "hardware": hardware(),
        "result": result,
    }
    print(json.dumps(told, indent=2 if options.json else None))


def _measure(folder: Path, leaves: int, rounds: int) -> dict[str, Any]:
    draw = random.Random(0)  # noqa: S311  # a repeatable draw
    fs, public = Fs(), folder / "public"
    public.mkdir()
    store = Store(folder / "state.db", fs=fs, new=True)
    store.run(lambda db: _fill(db, leaves))
    tiles = Tiles(store, public, fs=fs, ledger_key=LEDGER.key, log=LOG)
    first_s = _seconds(lambda: tiles.grow(leaves))
    inside, whole, publish = list[float](), list[float](), list[float]()
    for n in range(rounds):
        body = _body(leaves + n)
        whole.append(_seconds(lambda body=body: store.run(lambda db: _append(db, body, inside))))
        publish.append(_seconds(lambda n=n: tiles.grow(leaves + n + 1)))
    size = leaves + rounds
    root = store.run(peaks).root

    def read(tile: Tile) -> tuple[bytes, ...]:
        return split_hashes((public / tile.name).read_bytes(), tile.width)

    proofs, growths = list[float](), list[float]()
    for _ in range(rounds):
        index, old = draw.randrange(size), draw.randrange(1, size)
        leaf = merkle.leaf_hash(_body(index))
        began = time.perf_counter()
        proof = TiledTree(size, read).inclusion_proof(index)
        proofs.append(time.perf_counter() - began)
        merkle.verify_inclusion(leaf, index=index, size=size, proof=proof, root=root)
        growths.append(_seconds(lambda old=old: TiledTree(size, read).consistency_proof(old)))
    files = [path for path in public.rglob("*") if path.is_file()]
    store.close()
    return {
        "leaves": size,
        "append_ms": _quantiles(inside),
        "commit_ms": _quantiles(whole),
        "publish_ms": _quantiles(publish),
        "proof_ms": _quantiles(proofs),
        "growth_ms": _quantiles(growths),
        "first_s": round(first_s, 2),
        "tile_files": len(files),
        "tile_bytes": sum(path.stat().st_size for path in files),
    }


def _append(db: sqlite3.Connection, body: bytes, times: list[float]) -> None:
    times.append(_seconds(lambda: LEDGER.append(db, body)))


def _fill(db: sqlite3.Connection, leaves: int) -> None:
    """Write the leaves and the head that they give, without a signature for each."""
    tree = Peaks()

    def rows() -> Iterator[tuple[int, str, bytes, bytes]]:
        nonlocal tree
        for n in range(leaves):
            body = _body(n)
            leaf = merkle.leaf_hash(body)
            tree = tree.append(leaf)
            yield n, "lease", body, leaf

    db.executemany("INSERT INTO leaf VALUES (?, ?, ?, ?)", rows())
    db.execute("INSERT INTO head VALUES (0, ?, ?, ?)", (tree.size, b"".join(tree.hashes), b"none"))


_PATTERN = lease_leaf(client="a" * 64, fence=1_234_567, slot=0, triggers=["wren-cat"])


def _body(n: int) -> bytes:
    return _PATTERN.replace(b"1234567", b"%d" % (n + 1))


def _seconds(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def _quantiles(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    last = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return {"p50": round(statistics.median(ordered) * 1e3, 3), "p99": round(last * 1e3, 3)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leaves", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
