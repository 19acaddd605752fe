"""A second judge of benchmarks/regions.py: the nearest of the known people, or nobody.

The network is the study's (study/embedder.py): it learnt to tell invented people apart and never
saw one of these, nor a picture that the base drew of them, so no picture that is judged has taught
it anything. Each concept is the mean of its twelve training drawings; the threshold lies where the
real held-out drawings of all concepts are told apart, and is fixed before a picture is drawn. It is
the stricter one: what the base draws is blurred beside what this learnt on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from study.embedder import Embedder, equal_error

HELD_OUT = 4
"""The last images of each concept, as in assets/build_concepts.py."""


@dataclass(frozen=True, slots=True)
class Report:
    """``others_refused``: held-out drawings of people who are not asked for, taken for nobody."""

    threshold: float
    equal_error: float
    held_out_accuracy: float
    others_refused: float


@dataclass(frozen=True, slots=True)
class EmbedderJudge:
    """``people``: the unit vector of each that is looked for."""

    embedder: Embedder
    names: tuple[str, ...]
    vectors: np.ndarray
    threshold: float

    def people(self, images: Sequence[Image.Image]) -> list[str | None]:
        """Return who each picture shows; None: nobody of them."""
        cosines = self.embedder.of(images) @ self.vectors.T
        return [
            self.names[int(row.argmax())] if row.max() >= self.threshold else None
            for row in cosines
        ]


def make_embedder_judge(concepts: Path, names: Sequence[str]) -> tuple[EmbedderJudge, Report]:
    """Return the judge of ``names`` and what it does on real drawings of all ``concepts``."""
    embedder = Embedder.load()
    images = {
        folder.name: [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.png"))]
        for folder in sorted(concepts.iterdir())
        if folder.is_dir()
    }
    known = {name: embedder.person(each[:-HELD_OUT]) for name, each in images.items()}
    held_out = {name: each[-HELD_OUT:] for name, each in images.items()}
    cosines = {n: embedder.of(e) @ np.stack([*known.values()]).T for n, e in held_out.items()}
    own = {n: np.array([other == n for other in known]) for n in known}
    genuine = np.concatenate([cosines[n][:, own[n]].ravel() for n in known])
    impostor = np.concatenate([cosines[n][:, ~own[n]].ravel() for n in known])
    threshold, error = equal_error(genuine, impostor)
    judge = EmbedderJudge(embedder, tuple(names), np.stack([known[n] for n in names]), threshold)
    told = [who == n for n in names for who in judge.people(held_out[n])]
    strangers = [x for n, each in held_out.items() if n not in names for x in each]
    refused = [who is None for who in judge.people(strangers)] if strangers else []
    report = Report(
        round(threshold, 4),
        round(error, 4),
        round(float(np.mean(told)), 4),
        round(float(np.mean(refused)), 4) if refused else 1.0,
    )
    return judge, report
