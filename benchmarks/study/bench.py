"""Base, spec, concepts, and the trainings of the study: each is done once and kept on the disk.

A training is named by everything that decides it, so a changed setting, image or base trains anew
and nothing stale is taken for it. Source of the losses: orthofed/client/score.py.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from orthofed.client.activations import grams
from orthofed.client.base import Base, fingerprint_of
from orthofed.client.dataset import ConceptImages
from orthofed.client.sample import draw
from orthofed.client.score import Scorer, phrase_of
from orthofed.client.tokens import LearnedTokens
from orthofed.client.training import train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Residual, Variant
from orthofed.coordinator.base import BaseFolder
from orthofed.core.spec import BaseModel, FederationSpec, plan_spec
from orthofed.core.token_layers import token_layers

from .blocks import NEEDS_GRAM, Matrix, block_of
from .recipes import RECIPES, Recipe
from .sets import SETS
from .sides import Sides

_SAME = 12_345
"""The seed that all LoRAs start from where they start alike; any number would do."""
SHARED_SEED = 0
"""Of what is the same for everything: noise draws of losses, noise of pictures, sets."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What all methods share. ``steps`` 0: the trainer's own; ``sampling``: steps of a picture."""

    base: Path
    people: str  # one of sets.py
    work: Path
    names: tuple[str, ...]
    noun: str = "person"
    rank: int = 8
    steps: int = 0
    draws: int = 256
    sampling: int = 25


@dataclass(frozen=True, slots=True)
class Learnt:
    """One concept as a method learnt it, and the name that its cached results go under."""

    key: str
    variant: Variant
    phrase: str


class Bench:
    """One process's view of the study."""

    def __init__(self, conditions: Conditions) -> None:
        """Load base and images."""
        self.conditions = conditions
        self.people = SETS[conditions.people]
        self.base = Base.load(conditions.base)
        self.spec = _spec(self.base, conditions, layered=False)
        self._layered = _spec(self.base, conditions, layered=True)
        self.images = {
            name: ConceptImages.load(
                self.people.folder / name, size=self.base.image_size, noun=conditions.noun
            )
            for name in conditions.names
        }
        self._scorers: dict[str, Scorer] = {}

    def learnt(self, recipe: str, name: str, factor: float, seed: int) -> Learnt:
        """Return the concept trained by ``recipe`` at ``factor`` times its rates."""
        made, trigger = RECIPES[recipe], Trigger(f"{name}-x1")
        place = self.place(recipe, name, factor, seed)
        if not place.is_file():
            number = self.conditions.names.index(name)
            settings = self._settings(made, factor, number, seed)
            _keep(place, self._train(made, number, trigger, settings))
        layers = self._layered.token_layers if made.tokens == "layered" else ()
        key = self.key(recipe, name, factor, seed)
        return Learnt(key, _variant(place, trigger, layers), phrase_of([trigger]))

    def place(self, recipe: str, name: str, factor: float, seed: int) -> Path:
        """Return where that training is kept, once it is done."""
        key = self.key(recipe, name, factor, seed)
        return self.conditions.work / "trained" / f"{recipe}-{name}-{key}.npz"

    def key(self, recipe: str, name: str, factor: float, seed: int) -> str:
        """Return the name of a training, which says all that decides it."""
        made, number = RECIPES[recipe], self.conditions.names.index(name)
        settings = self._settings(made, factor, number, seed)
        spec = self._layered if made.tokens == "layered" else self.spec
        over = [len(self.conditions.names)] if made.blocks in NEEDS_GRAM else []
        told = {k: v for k, v in settings.as_dict().items() if not k.startswith("dp_")}  # no noise
        decides = [spec.id, self.images[name].digest, number, told, *over]
        shape = [made.side, made.blocks, made.tokens, made.same_seed]
        text = json.dumps([*decides, *shape], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def loss(self, name: str, variant: Variant, phrase: str) -> float:
        """Return the held-out loss of ``name`` in the model ``variant``."""
        if name not in self._scorers:
            held_out = self.images[name].held_out
            self._scorers[name] = Scorer.on(
                self.base, held_out, num_draws=self.conditions.draws, seed=SHARED_SEED
            )
        return self._scorers[name].loss(variant, phrase)

    def inputs(self, learnt: Learnt) -> dict[str, Matrix]:
        """Return C = sum x x^T of every layer's inputs while the concept's own model draws it."""
        conditions = self.conditions
        place = conditions.work / "inputs" / f"{learnt.key}-{conditions.sampling}.npz"
        if not place.is_file():
            _keep(place, self.recorded(learnt))
        with np.load(place) as held:
            return {path: held[path].astype(np.float64) for path in held.files}

    def recorded(self, learnt: Learnt) -> dict[str, Matrix]:
        """Return the same, drawn now."""
        prompts = [f"a picture of {learnt.phrase}", f"{self.people.drawing} of {learnt.phrase}"]
        with learnt.variant.applied(self.base) as tokens:
            return self._grams(tokens, prompts)

    @cached_property
    def public(self) -> dict[str, Matrix]:
        """C of the base on prompts that name no concept of the study."""
        noun, drawing = self.conditions.noun, self.people.drawing
        prompts = [f"a picture of a {noun}", f"{drawing} of a {noun}", "a picture", ""]
        return self._grams(LearnedTokens.of(self.base, {}), prompts)

    def _grams(self, tokens: LearnedTokens, prompts: list[str]) -> dict[str, Matrix]:
        rows = {layer.path: np.eye(layer.width) for layer in self.spec.layers}
        steps = self.conditions.sampling // 2
        with grams(self.base, rows) as found:
            draw(self.base, tokens, prompts, count=4, seed=SHARED_SEED, steps=steps)
        return dict(found)

    def _train(
        self, recipe: Recipe, number: int, trigger: Trigger, settings: TrainingSettings
    ) -> dict[str, np.ndarray]:
        made: list[Sides] = []

        def residuals(base: Base, spec: FederationSpec, _slot: int) -> Sides:
            # What starts alike does so in each repetition, and differs from the last one's.
            start = _SAME + settings.seed - number if recipe.same_seed else settings.seed
            made.append(Sides.of(recipe.side, base, spec, self._blocks(recipe, number), seed=start))
            return made[-1]

        spec = self._layered if recipe.tokens == "layered" else self.spec
        images = self.images[self.conditions.names[number]]
        noun = self.conditions.noun
        slot = 0  # named by the recipe, not by the trainer
        trained = train(
            self.base, spec, slot, [trigger], noun, images, settings, residuals=residuals
        )
        tensors = {f"embed.{encoder}": rows for (encoder, _), rows in trained.embeddings.items()}
        for path, residual in made[0].residuals().items():
            tensors |= {f"up.{path}": residual.up, f"down.{path}": residual.down}
        return tensors

    def _blocks(self, recipe: Recipe, number: int) -> dict[str, Matrix]:
        if not recipe.blocks:
            return {}
        grams = self.public if recipe.blocks in NEEDS_GRAM else {}
        found = {}
        for layer in self.spec.layers:
            # The frozen up side spans outputs: an orthonormal block of their width.
            over = replace(layer, width=layer.out) if recipe.side == "frozen_up" else layer
            found[layer.path] = block_of(
                recipe.blocks,
                self.spec,
                over,
                number,
                num=len(self.conditions.names),
                gram=grams.get(layer.path),
            )
        return found

    def _settings(self, recipe: Recipe, factor: float, number: int, seed: int) -> TrainingSettings:
        own = TrainingSettings(threads=1, seed=seed * 1000 + number)
        rates = {
            "rate": own.rate * factor,
            "image_rate": own.image_rate * factor,
            "token_rate": own.token_rate * recipe.words,
        }
        if recipe.side == "none":
            rates = {"token_rate": own.token_rate * factor}
        elif recipe.tokens == "frozen":
            rates["token_rate"] = 0.0
        return replace(
            own,
            **rates,
            steps=self.conditions.steps or own.steps,
            null_weight=recipe.null,
            strangers=own.strangers if recipe.strangers < 0 else recipe.strangers,
        )


def _variant(place: Path, trigger: Trigger, layers: tuple[str, ...]) -> Variant:
    with np.load(place) as held:
        tensors = {name: held[name] for name in held.files}
    paths = [name.removeprefix("up.") for name in tensors if name.startswith("up.")]
    residuals = {p: Residual(tensors[f"up.{p}"], tensors[f"down.{p}"]) for p in paths}
    vectors = {
        name.removeprefix("embed."): rows
        for name, rows in tensors.items()
        if name.startswith("embed.")
    }
    return Variant(residuals, {trigger.name: vectors}, token_layers=layers)


def _keep(place: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write ``tensors`` whole or not at all: a run may be killed, and two may make the same."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        values = {name: each.astype(np.float32) for name, each in tensors.items()}
        np.savez(file, allow_pickle=False, **values)
    part.replace(place)


def _spec(base: Base, conditions: Conditions, *, layered: bool) -> FederationSpec:
    folder = BaseFolder(conditions.base)
    return plan_spec(
        name="study",
        base=BaseModel("other", "study", "1", fingerprint_of(conditions.base), "CC0-1.0"),
        layers=folder.layers(),
        encoders=folder.encoders(),
        seed=bytes(range(32)),
        rank=conditions.rank,
        token_layers=token_layers(base.family.denoiser.state_dict()) if layered else (),
    )


def one_thread() -> None:
    """Give torch one thread in this process: trainings run side by side."""
    torch.set_num_threads(1)
