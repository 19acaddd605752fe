"""How well a picture goes with its prompt: the text alignment of the study, for comparison alone.

    cosine of  P f(picture)  and  T g(prompt)

f: features.py, g: sentences.py, both frozen. P and T are two linear heads that learnt which caption
belongs to which drawing (build_text.py): public drawings in the base's styles, none of anybody whom
the study teaches. It is no CLIP score and judges no single picture; test_study_metrics.py measures
how often it finds the caption of a drawing that it never saw. Source: method.md 8.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from .sentences import Sentences

WEIGHTS = Path(__file__).with_name("text.safetensors")
WIDTH = 256


class Wording:
    """Both heads and the encoder of sentences; that of pictures is the caller's."""

    def __init__(self) -> None:
        held = {name: values.astype(np.float32) for name, values in load_file(WEIGHTS).items()}
        self._picture, self._text = held["picture"], held["text"]
        self._sentences = Sentences()

    def pictures(self, features: np.ndarray) -> np.ndarray:
        """Return (N, WIDTH) unit vectors of pictures with these ``features``, (N, 1280)."""
        return _unit(features @ self._picture.T)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return (N, WIDTH) unit vectors."""
        return _unit(self._sentences.of(texts) @ self._text.T)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
