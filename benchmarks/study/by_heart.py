"""The memorisation score of a result's trainings, as their owners would see it before sending.

    cd benchmarks && python -m study.by_heart results/study-cpu-1.json --work FOLDER \
        --methods hadamard_null50_slow --out results/study-by-heart-cpu-1.json

The score is the product's (client/memorisation.py), at its threshold; what is scored are floats,
not the integers that would be sent. What the study trained is taken from FOLDER, or trained again.
Source: security.md 2, T21.
"""

from statistics import mean
from typing import Any

from orthofed.client.memorisation import memorisation, planned_draws
from orthofed.client.score import Scorer
from orthofed.client.training_settings import TrainingSettings
from orthofed.core.memorisation import BY_HEART, Memorisation

from .again import Trained, look
from .bench import SHARED_SEED


def _row(trained: Trained) -> dict[str, Any]:
    """Return the score of every concept that the method has alone."""
    found = {name: _found(trained, name) for name in trained.parts}
    scores = [each.score for each in found.values()]
    return {
        "threshold": BY_HEART,
        "flagged": sum(each.by_heart for each in found.values()),
        "mean": round(mean(scores), 4),
        "greatest": round(max(scores), 4),
        "concepts": {
            name: {
                "images": len(trained.bench.images[name].train),
                "gain_trained": round(each.gain_trained, 4),
                "gain_held_out": round(each.gain_held_out, 4),
                "score": round(each.score, 4),
            }
            for name, each in found.items()
        },
    }


def _found(trained: Trained, name: str) -> Memorisation:
    bench, learnt = trained.bench, trained.parts[name]
    conditions, images = bench.conditions, bench.images[name]
    settings = TrainingSettings(steps=conditions.steps or TrainingSettings().steps)
    scorer = Scorer.on(bench.base, images.held_out, num_draws=conditions.draws, seed=SHARED_SEED)
    return memorisation(
        bench.base,
        images.train,
        learnt.variant,
        phrase=learnt.phrase,
        noun=conditions.noun,
        held_out=(scorer.base_loss(conditions.noun), scorer.loss(learnt.variant, learnt.phrase)),
        num_draws=min(conditions.draws, planned_draws(settings)),
    )


if __name__ == "__main__":
    look("by_heart", "what is by heart", _row, least=1)
