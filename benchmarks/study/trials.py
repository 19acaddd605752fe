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

from .bench import SHARED_SEED, Bench, Conditions, Learnt, one_thread
from .crosstalk import functional, weights
from .drawn import Drawn
from .merging import RECORDED, merged
from .pictures import Gallery
from .recipes import METHODS
from .trial import Trial

Training = tuple[str, str, float, int]
"""Recipe, concept, factor, seed."""


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
            "seed": trial.seed,
            "losses": self.losses,
            "functional": self.functional,
            "weights": self.weights,
        }

    @staticmethod
    def of_plain(held: Mapping[str, Any]) -> "Outcome":
        """Read what ``as_plain`` wrote."""
        names = tuple(held["losses"])
        seed = held.get("seed", 0)  # a result from before has one
        trial = Trial(held["method"], held["factor"], names, held["lambda"], seed)
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
        list(self._pool.map(_train, _trainings(wanted)))
        yield from self._pool.map(_outcome, wanted)

    def drawn(self, trials: Iterable[Trial]) -> Iterator[Drawn]:
        """Give whom the pictures of each trial show, in order; a sheet at a time, side by side."""
        wanted = list(trials)
        missing = self._undrawn(wanted)
        list(self._pool.map(_train, _trainings(missing)))
        list(self._pool.map(_sheet, [(trial, name) for trial in missing for name in trial.names]))
        yield from self._pool.map(_judged, wanted)

    def untrained(self, trials: Iterable[Trial]) -> int:
        """Return how many trainings the pictures of the trials need that are not kept."""
        needed = _trainings(self._undrawn(list(trials)))
        return sum(not kept for kept in self._pool.map(_is_trained, needed))

    def _undrawn(self, trials: list[Trial]) -> list[Trial]:
        kept = self._pool.map(_is_drawn, trials)
        return [trial for trial, whole in zip(trials, kept, strict=True) if not whole]

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


def _sheet(wanted: tuple[Trial, str]) -> None:
    _gallery[0].sheet(*wanted)


def _threshold() -> tuple[float, float]:
    return _gallery[0].judge.threshold


def _base_loss(name: str) -> float:
    bench = _bench[0]
    return bench.loss(name, Variant(), bench.conditions.noun)


def _trainings(trials: Iterable[Trial]) -> list[Training]:
    return sorted(
        {(METHODS[t.method].recipe, name, t.factor, t.seed) for t in trials for name in t.names}
    )


def _train(wanted: Training) -> None:
    _bench[0].learnt(*wanted)


def _is_trained(wanted: Training) -> bool:
    return _bench[0].place(*wanted).is_file()


def _is_drawn(trial: Trial) -> bool:
    return _gallery[0].is_drawn(trial)


def _outcome(trial: Trial) -> Outcome:
    bench, method = _bench[0], METHODS[trial.method]
    told = (trial.factor, trial.seed)
    parts = [bench.learnt(method.recipe, name, *told) for name in trial.names]
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
    text = json.dumps([*decides, conditions.draws, SHARED_SEED])
    return f"{trial.method}-{len(parts)}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
