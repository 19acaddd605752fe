"""From outcomes to the study's table: gains, retention, identity, intervals.

    gain       1 - L / L_base, of the concept alone or merged
    retention  (L_base - L_merged) / (L_base - L_single), a concept in a set
    interval   paired bootstrap of the difference from another method: concepts are drawn first,
               then sets, and both methods answer for the same (method.md 8)

A cell is "SIZE@LAMBDA"; a size of 1 is the concept alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from .pictures import Drawn
from .trial import Trial
from .trials import Outcome

BOOTSTRAPS = 10_000
Values = dict[tuple[str, tuple[str, ...]], float]
"""One figure of every concept in every set of a cell."""


def table(
    base: Mapping[str, float], outcomes: Sequence[Outcome], drawn: Sequence[Drawn]
) -> dict[str, dict[str, Any]]:
    """Return a row a method: its rate's factor, its loss alone, and what each cell keeps."""
    rows: dict[str, dict[str, Any]] = {}
    for method in dict.fromkeys(o.trial.method for o in outcomes):
        own = [o for o in outcomes if o.trial.method == method]
        alone = {o.trial.names[0]: o.losses[o.trial.names[0]] for o in own if _size(o) == 1}
        cells = {_cell(o.trial): [] for o in own}
        for o in own:
            cells[_cell(o.trial)].append(o)
        rows[method] = {
            "factor": own[0].trial.factor,
            **{cell: _kept(base, alone, some) for cell, some in cells.items()},
        }
        for cell in dict.fromkeys(_cell(d.trial) for d in drawn if d.trial.method == method):
            some = [d for d in drawn if d.trial.method == method and _cell(d.trial) == cell]
            rows[method][cell] = {**_seen(some), **rows[method].get(cell, {})}
    return rows


def losses(outcomes: Sequence[Outcome], method: str, cell: str) -> Values:
    """Return the loss of every concept in every set."""
    some = [o for o in outcomes if o.trial.method == method and _cell(o.trial) == cell]
    return {(name, o.trial.names): loss for o in some for name, loss in o.losses.items()}


def retentions(
    base: Mapping[str, float], outcomes: Sequence[Outcome], method: str, cell: str
) -> Values:
    """Return the retention of every concept in every set; nothing for a concept alone."""
    own = [o for o in outcomes if o.trial.method == method]
    alone = {o.trial.names[0]: o.losses[o.trial.names[0]] for o in own if _size(o) == 1}
    return {
        (name, o.trial.names): (base[name] - loss) / (base[name] - alone[name])
        for o in own
        if _cell(o.trial) == cell and _size(o) > 1
        for name, loss in o.losses.items()
    }


def gains(base: Mapping[str, float], outcomes: Sequence[Outcome], method: str, cell: str) -> Values:
    """Return what every concept in every set gained over the base."""
    kept = losses(outcomes, method, cell)
    return {(name, names): 1 - loss / base[name] for (name, names), loss in kept.items()}


def crosstalks(
    outcomes: Sequence[Outcome], method: str, cell: str, kind: Literal["functional", "weights"]
) -> Values:
    """Return the crosstalk of every set, which stands in a concept's place; none of one alone."""
    return {
        (",".join(o.trial.names), o.trial.names): getattr(o, kind)
        for o in outcomes
        if o.trial.method == method and _cell(o.trial) == cell and _size(o) > 1
    }


def identities(drawn: Sequence[Drawn], method: str, cell: str) -> Values:
    """Return the identity rate of every concept in every set."""
    some = [d for d in drawn if d.trial.method == method and _cell(d.trial) == cell]
    return {(name, d.trial.names): rate for d in some for name, rate in d.identity.items()}


def difference(one: Values, other: Values, *, seed: int = 0) -> dict[str, float] | None:
    """Return the mean of ``one`` - ``other`` over (concept, set), and its 95 % interval.

    None: not both were tried on any set.
    """
    gaps: dict[str, list[float]] = {}
    for name, names in sorted(one.keys() & other.keys()):
        gaps.setdefault(name, []).append(one[name, names] - other[name, names])
    if not gaps:
        return None
    random, groups = np.random.default_rng(seed), [np.array(v) for v in gaps.values()]
    counts = np.array([len(g) for g in groups])
    padded = np.stack([np.resize(g, counts.max()) for g in groups])  # beyond its count never drawn
    chosen = random.integers(len(groups), size=(BOOTSTRAPS, len(groups)))
    size = counts[chosen][..., None]
    drawn = (random.random((*chosen.shape, counts.max())) * size).astype(int)
    values = np.where(np.arange(counts.max()) < size, padded[chosen[..., None], drawn], 0.0)
    means = (values.sum(-1) / size[..., 0]).mean(-1)
    low, high = np.percentile(means, [2.5, 97.5])
    mean = float(np.mean([g.mean() for g in groups]))
    return {"mean": round(mean, 6), "low": round(float(low), 6), "high": round(float(high), 6)}


def _kept(
    base: Mapping[str, float], alone: Mapping[str, float], some: Sequence[Outcome]
) -> dict[str, float]:
    pairs = [(n, loss) for o in some for n, loss in o.losses.items()]
    kept = [(base[n] - loss) / (base[n] - alone[n]) for n, loss in pairs]
    found = {"loss": _mean(loss for _, loss in pairs)}
    found["gain"] = _mean(1 - loss / base[n] for n, loss in pairs)
    if _size(some[0]) > 1:
        found |= {
            "retention": _mean(kept),
            "worst_retention": round(min(kept), 4),
            "functional_crosstalk": _mean(o.functional for o in some),
            "weight_crosstalk": _mean(o.weights for o in some),
            "sets": len(some),
        }
    return found


def _seen(some: Sequence[Drawn]) -> dict[str, float]:
    rates = [rate for d in some for rate in d.identity.values()]
    counts = [(who, seen) for d in some for who, seen in d.nearest.items()]
    nearest = [seen.get(who, 0) / sum(seen.values()) for who, seen in counts]
    return {
        "identity": _mean(rates),
        "likeness": _mean(x for d in some for x in d.likeness.values()),
        "nearest_is_own": _mean(nearest),
        "pictures": sum(sum(seen.values()) for _, seen in counts),
    }


def _cell(trial: Trial) -> str:
    return f"{len(trial.names)}@{trial.lambda_:g}"


def _size(outcome: Outcome) -> int:
    return len(outcome.trial.names)


def _mean(values) -> float:
    return round(float(np.mean([*values])), 6)
