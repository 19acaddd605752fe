"""What the tests of the training side start from: a tiny base, its spec, a folder of images."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

from orthofed.client.base import Base, fingerprint_of
from orthofed.client.dataset import ConceptImages
from orthofed.client.families.text_tower import TextTower
from orthofed.client.trained import Trained
from orthofed.client.training import train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.core.layer import Layer
from orthofed.core.spec import BaseModel, Encoder, FederationSpec, plan_spec
from orthofed.core.targets import Targets, target_layers

from .tiny_base import tiny_base

NOUN = "fox"
SETTINGS = TrainingSettings(
    steps=6,
    batch=4,
    null_images=2,
    null_sampling_steps=2,
    null_states=2,
    warmup_steps=1,
    rate=1e-2,
    threads=1,
)


@dataclass(frozen=True)
class Bench:
    """A loaded base, a spec that fits it, and images."""

    base: Base
    spec: FederationSpec
    images: ConceptImages
    folder: Path

    @property
    def tower(self) -> TextTower:
        """The first text encoder."""
        return self.base.towers["text_encoder"]

    def train(self, slot: int = 0, name: str = "anna-k7", **changes: Any) -> Trained:
        """Train one concept with few steps."""
        settings = replace(SETTINGS, **changes)
        return train(self.base, self.spec, slot, [Trigger(name)], NOUN, self.images, settings)


def bench(
    folder: Path, make: Callable[[Path], Path] = tiny_base, *, targets: Targets = "attention"
) -> Bench:
    """Make all of it under ``folder``, on the base that ``make`` writes."""
    torch.set_num_threads(1)  # tiny tensors: a second thread costs more than it gives
    base = make(folder / "base")
    images = write_images(folder / "images", 8)
    loaded = Base.load(base)
    return Bench(
        loaded,
        tiny_spec(base, targets=targets),
        ConceptImages.load(images, size=loaded.image_size, noun=NOUN, held_out=2),
        folder,
    )


def tiny_spec(
    folder: Path, *, rank: int = 4, family: str = "other", targets: Targets = "attention"
) -> FederationSpec:
    """Plan a federation on the base in ``folder``: every layer of ``targets``, every slot."""
    layers, encoders = list[Layer](), list[Encoder]()
    for component in ("unet", "text_encoder", "text_encoder_2"):
        for file in (folder / component).glob("*.safetensors"):
            with safe_open(file, "np") as weights:
                names = list(weights.keys())
                shapes = {n: tuple(weights.get_slice(n).get_shape()) for n in names}
            layers += target_layers(component, shapes, targets)
            tables = [s for n, s in shapes.items() if n.endswith("token_embedding.weight")]
            encoders += [Encoder(component, table[1]) for table in tables]
    return plan_spec(
        name="tiny",
        base=BaseModel(family, "tiny", "1", fingerprint_of(folder), "CC0-1.0"),
        layers=layers,
        encoders=encoders,
        seed=bytes(range(32)),
        rank=rank,
    )


def with_layers(spec: FederationSpec, *layers: Layer) -> FederationSpec:
    """Return ``spec`` with other layers."""
    ranks = tuple(sorted({layer.width: 4 for layer in layers}.items()))
    return replace(spec, layers=tuple(sorted(layers)), ranks=ranks, capacity=1)


def write_images(folder: Path, count: int) -> Path:
    """Write ``count`` blocky 20 x 20 pictures with captions and return the folder."""
    folder.mkdir(parents=True)
    random, colours = np.random.default_rng(7), ("red", "blue")
    for number in range(count):
        blocks = random.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(np.kron(blocks, np.ones((5, 5, 1), np.uint8)))
        image.save(folder / f"{number:02}.png")
        caption = f"photo of {{}} on a {colours[number % 2]} tree"
        (folder / f"{number:02}.txt").write_text(caption)
    return folder
