"""Which concept suffers in a release, by what their owners measured at home.

    retention = (base - merged) / (base - single)      1 is as good merged as alone

Laws: a concept under the operator's ``kept_percent`` is marked, one that nobody measured is said to
be so, and nothing follows by itself: the figures are the owners' own word. Source: design.md,
decision 8; core/metrics.py has the same formula for floats. Beside them ``disturbed_by``, which is
admission's estimate and no owner's figure (disturbers.py).
"""

import sqlite3
from typing import Any

from ..core.errors import Refused
from . import lease_rows, publications, scores, upload_rows
from .disturbers import disturbers
from .house import House


def table(house: House, n: int, *, by_whom: bool = False) -> dict[str, Any]:
    """Return each concept of release ``n``, 0 for the newest, the lowest retention first.

    ``by_whom``: with ``disturbed_by``, which reads the figures of every pair.

    Raises Refused: there is no such release.
    """
    least = house.settings.admission.kept_percent

    def look(db: sqlite3.Connection) -> tuple[publications.Published, list[dict[str, Any]]]:
        found = publications.published(db, n) if 0 < n <= _MOST else None
        found = publications.newest(db) if n == 0 else found
        if found is None:
            raise Refused(
                f"there is no release {n}" if n else "nothing is released yet",
                why="owners measure their concepts in a published release",
                fix="publish one with orthofed coordinator release",
                code="no-such-release",
            )
        measured = scores.scores(db, found.n)
        rows = [_row(db, item, measured.get(item.leaf), least) for item in found.plan.included]
        rows.sort(key=lambda row: (row["retention"] is None, row["retention"] or 0, row["concept"]))
        return found, rows

    found, rows = house.store.run(look)
    if by_whom:
        names = {row["leaf"]: row["concept"] for row in rows}
        heavy = disturbers(house, found.plan.included)
        rows = [
            {
                **row,
                "disturbed_by": [
                    {"concept": names[each.leaf], "leaf": each.leaf, "percent": each.percent}
                    for each in heavy[row["leaf"]]
                ],
            }
            for row in rows
        ]
    return {"release": found.n, "kept_percent": least, "concepts": rows}


_MOST = (1 << 31) - 1


def _row(
    db: sqlite3.Connection, item: publications.Included, found: scores.Scored | None, least: int
) -> dict[str, Any]:
    upload = upload_rows.at(db, item.slot, item.fence)
    lease = None if upload is None else lease_rows.of_client(db, upload.client)
    kept = None if found is None else found.retention
    return {
        "concept": "" if lease is None else lease.concept,
        "member": "" if lease is None else lease.member,
        "leaf": item.leaf,
        "lambda_1024": item.lambda_1024,
        "retention": kept,
        "suffers": kept is not None and kept * 100 < least,
        "measured": None
        if found is None
        else {
            "base_millionths": found.base,
            "single_millionths": found.single,
            "merged_millionths": found.merged,
            "pictures": found.pictures,
            "draws": found.draws,
            "t": found.t,
        },
    }
