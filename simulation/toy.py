"""What simulated clients learn: plain matrices with the shape of the method, in numpy.

A base of ``LAYERS`` weights W (n, m). Asked for a noun, a layer reads x0 + noise; a concept's token
adds t. Concept i wants each layer to answer with a change d_i. It learns t and A of its slot
together by gradient steps on

    E || W t + A B^T (x0 + t + noise) - d_i ||^2  +  E || A B^T (x0 + noise) ||^2

the second term being the trainer's null response. The loss of a model is the first term summed over
the layers, with sum_j A_j B_j^T in place of A B^T; of the base, ||d_i||^2. Tokens move into
span(B_i), where others do not answer: so retention falls slowly with the number of concepts, and
falls apart when all share one B. Figures say how the machinery scales and how the method works,
nothing about images. Source: method.md 1, 6.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.tensorfile import header_bytes

LAYERS = 4
HIGH = 256
"""n, the outputs of a layer."""
_WIDTHS = (1_024, 2_048, 4_096)
_NOISE = 0.3
_BATCH = 4
_RATE, _TOKEN_RATE = 2.0, 1.0
_LONGEST = 2.0
_DRAWS = 16
_PARTS = ("k_proj", "out_proj", "q_proj", "v_proj")
Matrix = NDArray[np.float32]


def width_for(columns: int) -> int | None:
    """Return the smallest width with that many columns, None: there is none."""
    return next((width for width in _WIDTHS if width >= columns), None)


@dataclass(frozen=True, slots=True)
class Toy:
    """The base: one text encoder of one block; ``weights`` by layer path."""

    width: int
    weights: Mapping[str, Matrix]
    x0: Matrix

    @staticmethod
    def of(seed: int, width: int) -> "Toy":
        """Return the base of a seed. Its weights are float16 numbers, as its file holds them."""
        chance = np.random.default_rng([seed, width])
        weights = {
            f"text_encoder.text_model.encoder.layers.0.self_attn.{part}": _half(
                chance.normal(size=(HIGH, width)) / np.sqrt(width)
            )
            for part in _PARTS
        }
        x0 = chance.normal(size=width)
        return Toy(width, weights, (x0 / np.linalg.norm(x0)).astype(np.float32))

    def write(self, folder: Path) -> Path:
        """Write it as a diffusers pipeline folder, which no library would draw with."""
        tensors = {
            f"{path.removeprefix('text_encoder.')}.weight": weight.astype("<f2")
            for path, weight in self.weights.items()
        }
        words = np.zeros((16, self.width), "<f2")
        words[:, 0] = 1.0  # vectors as long as x0: what learnt ones are measured by
        tensors["text_model.embeddings.token_embedding.weight"] = words
        entries = [(name, "F16", tensor.shape) for name, tensor in tensors.items()]
        data = b"".join(tensors[name].tobytes() for name in sorted(tensors))
        (folder / "text_encoder").mkdir(parents=True)
        place = folder / "text_encoder" / "model.safetensors"
        place.write_bytes(header_bytes(entries, {}) + data)
        (folder / "text_encoder" / "config.json").write_text("{}")
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "vocab.json").write_text('{"fox</w>": 0}')
        index = {"_class_name": "StableDiffusionPipeline"}
        (folder / "model_index.json").write_text(json.dumps(index))
        return folder

    def wanted(self, concept: str) -> dict[str, Matrix]:
        """Return d of a concept, (n,) by layer: as long as the base's answer to the noun."""
        chance = _chance(concept)
        found = {}
        for path, weight in self.weights.items():
            length = np.linalg.norm(weight @ self.x0) / np.sqrt(HIGH)
            found[path] = (chance.normal(size=HIGH) * length).astype(np.float32)
        return found

    def learnt(self, concept: str, blocks: Mapping[str, Matrix], steps: int) -> "Learning":
        """Begin to learn a concept behind ``blocks``, B (m, r) by layer."""
        return Learning(self, concept, blocks, steps)

    def loss(
        self,
        concept: str,
        token: Matrix | None,
        changes: Mapping[str, Sequence[tuple[Matrix, Matrix]]],
        *,
        lambda_: float = 1.0,
    ) -> float:
        """Return the loss of a model: ``changes`` has (up (n, R), down (R, m)) pairs by layer."""
        chance, found = _chance(f"{concept}/held-out"), 0.0
        wanted = self.wanted(concept)
        for path, weight in self.weights.items():
            noise = chance.normal(size=(_DRAWS, self.width)) * _NOISE / np.sqrt(self.width)
            asked = (self.x0 + noise if token is None else self.x0 + token + noise).astype("f4")
            off = -wanted[path] if token is None else weight @ token - wanted[path]
            answer = np.broadcast_to(off, (_DRAWS, HIGH)).copy()
            for up, down in changes.get(path, ()):
                answer += lambda_ * (asked @ down.T) @ up.T
            found += float((answer.astype("f8") ** 2).sum(1).mean())
        return found


class Learning:
    """One concept as it is learnt; ``step`` moves ``token`` (m,) and ``a`` (n, r) by layer."""

    def __init__(self, toy: Toy, concept: str, blocks: Mapping[str, Matrix], steps: int) -> None:
        """Start with A = 0 and a short random token, the same for the same concept."""
        self._toy, self.blocks = toy, blocks
        self._wanted = toy.wanted(concept)
        self._chance = _chance(f"{concept}/training")
        start = self._chance.normal(size=toy.width) * 0.5 / np.sqrt(toy.width)
        self.token: Matrix = start.astype(np.float32)
        self.a = {path: np.zeros((HIGH, b.shape[1]), np.float32) for path, b in blocks.items()}
        self.steps = steps

    def step(self) -> float:
        """Take one step and return the loss before it."""
        toy, pull, found = self._toy, np.zeros(self._toy.width, np.float32), 0.0
        for path, weight in toy.weights.items():
            b, a = self.blocks[path], self.a[path]
            noise = self._chance.normal(size=(_BATCH, toy.width)) * _NOISE / np.sqrt(toy.width)
            noun = (toy.x0 + noise).astype(np.float32)
            inside, plain = (noun + self.token) @ b, noun @ b
            error = weight @ self.token + inside @ a.T - self._wanted[path]
            found += float((error**2).sum(1).mean())
            mean = error.mean(0)
            pull += weight.T @ mean + b @ (a.T @ mean)
            self.a[path] = a - _RATE / _BATCH * (error.T @ inside + (plain @ a.T).T @ plain)
        self.token = (self.token - _TOKEN_RATE / LAYERS * pull).astype(np.float32)
        if (length := float(np.linalg.norm(self.token))) > _LONGEST:
            self.token = (self.token * (_LONGEST / length)).astype(np.float32)
        return found


def _half(values: NDArray[np.float64]) -> Matrix:
    return values.astype(np.float16).astype(np.float32)


def _chance(word: str) -> np.random.Generator:
    digest = hashlib.sha256(word.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
