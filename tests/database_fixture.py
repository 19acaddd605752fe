"""Makes the stored database of the format that this checkout writes: tests/databases/state-<n>.db.gz.

Run it once, in the commit that raises ``FORMAT`` (store.py), and never change its output again: later
versions must open it (R20). It is a small federation's real database: one released contribution, one
that came after, an upload under way, a lease, one given back. Beside it, ``state-<n>.json`` holds what
a reader must find. ``.venv/bin/python -P -m pytest`` runs nothing of this; run
``PYTHONPATH=tests python -c "import database_fixture; database_fixture.main()"`` from the root.
"""

import gzip
import json
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "databases"


def look(db: Any) -> dict[str, Any]:
    """Return what every later version must find in the database, with SQL of our own."""
    head = db.execute("SELECT size, hex(peaks), hex(checkpoint) FROM head").fetchone()
    slots = db.execute("SELECT id, state, fence, client FROM slot ORDER BY id")
    receipts = db.execute("SELECT hex(id), leaf, hex(receipt) FROM upload ORDER BY slot, fence")
    contributions = db.execute("SELECT leaf, slot, fence, state FROM contribution ORDER BY leaf")
    leaves = db.execute("SELECT idx, kind, hex(hash) FROM leaf ORDER BY idx")
    releases = db.execute("SELECT n, state, hex(document), hex(receipt) FROM release ORDER BY n")
    names = db.execute("SELECT kind, skeleton, name, slot, fence FROM name ORDER BY kind, skeleton")
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
            )
        },
    }
