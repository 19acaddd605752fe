"""Which concepts of a release do most on the trigger of each other one, by admission's estimate.

    percent of i by j = sum over the parts k of j of c_ik lambda_k / lambda_i

c_ik is what was measured once when the later of the two came (neighbours.py), on probes of the
layers that read text and without a picture; with several owners lambda_i is the sum over the parts
of i. Laws: it is an estimate that names where to look, and no owner's figure; negative cancels a
part of what i does; nothing follows by itself. Not here: what spoils a release (together.py).
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from . import contribution_rows
from .contribution_rows import Contribution
from .house import House
from .publications import Included
from .together import shares_of

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Disturber:
    """One concept by its earliest leaf in the release; ``percent``: of what the other one does."""

    leaf: int
    percent: float


def disturbers(house: House, included: Sequence[Included]) -> dict[int, tuple[Disturber, ...]]:
    """Return by leaf at most three other concepts, the heaviest first; none where all is 0.0."""

    def look(db: sqlite3.Connection) -> tuple[list[Contribution], dict[int, int]]:
        found = [contribution_rows.of_leaf(db, item.leaf) for item in included]
        rows = [entry for entry in found if entry is not None]
        return rows, {leaf: first for leaf, _, first in contribution_rows.states(db)}

    rows, concept = house.store.run(look)
    strength = {item.leaf: item.lambda_1024 for item in included}
    whole, names = Counter[int](), dict[int, int]()
    for leaf in sorted(strength):
        whole[concept[leaf]] += strength[leaf]
        names.setdefault(concept[leaf], leaf)
    shares: dict[tuple[int, int], float] = {}
    for entry in rows:  # parsed here, not in the one thread of the database
        shares |= shares_of(entry)
    sums: dict[int, dict[int, float]] = {leaf: defaultdict(float) for leaf in strength}
    for (victim, other), share in shares.items():
        if victim not in strength or other not in strength or not whole[concept[victim]]:
            continue
        part = strength[other] / whole[concept[victim]]
        sums[victim][names[concept[other]]] += share * part
    return {leaf: _heaviest(found) for leaf, found in sums.items()}


def _heaviest(sums: dict[int, float]) -> tuple[Disturber, ...]:
    ranked = sorted(sums.items(), key=lambda pair: (-abs(pair[1]), pair[0]))[:_NAMED]
    found = (Disturber(leaf, round(percent, 1)) for leaf, percent in ranked)
    return tuple(each for each in found if each.percent)
