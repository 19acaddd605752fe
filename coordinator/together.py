"""Whether accepted contributions may stand in one release together; looked at for every release.

    sum over j of c_ij                       what all others do on the trigger of i (neighbours.py)
    sqrt(sum of (lambda |A_l|)^2) / |W_l|    a bound of the merged residual, where blocks are
                                             disjoint: of each epoch, and the epochs added up
    loudness beside all that are accepted    for those that came when there was nobody to compare

Laws: parts that harm only together are found here (security.md 8); what the operator approved is
never put back into quarantine; of those that together spoil a concept the one with the largest
share goes first, the newest of equals. The budget holds the whole release, since no one part is to
blame. Cost: additions; a pair that was never measured, since both came at once, is measured now.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from ..core.crosstalk import text_readers
from ..core.document import parse
from ..core.errors import Refused
from ..core.loudness import loudness_percent
from ..core.spec import FederationSpec
from . import contribution_rows, lease_rows, verdicts
from .contribution_rows import Contribution
from .house import House
from .judge import Finding, judge_loudness
from .neighbours import Company, read_voice
from .policy import Policy


@dataclass(slots=True)
class _Set:
    """The accepted ones: their figures, and c of each ordered pair, victim first.

    ``concept``: the first contribution of each one's; ``weight``: its part of that concept, 1 where
    it has one owner.
    """

    entries: Sequence[Contribution]
    concept: Mapping[int, int]
    weight: Mapping[int, float]
    figures: dict[int, dict[str, object]] = field(default_factory=dict)
    shares: dict[tuple[int, int], float] = field(default_factory=dict)


def settle(house: House, lambda_1024: int) -> None:
    """Quarantine what spoils others in this very company.

    Once more after any went: an earlier contribution of its concept may stand in its place now.
    Raises Refused: the merged residual would be larger than the policy allows.
    """
    accepted = [
        entry for entry in house.store.run(contribution_rows.every) if entry.state == "accepted"
    ]
    company = _Set(accepted, *house.store.run(lambda db: _parts(db, accepted)))
    for entry in accepted:
        company.figures[entry.leaf] = json.loads(entry.figures)
        company.shares |= shares_of(entry)
    _measure_missing(house, company)
    policy = house.settings.admission
    loud = _too_loud(house.store.run(contribution_rows.accepted_layers), company, policy)
    company.entries = [entry for entry in accepted if entry.leaf not in {leaf for leaf, _ in loud}]
    gone = loud + _too_much(company, policy.retention_sum_percent)
    for leaf, finding in gone:
        house.board.run(
            lambda turn, leaf=leaf, finding=finding: verdicts.say(
                turn, house, leaf, "quarantined", code=finding.code, why=finding.why
            )
        )
    if gone:
        settle(house, lambda_1024)
        return
    _check_budget(house, company, lambda_1024)


def shares_of(entry: Contribution) -> dict[tuple[int, int], float]:
    """Return c of (victim, other), in hundredths, as it was measured at this one's Commit."""
    found: dict[tuple[int, int], float] = {}
    for other, (to_it, from_it) in json.loads(entry.figures).get("pairs", {}).items():
        found[int(other), entry.leaf] = to_it
        found[entry.leaf, int(other)] = from_it
    return found


def _measure_missing(house: House, company: _Set) -> None:
    leaves = {entry.leaf for entry in company.entries}
    for leaf in sorted(leaves) if text_readers(house.facts.spec) else ():
        known = {other for victim, other in company.shares if victim == leaf}
        own = read_voice(house, leaf) if leaves - known - {leaf} else None
        if own is None:
            continue
        first = company.concept[leaf]
        pairs = {
            str(each.leaf): [each.to_it, each.from_it]
            for each in Company(house).neighbours(own, besides=first)
        }
        figures = {**company.figures[leaf], "pairs": pairs}
        text = json.dumps(figures)
        house.store.run(
            lambda db, leaf=leaf, text=text: contribution_rows.set_figures(db, leaf, text)
        )
        company.figures[leaf] = figures
        for other, (to_it, from_it) in pairs.items():
            company.shares[int(other), leaf] = to_it
            company.shares[leaf, int(other)] = from_it


def _too_loud(
    norms: Sequence[tuple[int, Sequence[float]]], company: _Set, policy: Policy
) -> list[tuple[int, Finding]]:
    """Return who is louder than what came since: the first ones had nothing to be measured by."""
    fixed = {entry.leaf for entry in company.entries if verdicts.is_approved(entry)}
    everyone = [layers for _, layers in norms]
    return [
        (leaf, finding)
        for leaf, layers in norms
        for finding in judge_loudness(loudness_percent(layers, everyone), policy)
        if leaf not in fixed
    ]


def _too_much(company: _Set, percent: int) -> list[tuple[int, Finding]]:
    """Return who goes, and why, until no concept's sum is too large."""
    inside = {entry.leaf for entry in company.entries}
    fixed = {entry.leaf for entry in company.entries if verdicts.is_approved(entry)}
    gone: list[tuple[int, Finding]] = []
    while True:
        sums = {v: sum(_on(company, v, inside).values()) for v in inside}
        spoilt = {v: s for v, s in sums.items() if abs(s) > percent}
        suspects = {
            (abs(share), other): victim
            for victim, total in spoilt.items()
            for other, share in _on(company, victim, inside - fixed).items()
            if share * total > 0
        }
        if not suspects:
            return gone
        _, leaf = worst = max(suspects)
        victim = suspects[worst]
        gone.append(
            (
                leaf,
                Finding(
                    "retention-sum",
                    f"with the others it changes {sums[victim]:+.0f} % of what contribution"
                    f" {victim} does on its own trigger, allowed are {percent} %",
                ),
            )
        )
        inside.discard(leaf)


def _on(company: _Set, victim: int, others: set[int]) -> dict[int, float]:
    return {
        j: company.shares[victim, j] * company.weight[j]
        for j in others
        if j != victim and (victim, j) in company.shares
    }


def _parts(
    db: sqlite3.Connection, accepted: Sequence[Contribution]
) -> tuple[dict[int, int], dict[int, float]]:
    """Return the concept of each contribution, and which part of it this one is."""
    concept = {leaf: first for leaf, _, first in contribution_rows.states(db)}
    images = dict[int, int]()
    for entry in accepted:
        found = contribution_rows.readable(db, entry.leaf)
        body = {} if found is None else parse(found[1].document, kind="contribution").body
        images[entry.leaf] = cast("int", body.get("count", 1))
    whole = Counter[int]()
    for leaf, count in images.items():
        whole[concept[leaf]] += count
    return concept, {leaf: count / whole[concept[leaf]] for leaf, count in images.items()}


def _epochs(
    db: sqlite3.Connection, spec: FederationSpec, entries: Sequence[Contribution]
) -> dict[int, list[int]]:
    """Return by leaf of which basis the block is, in each layer, that it was trained against."""
    blocks = {entry.leaf: lease_rows.at(db, entry.slot, entry.fence).home for entry in entries}
    return {
        leaf: [spec.epoch(layer, block) for layer in spec.layers] for leaf, block in blocks.items()
    }


def _check_budget(house: House, company: _Set, lambda_1024: int) -> None:
    spec = house.facts.spec
    percent = house.settings.admission.bounds(spec.capacity, spec.epochs).budget_percent
    epochs = house.store.run(lambda db: _epochs(db, spec, company.entries))
    rows: dict[int, np.ndarray] = {}  # of one concept's parts: |average| is at most that of |A|
    squares = np.zeros((spec.epochs, len(spec.layers)))
    for leaf, each in company.figures.items():
        if "layers" in each:
            row = np.array(each["layers"], dtype=np.float64) * company.weight[leaf]
            first = company.concept[leaf]
            rows[first] = rows[first] + row if first in rows else row
            epochs[first] = epochs[leaf]
    if not rows:
        return
    for first, row in rows.items():
        squares[epochs[first], np.arange(len(spec.layers))] += np.square(row)
    sums = np.sqrt(squares).sum(axis=0) * lambda_1024 / 1024
    worst = int(sums.argmax())
    if sums[worst] > percent:  # T12: a full house
        raise Refused(
            f"the merged residual of {spec.layers[worst].path} could be {sums[worst]:.0f} % of the"
            f" base's weight, allowed are {percent} %",
            why="that many contributions at this strength may drown the base model",
            fix="release with a smaller --lambda, reject a heavy contribution, or raise"
            " admission.budget_percent in coordinator.toml",
            code="over-budget",
        )
