"""Whom pictures show, how like the concept's own they are, and how well they go with the prompt.

The threshold of identity is the equal error rate on real held-out drawings of the concepts, against
each other. The two others who judge are features.py and wording.py: neither knows any concept.
Source: method.md 8.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from . import features, sentences, wording
from .bench import Bench
from .embedder import WEIGHTS, Embedder, equal_error
from .features import Features, alignment
from .wording import Wording


class Judge:
    """Judges the pictures of one bench's concepts; loads what it needs when it is asked."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    @cached_property
    def digest(self) -> str:
        """Name all that decides a verdict: the networks, and whom it may be about."""
        weights = [WEIGHTS.read_bytes(), wording.WEIGHTS.read_bytes()]
        images = {name: each.digest for name, each in self._bench.images.items()}
        digests = [hashlib.sha256(each).hexdigest() for each in weights]
        text = json.dumps([*digests, features.SHA256, sentences.SHA256, images])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @cached_property
    def threshold(self) -> tuple[float, float]:
        """Return (threshold, equal error rate) on real drawings that nothing was trained on."""
        genuine, impostor = [], []
        for name, images in self._bench.images.items():
            vectors = self._embedder.of([item.image for item in images.held_out])
            for other, person in self._people.items():
                (genuine if other == name else impostor).extend((vectors @ person).tolist())
        return equal_error(np.array(genuine), np.array(impostor))

    def of(
        self, name: str, images: Sequence[Image.Image], prompts: Sequence[str]
    ) -> dict[str, Any]:
        """Return the figures of `Drawn` for ``images`` of ``name``, drawn by ``prompts``, in turn.

        A prompt's `{}` stands for the concept: who judges is told the noun.
        """
        people = self._people
        names = [*people]
        cosines = self._embedder.of(images) @ np.stack([*people.values()]).T
        own = cosines[:, names.index(name)]
        found = [names[k] for k in cosines.argmax(1)]
        seen = self._features.of(images)
        texts = [prompt.replace("{}", f"a {self._bench.conditions.noun}") for prompt in prompts]
        said = self._wording.texts(texts)
        each = np.repeat(said, len(images) // len(prompts), axis=0)
        matches = (self._wording.pictures(seen) * each).sum(1)
        return {
            "identity": float((own >= self.threshold[0]).mean()),
            "likeness": float(own.mean()),
            "nearest": {who: found.count(who) for who in sorted({*found})},
            "image": round(float(alignment(seen, self._references[name]).mean()), 6),
            "text": round(float(matches.mean()), 6),
        }

    @cached_property
    def _embedder(self) -> Embedder:
        return Embedder.load()

    @cached_property
    def _features(self) -> Features:
        return Features()

    @cached_property
    def _wording(self) -> Wording:
        return Wording()

    @cached_property
    def _people(self) -> dict[str, np.ndarray]:
        return {
            name: self._embedder.person([item.image for item in images.train])
            for name, images in self._bench.images.items()
        }

    @cached_property
    def _references(self) -> dict[str, np.ndarray]:
        return {
            name: self._features.of([item.image for item in images.train])
            for name, images in self._bench.images.items()
        }
