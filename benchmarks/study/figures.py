"""From outcomes to the study's table: gains, retention, what pictures show, intervals.

    gain       1 - L / L_base, of the concept alone or merged
    retention  (L_base - L_merged) / (L_base - L_single), a concept in a set
    interval   paired bootstrap of the difference from another method: concepts are drawn, then
               sets, and both methods answer for the same; so do training seeds (method.md 8)

A cell is "SIZE@LAMBDA"; a size of 1 is the concept alone. Single and merged are of one seed.
"SIZE@best": the lambda, of those that were run, which serves the other concepts best, so that no
concept's own loss chooses what it is measured at.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np

from .drawn import Drawn
from .trials import Outcome

BOOTSTRAPS = 10_000
Key = tuple[str, tuple[str, ...], int]
Values = dict[Key, float]
"""One figure of every concept in every set of a cell, by training seed."""
BEST = "best"
SEEN = ("identity", "likeness", "nearest_is_own", "image", "text")
"""Figures of pictures: drawn.py."""


def table(
    base: Mapping[str, float], outcomes: Sequence[Outcome], drawn: Sequence[Drawn]
) -> dict[str, dict[str, Any]]:
    """Return a row a method: its rate's factor, its loss alone, and what each cell keeps."""
    rows: dict[str, dict[str, Any]] = {}
    for method in dict.fromkeys(o.trial.method for o in outcomes):
        own = [o for o in outcomes if o.trial.method == method]
        cells: dict[str, list[Outcome]] = {}
        for o in own:
            cells.setdefault(o.trial.cell, []).append(o)
        rows[method] = {
            "factor": own[0].trial.factor,
            **{cell: _kept(base, _alone(own), some) for cell, some in cells.items()},
        }
        for cell in dict.fromkeys(d.trial.cell for d in drawn if d.trial.method == method):
            some = [d for d in drawn if d.trial.method == method and d.trial.cell == cell]
            rows[method][cell] = {**_seen(some), **rows[method].get(cell, {})}
    return rows


def losses(outcomes: Sequence[Outcome], method: str, cell: str) -> Values:
    """Return the loss of every concept in every set."""
    size, _, lambda_ = cell.partition("@")
    if lambda_ == BEST:
        return {key: told[best] for key, (told, best) in _chosen(outcomes, method, size).items()}
    some = [o for o in outcomes if o.trial.method == method and o.trial.cell == cell]
    return {
        (name, o.trial.names, o.trial.seed): loss for o in some for name, loss in o.losses.items()
    }


def best_lambdas(outcomes: Sequence[Outcome], method: str, size: str) -> dict[str, int]:
    """Return how often each lambda is the best one, by concepts in sets of ``size``."""
    counts = Counter(best for _, best in _chosen(outcomes, method, size).values())
    return {lambda_: counts[lambda_] for lambda_ in sorted(counts, key=float)}


def retentions(
    base: Mapping[str, float], outcomes: Sequence[Outcome], method: str, cell: str
) -> Values:
    """Return the retention of every concept in every set; nothing for a concept alone."""
    alone = _alone([o for o in outcomes if o.trial.method == method])
    return {
        (name, names, seed): (base[name] - loss) / (base[name] - alone[name, seed])
        for (name, names, seed), loss in losses(outcomes, method, cell).items()
        if len(names) > 1
    }


def gains(base: Mapping[str, float], outcomes: Sequence[Outcome], method: str, cell: str) -> Values:
    """Return what every concept in every set gained over the base."""
    return {key: 1 - loss / base[key[0]] for key, loss in losses(outcomes, method, cell).items()}


def crosstalks(
    outcomes: Sequence[Outcome], method: str, cell: str, kind: Literal["functional", "weights"]
) -> Values:
    """Return the crosstalk of every set, which stands in a concept's place; none of one alone."""
    return {
        (",".join(o.trial.names), o.trial.names, o.trial.seed): getattr(o, kind)
        for o in outcomes
        if o.trial.method == method and o.trial.cell == cell and len(o.trial.names) > 1
    }


def seen(drawn: Sequence[Drawn], method: str, cell: str, figure: str) -> Values:
    """Return one of SEEN for every concept in every set; nothing where it was not judged yet."""
    some = [d for d in drawn if d.trial.method == method and d.trial.cell == cell]
    return {
        (name, d.trial.names, d.trial.seed): value
        for d in some
        for name, value in getattr(d, figure).items()
    }


def drops(drawn: Sequence[Drawn], method: str, cell: str, figure: str) -> Values:
    """Return what a figure of SEEN changes by from a concept alone, lambda 1, to each set of it.

    Nothing where there are not as many pictures of both: then they are of other noises.
    """
    own = [d for d in drawn if d.trial.method == method]
    counts = {
        (d.trial.cell, name, d.trial.names, d.trial.seed): sum(d.nearest[name].values())
        for d in own
        for name in d.trial.names
    }
    alone = seen(own, method, "1@1", figure)
    return {
        (name, names, seed): value - alone[name, (name,), seed]
        for (name, names, seed), value in seen(own, method, cell, figure).items()
        if len(names) > 1
        and (name, (name,), seed) in alone
        and counts[cell, name, names, seed] == counts["1@1", name, (name,), seed]
    }


def confusion(drawn: Sequence[Drawn], method: str, cell: str) -> dict[str, dict[str, int]]:
    """Return how many pictures of each concept are nearest to which."""
    found: dict[str, dict[str, int]] = {}
    for d in drawn:
        if d.trial.method == method and d.trial.cell == cell:
            for name, counts in d.nearest.items():
                row = found.setdefault(name, {})
                for who, count in counts.items():
                    row[who] = row.get(who, 0) + count
    return found


def difference(one: Values, other: Values, *, seed: int = 0) -> dict[str, float] | None:
    """Return the mean of ``one`` - ``other`` over (concept, set), and its 95 % interval.

    A concept's value in a set is its mean over training seeds. Seeds are drawn once for all, since
    concepts of one seed lie in one model. None: not both were tried on any set with any seed.
    """
    gaps: dict[str, dict[tuple[str, ...], dict[int, float]]] = {}
    for name, names, trained in sorted(one.keys() & other.keys()):
        gap = one[name, names, trained] - other[name, names, trained]
        gaps.setdefault(name, {}).setdefault(names, {})[trained] = gap
    if not gaps:
        return None
    counts = tuple(len(sets) for sets in gaps.values())
    seeds = sorted({s for sets in gaps.values() for by_seed in sets.values() for s in by_seed})
    values = np.full((len(gaps), max(counts), len(seeds)), np.nan)
    for i, sets in enumerate(gaps.values()):
        for k, by_seed in enumerate(sets.values()):
            values[i, k, [seeds.index(s) for s in by_seed]] = [*by_seed.values()]
    share, seed_counts = _resampled(counts, len(seeds), seed)
    means = (share * _over_seeds(values, seed_counts)).sum((1, 2))
    low, high = np.percentile(means, [2.5, 97.5])
    own = [np.mean([np.mean([*by_seed.values()]) for by_seed in s.values()]) for s in gaps.values()]
    mean = float(np.mean(own))
    return {"mean": round(mean, 6), "low": round(float(low), 6), "high": round(float(high), 6)}


def _chosen(
    outcomes: Sequence[Outcome], method: str, size: str
) -> dict[Key, tuple[dict[str, float], str]]:
    """Return losses by lambda, and the lambda at which all *other* concepts lose least in the mean.

    Of concepts in sets that were run with every lambda of this size; a lone lambda is no choice.
    """
    cells = {o.trial.cell for o in outcomes if o.trial.method == method}
    lambdas = [c.partition("@")[2] for c in sorted(cells) if c.partition("@")[0] == size]
    by_lambda = {each: losses(outcomes, method, f"{size}@{each}") for each in lambdas}
    if len(by_lambda) < 2:
        return {}
    shared = sorted(set[Key].intersection(*(set(some) for some in by_lambda.values())))
    found = dict[Key, tuple[dict[str, float], str]]()
    for key in shared:
        others = [other for other in shared if other[0] != key[0]]
        means = {e: sum(some[o] for o in others) / len(others) for e, some in by_lambda.items()}
        told = {each: some[key] for each, some in by_lambda.items()}
        found[key] = told, min(means, key=means.__getitem__)
    return found


@cache
def _resampled(
    counts: tuple[int, ...], num_seeds: int, seed: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what share of each resample every set of every concept has, and how often each seed.

    Shapes: (BOOTSTRAPS, concepts, sets), and (BOOTSTRAPS, seeds) where there are several.
    ``counts`` is how many sets each concept has; beyond its own number it has none. A study asks
    for the same ones again and again.
    """
    random, num, most = np.random.default_rng(seed), len(counts), max(counts)
    chosen = random.integers(num, size=(BOOTSTRAPS, num))
    size = np.array(counts)[chosen][..., None]
    drawn = (random.random((*chosen.shape, most)) * size).astype(int)
    weights = np.where(np.arange(most) < size, 1 / size / num, 0.0)
    places = (np.arange(BOOTSTRAPS)[:, None, None] * num + chosen[..., None]) * most + drawn
    share = np.bincount(places.ravel(), weights.ravel(), minlength=BOOTSTRAPS * num * most)
    several = num_seeds > 1
    seeds = random.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=BOOTSTRAPS)
    return share.reshape(BOOTSTRAPS, num, most), seeds.astype(float) if several else None


def _over_seeds(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return (BOOTSTRAPS or 1, concepts, sets) means over the seeds drawn; ``values``: NaN is none.

    ``weights``: how often each seed was drawn; None where there is one. What a concept has no set
    for is 0.
    """
    there = ~np.isnan(values)
    plain = np.where(there, values, 0.0).sum(-1) / np.maximum(there.sum(-1), 1)
    if weights is None:
        return plain[None]
    total = np.einsum("bs,cks->bck", weights, np.where(there, values, 0.0))
    count = np.einsum("bs,cks->bck", weights, there.astype(float))
    # A set that was run with none of the seeds drawn keeps its own mean.
    return np.where(count > 0, total / np.maximum(count, 1), plain)


def _alone(own: Sequence[Outcome]) -> dict[tuple[str, int], float]:
    """Return the loss of every concept alone, by training seed."""
    alone = (o for o in own if len(o.trial.names) == 1)
    return {(o.trial.names[0], o.trial.seed): o.losses[o.trial.names[0]] for o in alone}


def _kept(
    base: Mapping[str, float], alone: Mapping[tuple[str, int], float], some: Sequence[Outcome]
) -> dict[str, float]:
    pairs = [(n, o.trial.seed, loss) for o in some for n, loss in o.losses.items()]
    kept = [(base[n] - loss) / (base[n] - alone[n, seed]) for n, seed, loss in pairs]
    found = {"loss": _mean(loss for *_, loss in pairs)}
    found["gain"] = _mean(1 - loss / base[n] for n, _, loss in pairs)
    if len(some[0].trial.names) > 1:
        found |= {
            "retention": _mean(kept),
            "worst_retention": round(min(kept), 4),
            "functional_crosstalk": _mean(o.functional for o in some),
            "weight_crosstalk": _mean(o.weights for o in some),
            "sets": len({o.trial.names for o in some}),
        }
    return {**found, "seeds": len({o.trial.seed for o in some})}


def _seen(some: Sequence[Drawn]) -> dict[str, float]:
    held = {name: [x for d in some for x in getattr(d, name).values()] for name in SEEN}
    figures = {name: _mean(values) for name, values in held.items() if values}
    return {**figures, "pictures": sum(d.pictures for d in some)}


def _mean(values) -> float:
    return round(float(np.mean([*values])), 6)
