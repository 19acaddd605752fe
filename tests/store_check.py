"""The store check: reads a coordinator's stopped folder and says what is wrong with it.

Law (reliability.md 7): it shares no code with the server but SHA-256, and it reads the folder and
the clients' acknowledgement logs, nothing else. What it holds the folder to are promises 1 to 4 of
reliability.md 1. Cost: every blob is hashed once. Not here: trees and receipts (plain_ledger.py),
signatures (the clients checked them when they got their receipts).

    violations = check(folder, acknowledged)      # [] is what every fault test wants to see
"""

import hashlib
import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .plain_ledger import PlainLedger, read_note

_LIVE = ("pending", "accepted", "quarantined")


@dataclass
class Found:
    """What one folder holds: figures for the tables, and violations."""

    violations: list[str] = field(default_factory=list)
    num_leaves: int = 0
    num_contributions: int = 0
    lost: int = 0
    twice: int = 0
    without_receipt: int = 0

    def say(self, text: str) -> None:
        self.violations.append(text)


def check(
    folder: Path,
    acknowledged: list[bytes],
    *,
    granted: Sequence[tuple[str, int, int]] = (),
    settled: bool = False,
) -> Found:
    """Check a folder that no process owns against the receipts that clients hold.

    ``granted``: client key, slot and fence of the leases that clients were told of.
    ``settled``: a coordinator started and stopped cleanly after the last fault, so that nothing may
    be left lying about.
    """
    found = Found()
    with tempfile.TemporaryDirectory() as scratch, closing(_copy(folder, Path(scratch))) as db:
        if db.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
            found.say("the database is damaged")
            return found
        tree = _check_rows(db, folder, found)
        _check_releases(db, folder, found)
        _check_acknowledged(tree, acknowledged, granted, found)
        _check_public(folder, tree, found)
        _check_sum(folder, found)
        _check_left_over(db, folder, found, settled=settled)
    return found


def check_open(db: sqlite3.Connection, folder: Path) -> Found:
    """Check rows and blobs through a connection that a coordinator has open."""
    found = Found()
    _check_rows(db, folder, found)
    return found


def _check_rows(db: sqlite3.Connection, folder: Path, found: Found) -> PlainLedger:
    tree = PlainLedger([row[0] for row in db.execute("SELECT body FROM leaf ORDER BY idx")])
    found.num_leaves = len(tree.bodies)
    _check_ledger(db, tree, found)
    _check_leases(db, tree, found)
    _check_contributions(db, folder, tree, found)
    _check_released(db, tree, found)
    return tree


def _copy(folder: Path, scratch: Path) -> sqlite3.Connection:
    """Open a copy: looking must not recover, checkpoint or create anything in the folder."""
    for name in ("state.db", "state.db-wal"):
        if (folder / "data" / name).exists():
            shutil.copyfile(folder / "data" / name, scratch / name)
    return sqlite3.connect(scratch / "state.db")


def _check_ledger(db: sqlite3.Connection, tree: PlainLedger, found: Found) -> None:
    size, note = db.execute("SELECT size, checkpoint FROM head").fetchone()
    if size != len(tree.bodies):
        found.say(f"the head says {size} leaves, there are {len(tree.bodies)}")
    if read_note(note) != (len(tree.bodies), tree.root(len(tree.bodies))):
        found.say("the checkpoint is not of these leaves")
    for index, (idx, kind, stored) in enumerate(
        db.execute("SELECT idx, kind, hash FROM leaf ORDER BY idx")
    ):
        hashed = hashlib.sha256(b"\0" + tree.bodies[index]).digest()
        if (idx, kind, stored) != (index, tree.leaves[index]["kind"], hashed):
            found.say(f"leaf {index} is out of place, or its kind or hash differs")


def _check_leases(db: sqlite3.Connection, tree: PlainLedger, found: Found) -> None:
    """I1: the fences of a slot are 1, 2, 3, ... in the ledger, and the slot stands at the last."""
    fences: Counter[int] = Counter()
    for index, leaf in enumerate(tree.leaves):
        if leaf["kind"] == "lease":
            fences[leaf["slot"]] += 1
            if leaf["fence"] != fences[leaf["slot"]]:
                found.say(f"leaf {index} grants slot {leaf['slot']} at fence {leaf['fence']}")
    for slot, fence in db.execute("SELECT id, fence FROM slot"):
        if fence != fences[slot]:
            found.say(f"slot {slot} stands at fence {fence}, the ledger at {fences[slot]}")


def _check_contributions(
    db: sqlite3.Connection, folder: Path, tree: PlainLedger, found: Found
) -> None:
    rows = {row[0]: row[1:] for row in db.execute("SELECT leaf, slot, fence FROM contribution")}
    gone = "SELECT leaf FROM contribution WHERE state = 'withdrawn'"
    withdrawn = {row[0] for row in db.execute(gone)}
    receipts = dict(db.execute("SELECT leaf, receipt FROM upload WHERE leaf IS NOT NULL"))
    granted: set[tuple[int, int]] = set()
    seen: Counter[tuple[int, int]] = Counter()
    for index, leaf in enumerate(tree.leaves):
        if leaf["kind"] == "lease":
            granted.add((leaf["slot"], leaf["fence"]))
        if leaf["kind"] != "contribution":
            continue
        said = leaf["doc"]["body"]
        place = said["slot"], said["fence"]
        seen[place] += 1
        if place not in granted:
            found.say(f"leaf {index} is of a lease that was not granted before it")
        if rows.pop(index, None) != place:
            found.say(f"leaf {index} has no contribution row of its own")
        if not tree.proves(receipts.pop(index, None), index):
            found.without_receipt += 1
            found.say(f"contribution {index} has no receipt stored with it")
        if index not in withdrawn:
            _check_blob(folder, index, said, found)
    found.num_contributions = sum(seen.values())
    found.twice += sum(count - 1 for count in seen.values())
    found.violations += [
        f"slot and fence {at} contributed {n} times" for at, n in seen.items() if n > 1
    ]
    found.violations += [f"a contribution row without a leaf at {leaf}" for leaf in rows]
    found.violations += [f"a receipt without a leaf at {leaf}" for leaf in receipts]
    _check_slots(db, tree, found)
    _check_names(tree, found)


def _firsts(tree: PlainLedger) -> dict[int, int]:
    """Return the first contribution of each one's concept, from the leaves."""
    firsts: dict[int, int] = {}
    for index, leaf in enumerate(tree.leaves):
        if leaf["kind"] == "contribution":
            replaced = leaf["doc"]["body"].get("replaces", {"leaf": index})["leaf"]
            firsts[index] = firsts.get(replaced, index)
    return firsts


def _check_slots(db: sqlite3.Connection, tree: PlainLedger, found: Found) -> None:
    """I3: a slot holds one concept's contribution: the accepted one that came last."""
    concepts: dict[int, dict[str, tuple[int, int]]] = {}
    firsts = _firsts(tree)
    rows = "SELECT leaf, slot, fence, state FROM contribution ORDER BY leaf"
    for leaf, slot, fence, state in db.execute(rows):
        kind = "accepted" if state == "accepted" else "waits"
        if state in _LIVE:
            first: int = firsts.get(leaf, 0) or leaf
            concepts.setdefault(first, {})[kind] = slot, fence
    live = [held.get("accepted") or held["waits"] for held in concepts.values()]
    num = Counter(slot for slot, _ in live)
    found.twice += sum(count - 1 for count in num.values() if count > 1)
    found.violations += [
        f"slot {slot} holds {n} live contributions" for slot, n in num.items() if n > 1
    ]
    fences = dict(live)
    for slot, state, kept in db.execute("SELECT id, state, kept FROM slot"):
        if (state in ("filled", "revising")) != (num[slot] == 1):
            found.say(f"slot {slot} is {state} and holds {num[slot]} live contributions")
        if state != "emptying" and kept != fences.get(slot, 0):
            found.say(f"slot {slot} is said to hold fence {kept}, live is {fences.get(slot, 0)}")


def _check_names(tree: PlainLedger, found: Found) -> None:
    """I6: no two concepts that stand have triggers that are one word without their hyphens.

    Of a concept with several owners that is its first owner's first contribution, as long as a part
    of anybody's stands.
    """
    owners: dict[str, int] = {}
    firsts, concepts = _firsts(tree), dict[int, int]()
    standing: dict[int, set[int]] = {}
    for index, leaf in enumerate(tree.leaves):
        if leaf["kind"] == "withdrawal":
            part = firsts.get(leaf["doc"]["body"]["leaf"], -1)
            concept = concepts.get(part, -1)
            standing.get(concept, set()).discard(part)
            if not standing.get(concept):
                owners = {trigger: owner for trigger, owner in owners.items() if owner != concept}
        if leaf["kind"] == "contribution":
            body, part = leaf["doc"]["body"], firsts[index]
            share = body.get("share")
            concept = concepts.setdefault(part, firsts[share["leaf"]] if share else part)
            standing.setdefault(concept, set()).add(part)
            for trigger in body["triggers"]:
                first = owners.setdefault(trigger.replace("-", ""), concept)
                if first != concept:
                    found.say(f"leaves {first} and {index} have one trigger, {trigger}")


def _check_released(db: sqlite3.Connection, tree: PlainLedger, found: Found) -> None:
    """I5: no slot is leased to others while the newest release holds its old contribution."""
    newest = "SELECT plan FROM release WHERE state = 'published' ORDER BY n DESC LIMIT 1"
    row = db.execute(newest).fetchone()
    held = {} if row is None else {i["slot"]: i["leaf"] for i in json.loads(row[0])["included"]}
    firsts = _firsts(tree)
    query = (
        "SELECT s.id, s.state, c.leaf FROM slot s"
        " LEFT JOIN contribution c ON c.slot = s.id AND c.fence = s.kept"
    )
    for slot, state, leaf in db.execute(query):
        if slot in held and (
            firsts.get(leaf) != firsts.get(held[slot], 0)
            or state not in ("filled", "revising", "emptying")
        ):
            found.say(f"slot {slot} is {state} with {leaf}; the newest release holds {held[slot]}")


def _check_blob(folder: Path, index: int, said: dict[str, Any], found: Found) -> None:
    path = folder / "data" / "blobs" / said["blob"][:2] / said["blob"]
    if not path.is_file():
        found.lost += 1
        found.say(f"contribution {index} has lost its blob")
        return
    data = path.read_bytes()
    if (len(data), hashlib.sha256(data).hexdigest()) != (said["bytes"], said["blob"]):
        found.lost += 1
        found.say(f"contribution {index} has another blob than its manifest says")


def _check_acknowledged(
    tree: PlainLedger,
    acknowledged: list[bytes],
    granted: Sequence[tuple[str, int, int]],
    found: Found,
) -> None:
    """Promise 1: every receipt and every lease that a client was told of is still true."""
    leases = {
        (leaf["client"], leaf["slot"], leaf["fence"])
        for leaf in tree.leaves
        if leaf["kind"] == "lease"
    }
    found.violations += [
        f"a granted lease is lost: {each}" for each in granted if each not in leases
    ]
    for receipt in acknowledged:
        line = receipt.split(b"\n")[2]
        if not tree.proves(receipt, int(line.removeprefix(b"index "))):
            found.lost += 1
            found.say(f"an acknowledged receipt is not of this ledger: {line.decode()}")


def _check_releases(db: sqlite3.Connection, folder: Path, found: Found) -> None:
    for n, document in db.execute("SELECT n, document FROM release WHERE state = 'published'"):
        built = folder / "public" / "releases" / str(n)
        if not (built / "manifest.json").is_file():
            found.say(f"release {n} is not there")
            continue
        if (built / "manifest.json").read_bytes() != document:
            found.say(f"release {n} has another manifest than was signed")
        for file in json.loads(document)["body"]["files"]:
            path = built / file["name"]
            if not path.is_file() or _sha256(path) != file["sha256"]:
                found.say(f"release {n} is not whole: {file['name']}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_public(folder: Path, tree: PlainLedger, found: Found) -> None:
    """Promise 4: the public files are whole, and never ahead of the database."""
    try:
        size, root = read_note((folder / "public" / "checkpoint").read_bytes())
        if not tree.holds(size, root):
            found.say("public/checkpoint is ahead of the database, or of another ledger")
        for name, data in tree.tiles(min(size, len(tree.bodies))).items():
            path = folder / "public" / name
            if not path.is_file() or path.read_bytes() != data:
                found.say(f"public/{name} is missing, or not what the leaves give")
        for path, inside in (
            (folder / "public" / "head.json", "body"),
            (folder / "high-water", ""),
        ):
            value = json.loads(path.read_bytes())
            value = value[inside] if inside else value
            if not tree.holds(value["size"], bytes.fromhex(value["root"])):
                found.say(f"{path.name} is ahead of the database, or of another ledger")
    except FileNotFoundError as error:
        if len(tree.bodies) > 2:  # the first start writes them
            found.say(f"{error.filename} is gone")
    except (ValueError, KeyError, TypeError) as error:
        found.say(f"a public file is not whole: {error}")


def _check_sum(folder: Path, found: Found) -> None:
    """Promise 4: a closed database's sum is absent, or whole and of this very file."""
    data, database = folder / "data", folder / "data" / "state.db"
    try:
        said = json.loads((data / "state.sum").read_bytes())
    except FileNotFoundError:
        return
    except ValueError:
        found.say("state.sum is not whole")
        return
    if said != {"bytes": database.stat().st_size, "sha256": _sha256(database)}:
        found.say("state.sum is of another database")


def _check_left_over(db: sqlite3.Connection, folder: Path, found: Found, *, settled: bool) -> None:
    if not settled:
        return
    open_uploads = {row[0].hex() for row in db.execute("SELECT id FROM upload WHERE leaf IS NULL")}
    parts = {path.name for path in (folder / "data" / "part").iterdir()}
    found.violations += [f"part {name} is of no open upload" for name in parts - open_uploads]
    releases = {str(row[0]) for row in db.execute("SELECT n FROM release")}
    built = {path.name for path in (folder / "public" / "releases").iterdir()}
    found.violations += [f"release folder {name} is in no row" for name in built - releases]
    left = [path for path in folder.rglob(".*") if path.name.endswith(".tmp")]
    found.violations += [f"{path.relative_to(folder)} was left behind" for path in left]
    named = {row[0] for row in db.execute("SELECT blob FROM upload")}
    blobs = {path.name for path in (folder / "data" / "blobs").glob("*/*")}
    found.violations += [f"blob {name[:16]} is of no upload" for name in blobs - named]
