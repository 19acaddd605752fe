"""The concepts that regions.py draws: taught one by one on the base, kept in a folder, merged.

A concept is taught as `orthofed client train` does it, in a slot of its own, and quantised as it
would be sent; the merge is the sum of them all at lambda 1, as a release's. What was trained is
kept in ``work`` under a name that holds everything that decides it, and not trained again.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from orthofed.client.base import Base, fingerprint_of
from orthofed.client.base_folder import BaseFolder
from orthofed.client.dataset import ConceptImages
from orthofed.client.packing import packed, vectors_of
from orthofed.client.training import train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.core.layout import ContributionLayout, pack, unpack
from orthofed.core.spec import BaseModel, FederationSpec, plan_spec

NOUN = "person"
RANK = 8


@dataclass(frozen=True, slots=True)
class Taught:
    """One concept of the federation. ``slot`` is its number; two vectors a trigger."""

    base: Path
    images: Path  # its folder, whose name is the trigger
    slot: int
    steps: int
    work: Path

    @property
    def trigger(self) -> Trigger:
        return Trigger(self.images.name)

    def variant(self) -> Variant:
        """Return the model with this concept alone; teach it first if nobody did."""
        spec = spec_of(self.base)
        layout = ContributionLayout(spec, vectors_of([self.trigger]))
        place = self._place(spec)
        if not place.is_file():
            self._teach(spec, layout, place)
        tensors = unpack(layout, place.read_bytes())
        return Variant.of_contribution(spec, self.slot, [self.trigger], tensors)

    def teach(self) -> None:
        """Fill the folder, and return nothing, as another process is asked."""
        torch.set_num_threads(1)
        self.variant()

    def _teach(self, spec: FederationSpec, layout: ContributionLayout, place: Path) -> None:
        base, begun_s = Base.load(self.base), time.monotonic()
        images = ConceptImages.load(self.images, size=base.image_size, noun=NOUN)
        made = train(base, spec, self.slot, [self.trigger], NOUN, images, self._settings)
        place.parent.mkdir(parents=True, exist_ok=True)
        beside = place.with_suffix(f".{os.getpid()}")
        beside.write_bytes(pack(layout, packed(made, spec)))
        beside.replace(place)  # whole or not there
        loss = sum(made.losses[-20:]) / 20
        told = f"{self.images.name}: loss {loss:.4f}, {time.monotonic() - begun_s:.0f} s"
        print(told, file=sys.stderr, flush=True)

    @property
    def _settings(self) -> TrainingSettings:
        return TrainingSettings(threads=1, seed=self.slot, steps=self.steps)

    def _place(self, spec: FederationSpec) -> Path:
        names = sorted(self.images.glob("*"))
        images = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in names]
        decisive = {k: v for k, v in self._settings.as_dict().items() if not k.startswith("dp_")}
        text = json.dumps([spec.id, self.slot, images, decisive], sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:24]
        return self.work / f"{self.images.name}-{key}.safetensors"


def taught(
    base: Path, concepts: Path, names: Sequence[str], *, steps: int, work: Path, processes: int
) -> dict[str, Variant]:
    """Return each concept's model, in the order of ``names``, taught where they were not yet."""
    asked = [Taught(base, concepts / name, k, steps, work) for k, name in enumerate(names)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for _ in pool.map(Taught.teach, asked):
            pass
    return {one.images.name: one.variant() for one in asked}


def spec_of(base: Path) -> FederationSpec:
    """Return the spec that all of them are taught for."""
    folder = BaseFolder(base)
    return plan_spec(
        name="bench",
        base=BaseModel("other", "bench", "1", fingerprint_of(base), "CC0-1.0"),
        layers=folder.layers(),
        encoders=folder.encoders(),
        seed=bytes(range(32)),
        rank=RANK,
    )
