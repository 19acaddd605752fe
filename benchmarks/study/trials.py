"""Trials of the study, spread over processes: train, merge, score; each result is kept on the disk.

A trial is scored on the held-out images of every member; a set of one is "single". The kept file is
named by all that decides the losses.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Self

from orthofed.client.variant import Variant
from orthofed.core.fusion import RIDGE

from .bench import Bench, Conditions, Learnt, one_thread
from .crosstalk import functional, weights
from .merging import RECORDED, merged
from .pictures import Drawn, Gallery
from .recipes import METHODS
from .trial import Trial


@dataclass(frozen=True, slots=True)
class Outcome:
    """Losses by concept, and the crosstalk of the set: means over ordered pairs or concepts.

    Rounded as they are kept, so that what is computed from a result is what its run computed.
    """

    trial: Trial
    losses: dict[str, float]
    functional: float
    weights: float

    def as_plain(self) -> dict[str, Any]:
        """Return what stands in a result; losses name the concepts, in their order."""
        trial = self.trial
        return {
            "method": trial.method,
            "factor": trial.factor,
            "lambda": trial.lambda_,
            "losses": self.losses,
            "functional": self.functional,
            "weights": self.weights,
        }

    @staticmethod
    def of_plain(held: Mapping[str, Any]) -> "Outcome":
        """Read what ``as_plain`` wrote."""
        names = tuple(held["losses"])
        trial = Trial(held["method"], held["factor"], names, held["lambda"])
        return Outcome(trial, held["losses"], held["functional"], held["weights"])


class Workers:
    """The processes of a run."""

    def __init__(self, conditions: Conditions, processes: int, *, pictures: int) -> None:
        """Start them when the first trial comes; ``pictures`` a prompt are drawn.

        One is this very process, on another thread: it has loaded what a new one would load again.
        """
        told = (conditions, pictures)
        self._pool: Executor = (
            ThreadPoolExecutor(1, initializer=_begin, initargs=told)
            if processes == 1
            else ProcessPoolExecutor(
                processes, get_context("spawn"), initializer=_begin, initargs=told
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def base_losses(self, names: Iterable[str]) -> dict[str, float]:
        """Return the base's loss on each concept, asked for the noun."""
        wanted = tuple(names)
        return dict(zip(wanted, self._pool.map(_base_loss, wanted), strict=True))

    def outcomes(self, trials: Iterable[Trial]) -> Iterator[Outcome]:
        """Give what came of each trial, in order; concepts are trained first, side by side."""
        wanted = list(trials)
        trained = {(METHODS[t.method].recipe, n, t.factor) for t in wanted for n in t.names}
        list(self._pool.map(_train, sorted(trained)))
        yield from self._pool.map(_outcome, wanted)

    def drawn(self, trials: Iterable[Trial]) -> Iterator[Drawn]:
        """Give whom the pictures of each trial show, in order."""
        yield from self._pool.map(_judged, trials)

    def threshold(self) -> tuple[float, float]:
        """Return the cosine that makes a picture somebody's, and its equal error rate."""
        return self._pool.submit(_threshold).result()


_bench: list[Bench] = []
_gallery: list[Gallery] = []


def _begin(conditions: Conditions, pictures: int) -> None:
    one_thread()
    _bench.append(Bench(conditions))
    _gallery.append(Gallery(_bench[0], count=pictures))


def _judged(trial: Trial) -> Drawn:
    return _gallery[0].judged(trial)


def _threshold() -> tuple[float, float]:
    return _gallery[0].threshold


def _base_loss(name: str) -> float:
    bench = _bench[0]
    return bench.loss(name, Variant(), bench.conditions.noun)


def _train(wanted: tuple[str, str, float]) -> None:
    _bench[0].learnt(*wanted)


def _outcome(trial: Trial) -> Outcome:
    bench, method = _bench[0], METHODS[trial.method]
    parts = [bench.learnt(method.recipe, name, trial.factor) for name in trial.names]
    conditions = bench.conditions
    place = conditions.work / "trials" / f"{_key(trial, parts, conditions)}.json"
    if place.is_file():
        held = json.loads(place.read_text())
        return Outcome(trial, held["losses"], held["functional"], held["weights"])
    variants = [part.variant for part in parts]
    model = merged(method.merge, variants, lambda i: bench.inputs(parts[i]), lambda_=trial.lambda_)
    losses = {
        name: round(bench.loss(name, model, part.phrase), 7)
        for name, part in zip(trial.names, parts, strict=True)
    }
    several = len(parts) > 1 and bool(model.residuals)
    seen = [bench.inputs(part) for part in parts] if several else []
    found = Outcome(
        trial,
        losses,
        round(functional(variants, seen), 5) if several else 0.0,
        round(weights(variants), 5) if several else 0.0,
    )
    place.parent.mkdir(parents=True, exist_ok=True)
    text = {"losses": losses, "functional": found.functional, "weights": found.weights}
    part = place.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(text))
    part.replace(place)
    return found


def _key(trial: Trial, parts: list[Learnt], conditions: Conditions) -> str:
    merge = METHODS[trial.method].merge
    decides = [merge, trial.lambda_, [part.key for part in parts]]
    decides += [RIDGE] if merge in RECORDED else []
    text = json.dumps([*decides, conditions.draws, conditions.seed])
    return f"{trial.method}-{len(parts)}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
