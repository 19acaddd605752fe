"""Whose drawing is it: an embedder that was trained on other people than the study's.

A small network maps a 64 x 64 drawing to a unit vector; two drawings of one person are near, of two
people far, whatever face, clothes, background and position. It learnt on invented people, never on
a concept of the study (build_identity.py), which makes it what ArcFace is to the paper. A drawing
shows a person when its cosine to the mean of the person's training images reaches THRESHOLD, the
equal error rate on real held-out drawings; test_study.py measures that anew.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

WEIGHTS = Path(__file__).with_name("identity.safetensors")
SIDE = 64
WIDTH = 64


class Embedder(nn.Module):
    """(N, 3, 64, 64) of -1..1 to (N, WIDTH) of length 1."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 96, 128)
        stages = []
        for a, b in pairwise(widths):
            stages += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(8, b), nn.GELU()]
            stages += [nn.Conv2d(b, b, 3, padding=1), nn.GroupNorm(8, b), nn.GELU()]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(128 * 16, WIDTH)  # 4 x 4 places: where the beard is tells who

    def forward(self, pixels: Tensor) -> Tensor:
        return functional.normalize(self.head(self.stages(pixels).flatten(1)), dim=1)

    @staticmethod
    def load() -> "Embedder":
        """Return the shipped one."""
        made = Embedder()
        made.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS).items()})
        return made.eval().requires_grad_(requires_grad=False)

    @torch.no_grad()
    def of(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return (N, WIDTH) unit vectors."""
        parts = [self(pixels(images[at : at + 64])) for at in range(0, len(images), 64)]
        return torch.cat(parts).numpy()

    def person(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return the unit vector that stands for whoever all ``images`` show."""
        mean = self.of(images).mean(0)
        return mean / np.linalg.norm(mean)


def pixels(images: Sequence[Image.Image]) -> Tensor:
    """Return (N, 3, SIDE, SIDE) of -1..1."""
    sized = [image.convert("RGB").resize((SIDE, SIDE)) for image in images]
    stacked = torch.from_numpy(np.stack([np.asarray(image) for image in sized]))
    return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1


def equal_error(genuine: np.ndarray, impostor: np.ndarray) -> tuple[float, float]:
    """Return (threshold, rate) where as many of one are below it as of the other above.

    Where a whole stretch does that, its middle.
    """
    edges = np.sort(np.concatenate([genuine, impostor]))
    places = (edges[1:] + edges[:-1]) / 2
    missed = (genuine[:, None] < places).mean(0)
    passed = (impostor[:, None] >= places).mean(0)
    gaps = np.abs(missed - passed)
    best = np.flatnonzero(gaps == gaps.min())
    first, last = best[0], best[-1]
    rate = (missed[first] + passed[first] + missed[last] + passed[last]) / 4
    return float((places[first] + places[last]) / 2), float(rate)
