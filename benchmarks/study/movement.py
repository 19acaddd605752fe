"""Whether a concept's words move towards its own block, so that others hear less of it.

    cd benchmarks && python -m study.movement results/study-cpu-1.json --work FOLDER \
        --methods hadamard_null10_slow --out results/study-movement-cpu-1.json

    share(i, x)  ||B_i^T x||^2 / ||x||^2, squares summed over prompts and layers that read text
    moved        share(i, x_i - x_0) / mean_j share(i, x_j - x_0)        j: all other concepts
    heard        share(i, x_i) / mean_j share(i, x_j)

x_i are the trigger's text features in four prompts once it is learnt, x_0 those of the words that
it started from, in the base; the columns of B are orthonormal. One block is compared with itself
on several concepts' words, since blocks differ in how loud all words are to them. 1: a block is to
its own concept's words as it is to anybody's. Were words to move into their block, others would
hear less of them. What the study trained is taken from FOLDER, or trained again. Source: method.md
6, 8.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from orthofed.client.captions import TEMPLATES
from orthofed.client.tokens import LearnedTokens
from orthofed.client.trigger import Trigger
from orthofed.core.crosstalk import text_readers

from .again import Trained, look
from .bench import SHARED_SEED, Bench, Learnt
from .blocks import Matrix, spanned
from .figures import Values, difference

FIGURES = ("moved", "heard")


def _row(trained: Trained) -> dict[str, Any]:
    """Return both figures of one method: the mean over concepts, its interval, each concept's."""
    blocks = {name: _blocks(trained.bench, part) for name, part in trained.parts.items()}
    features = {name: _features(trained.bench, part) for name, part in trained.parts.items()}
    words = {
        "moved": {name: after - before for name, (after, before) in features.items()},
        "heard": {name: after for name, (after, _) in features.items()},
    }
    rows = {
        figure: {name: _own_share(name, block, words[figure]) for name, block in blocks.items()}
        for figure in FIGURES
    }
    return {
        figure: {**_interval(each), "concepts": {k: round(v, 4) for k, v in each.items()}}
        for figure, each in rows.items()
    }


def _own_share(name: str, block: Mapping[str, Matrix], words: Mapping[str, Matrix]) -> float:
    """Return the share of ``name``'s words in its block, by the mean of others' words in it."""
    shares = {
        who: sum(float(np.square(rows @ x.T).sum()) for rows in block.values())
        / float(np.square(x).sum())
        for who, x in words.items()
    }
    others = [share for who, share in shares.items() if who != name]
    return shares[name] * len(others) / sum(others)


def _features(bench: Bench, learnt: Learnt) -> tuple[Matrix, Matrix]:
    """Return the trigger's text features, learnt and as it started. Shape: (prompts, width)."""
    with learnt.variant.applied(bench.base) as tokens:
        (after,) = tokens.probes(TEMPLATES).values()
    # What a training starts from but for its seed's little noise, of which x_0 shall have none.
    noun, (trigger,) = bench.conditions.noun, (Trigger(name) for name in learnt.variant.vectors)
    start = LearnedTokens.from_noun(bench.base, [trigger], noun, seed=SHARED_SEED)
    with start.attached():
        (before,) = start.probes(TEMPLATES).values()
    return after.astype(np.float64), before.astype(np.float64)


def _blocks(bench: Bench, learnt: Learnt) -> dict[str, Matrix]:
    """Return B^T of every layer that reads text, with orthonormal rows (r x m)."""
    residuals = learnt.variant.residuals
    return {x.path: spanned(residuals[x.path].down) for x in text_readers(bench.spec)}


def _interval(by_concept: Mapping[str, float]) -> dict[str, float]:
    values: Values = {(name, (name,), 0): value for name, value in by_concept.items()}
    found = difference(values, dict.fromkeys(values, 0.0))
    assert found is not None, "there is a concept"
    return found


if __name__ == "__main__":
    look("movement", "whether words move into their block", _row)
