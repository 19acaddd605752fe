"""What every later version must find in a stored database of an earlier one (R20).

tests/databases/state-<n>.db.gz is a small federation's real database of format n: a released
contribution, one that came after, an upload under way, a lease; from format 3 on a member that was
revoked, from format 5 on one that has another key now, from format 6 on orders in each state, a
node key and a score, from format 7 on a contribution that took another one's place, and a lease of
its slot once more, from format 8 on a concept of two owners, and a third one's lease beside it.
``state-<n>.json`` is what ``look`` found in it then. Neither ever changes;
test_migrations.py writes the pair of a new format.
"""

import gzip
import json
from pathlib import Path
from typing import Any

from orthofed.coordinator import node_keys, orders
from orthofed.coordinator.migrations import FORMAT
from orthofed.coordinator.orders import FleetOrder, OrderState
from orthofed.coordinator.removal import Removal
from orthofed.coordinator.revocation import Terms, revoke
from orthofed.coordinator.store import Store
from orthofed.core.document import sign
from orthofed.core.withdrawal import Withdrawal
from orthofed.proto.wire import OrderKind

from .member import Given
from .node_lines import node_line
from .serving import FastFs, founded, running

FOLDER = Path(__file__).parent / "databases"
ASKED: tuple[tuple[OrderKind, OrderState], ...] = (
    *(("train", "open"), ("withdraw", "cancelled")),
    *(("score", "expired"), ("withdraw", "open")),
)


def look(db: Any) -> dict[str, Any]:
    """Return what every later version must find in the database, with SQL of our own."""
    head = db.execute("SELECT size, hex(peaks), hex(checkpoint) FROM head").fetchone()
    slots = db.execute("SELECT id, state, fence, client FROM slot ORDER BY id")
    receipts = db.execute("SELECT hex(id), leaf, hex(receipt) FROM upload ORDER BY slot, fence")
    contributions = db.execute("SELECT leaf, slot, fence, state FROM contribution ORDER BY leaf")
    leaves = db.execute("SELECT idx, kind, hex(hash) FROM leaf ORDER BY idx")
    releases = db.execute("SELECT n, state, hex(document), hex(receipt) FROM release ORDER BY n")
    revoked = db.execute("SELECT member, t, why FROM revocation ORDER BY member")
    rotated = db.execute("SELECT old, new, day, hex(document) FROM rotation ORDER BY old")
    ordered = db.execute(
        "SELECT hex(id), member, kind, concept, release, state, made, until, size, leaf"
        " FROM fleet_order ORDER BY rowid"
    )
    nodes = db.execute("SELECT member, public_key, node FROM fleet_key ORDER BY n")
    scores = db.execute("SELECT * FROM score ORDER BY release, leaf")
    concepts = db.execute("SELECT leaf, first, state FROM standing ORDER BY leaf")
    kept = db.execute("SELECT id, kept FROM slot ORDER BY id")
    replaced = db.execute("SELECT leaf, replaces FROM lease ORDER BY leaf")
    seats = db.execute("SELECT slot, fence, block, joins, share FROM lease ORDER BY leaf")
    homes = db.execute("SELECT id, home FROM slot ORDER BY id")
    names = db.execute("SELECT kind, name, slot, fence FROM name ORDER BY kind, name")
    return {
        "head": list(head),
        **{
            name: [list(row) for row in rows]
            for name, rows in (
                ("slots", slots),
                ("uploads", receipts),
                ("contributions", contributions),
                ("leaves", leaves),
                ("releases", releases),
                ("names", names),
                ("revoked", revoked),
                ("rotated", rotated),
                ("ordered", ordered),
                ("nodes", nodes),
                ("scores", scores),
                ("concepts", concepts),
                ("kept", kept),
                ("replaced", replaced),
                ("seats", seats),
                ("homes", homes),
            )
        },
    }


def _order(db: Any, member: str) -> None:
    """Write what an operator asked of the member, in each state but done, and a score."""
    size = db.execute("SELECT size FROM head").fetchone()[0]
    for number, (kind, state) in enumerate(ASKED):
        row = FleetOrder(
            *(bytes([number]) * 16, member, kind, "bert", int(kind == "score"), state),
            *(1_790_000_000, 1_900_000_000, size),
        )
        orders.add_order(db, row)
    leaf = db.execute("SELECT leaf FROM contribution ORDER BY leaf").fetchone()[0]
    db.execute("INSERT INTO score VALUES (1, ?, 90000, 50000, 60000, 8, 4, 1790000000)", (leaf,))
    node_keys.set_node(db, node_line(2), (1 << 64) - 1)


def write_this_format(scratch: Path) -> None:
    """Run a small federation and store its database with what ``look`` finds in it."""
    folder = founded(scratch)
    with running(folder) as coordinator:
        ana, ben, cleo, dora, eve, finn = (coordinator.member() for _ in range(6))
        first = ana.lease("anna", ("anna-k7",))
        taught = ana.check(ana.contribute(ana.pack(first))).index
        out = eve.lease("evi", ("evi-k7",))
        leaf = eve.check(eve.contribute(eve.pack(out))).index
        coordinator.release()
        given = Given(taught, first.key)
        second = ana.lease("anna", ("anna-k7",), replaces=given)
        leaf_2 = ana.check(ana.contribute(ana.pack(second, seed=1))).index
        ana.lease("anna", ("anna-k7",), replaces=Given(leaf_2, second.key))
        ben.contribute(ben.pack(ben.lease("bert", ("bert-k7",))))
        cleo.begin(cleo.pack(cleo.lease("cleo", ("cleo-k7",))))
        dora.lease("dora", ("dora-k7",))
        dora.rotate()
        facts = coordinator.house.facts
        word = Withdrawal(out.key.public_hex, facts.spec.id, leaf, facts.log, t=1_790_000_000)
        signed = sign("withdrawal", word.body(), [out.key]).to_bytes()
        Removal(coordinator.house).withdraw(signed)
        finn.lease("finn", ("finn-k7",))
        ben.register_node(node_line(1))
        ben.register_node(node_line(2))
        coordinator.house.store.run(lambda db: _order(db, ben.key.public_hex))
        revoke(coordinator.house, finn.key.public_hex, Terms(why="he left"))
        gus, hana, ines = (coordinator.member() for _ in range(3))
        shared = gus.lease("gus", ("gus-k7",))
        part = gus.check(gus.contribute(gus.pack(shared, count=4))).index
        share = gus.share(shared, part)
        seat = hana.lease("gus", ("gus-k7",), joins=share)
        hana.contribute(hana.pack(seat, seed=9, count=6))
        ines.lease("gus", ("gus-k7",), joins=share)
    store = Store(folder.database, fs=FastFs())
    found = store.run(look)
    store.close()
    name = f"state-{FORMAT}"
    data = gzip.compress(folder.database.read_bytes(), 9, mtime=0)
    (FOLDER / f"{name}.db.gz").write_bytes(data)
    (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
