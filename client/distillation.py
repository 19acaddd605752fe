"""Brings an ordinary LoRA into a slot: its nearest A', then distilled without any image.

    start     A' = dW C B (B^T C B)^-1                                      (core/projection.py)
    minimise  E||eps_teacher - eps_student||^2 + null_weight E||eps_student - eps_base||^2

Teacher is the base with the whole LoRA and the words that call it; student the base with the slot
and the concept's own vectors, which start as the rows of those words. Timesteps and latents are the
teacher's own: every state of its sampling, and its pictures with fresh noise. No private data is
needed. Laws: the same seed gives the same bits, also when it went on from a save; the last
quarter of the prompts is only measured on, and the best look at them is kept. Source: method.md 7.
Left to others: reading the file, the lease, packing.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from ..core.errors import InputError
from ..core.projection import energies, projected
from ..core.spec import FederationSpec
from .activations import grams
from .adapter import Adapter
from .base import Base
from .captions import PLACE, TEMPLATES
from .checkpoint import TrainingSaves, TrainingState
from .draws import batch_at, generator, stratified
from .optimisation import Group, Optimisation
from .tokens import LearnedTokens
from .training import reads_text
from .training_settings import TrainingSettings
from .trigger import Trigger
from .variant import Residual, Variant

PROMPTS: Final = (
    *TEMPLATES,
    "a photo of {}",
    "a drawing of {}",
    "a painting of {}, smiling",
    "{}, white background",
)
_BATCH: Final = 16
_SAMPLING_STEPS: Final = 12
_GUIDANCE: Final = 4.0
_LOOK_EVERY: Final = 25
_CALL: Final = "orthofed-foreign"


@dataclass(frozen=True, slots=True)
class Foreign:
    """A LoRA by layer path, scale folded into ``up``, and the rows of the words that call it.

    Shapes: residuals (n, R) and (R, m); rows (v, width) by encoder.
    """

    residuals: Mapping[str, Residual]
    rows: Mapping[str, np.ndarray]

    @property
    def digest(self) -> str:
        """What a save of this import is bound to."""
        told = hashlib.sha256()
        for path, each in sorted(self.residuals.items()):
            told.update(path.encode() + each.up.tobytes() + each.down.tobytes())
        for name, rows in sorted(self.rows.items()):
            told.update(name.encode() + rows.tobytes())
        return told.hexdigest()


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of it. ``kept`` of the closed form; ``error`` of the student beside the base's."""

    a: dict[str, np.ndarray]
    embeddings: dict[tuple[str, int], np.ndarray]
    probes: dict[int, np.ndarray]
    kept_by_layer: dict[str, float]
    kept: float
    error_closed: float  # held-out E||teacher - start||^2 / E||teacher - base||^2
    error: float  # the same at the end
    steps: int  # of distillation that were done


@dataclass(frozen=True, slots=True)
class States:
    """Noisy latents with timestep, prompt (the place open) and what teacher and base answer."""

    noisy: Tensor
    times: Tensor
    prompts: tuple[str, ...]
    teacher: Tensor
    plain: Tensor  # the base, asked for the class noun


def distilling(settings: TrainingSettings) -> TrainingSettings:
    """Return the settings of a training as distillation takes them: it starts near its end."""
    return replace(
        settings,
        rate=settings.rate * 0.3,
        image_rate=settings.image_rate * 0.3,
        token_rate=settings.token_rate * 0.03,
        null_weight=settings.null_weight * 0.1,
    )


class Importer:
    """One LoRA on its way into one slot."""

    def __init__(
        self,
        base: Base,
        spec: FederationSpec,
        slot: int,
        triggers: Sequence[Trigger],
        noun: str,
        foreign: Foreign,
        settings: TrainingSettings,
        *,
        prompts: Sequence[str] = PROMPTS,
    ) -> None:
        """Sample the teacher and compute the nearest A'.

        Raises InputError: the words that call the LoRA are not as many as the concept's vectors, a
        prompt has no place for the concept, or nothing of the LoRA fits the federation.
        """
        _check(triggers, foreign, prompts)
        self._base, self._spec, self._foreign = base, spec, foreign
        self._noun, self._settings, self._slot = noun, distilling(settings), slot
        self.adapter = Adapter(base, spec, slot)
        sets = len(spec.token_layers) or 1
        stacked = {
            n: torch.from_numpy(np.tile(rows, (sets, 1))) for n, rows in foreign.rows.items()
        }
        self.tokens = LearnedTokens(base, triggers, stacked, layers=spec.token_layers)
        self.teacher = Variant(
            foreign.residuals,
            {_CALL: {n: np.tile(rows, (sets, 1)) for n, rows in foreign.rows.items()}},
            token_layers=spec.token_layers,
        )
        cut = max(1, len(prompts) // 4)
        each = max(2, 48 // len(prompts))
        self.train = self._sampled(prompts[:-cut], each, settings.seed)
        self.held_out = self._sampled(prompts[-cut:], each, settings.seed + 1)
        self.kept_by_layer, self.kept = self._start()
        self.error_closed = self.error()

    @torch.no_grad()
    def error(self) -> float:
        """Return held-out E||teacher - student||^2 / E||teacher - base||^2 of the student now."""
        told = self.held_out
        # The start is compared with the base that is asked for the noun: what the LoRA changes.
        with self.tokens.attached(), self.adapter.attached():
            answers = self._answers(told, self.tokens)
        far = functional.mse_loss(told.plain, told.teacher).item()
        return functional.mse_loss(answers, told.teacher).item() / max(far, 1e-12)

    def distil(
        self,
        *,
        saves: TrainingSaves | None = None,
        on_step: Callable[[int, float], None] = lambda _number, _loss: None,
    ) -> int:
        """Move A and the vectors for all steps; return how many there were.

        What is left at the end is the best of all looks at the held-out prompts, the start too.
        """
        settings = self._settings
        optimisation = Optimisation(self._groups(), settings)
        losses, best, error = list[float](), self._values(), self.error_closed
        found = saves.newest() if saves else None
        if found is not None:
            optimisation.restore(found.tensors, found.numbers)
            losses, error = list(found.losses), float(found.numbers["best"])
            best = {name: found.tensors[f"best/{name}"] for name in best}
        for number in range(len(losses), settings.steps):
            with self.tokens.attached(), self.adapter.attached():
                loss, silent = self._losses(number)
                (loss + settings.null_weight * silent).backward()
            optimisation.step(number)
            losses.append(loss.item())
            done = number + 1
            if done % _LOOK_EVERY == 0 or done == settings.steps:
                if (now := self.error()) < error:
                    best, error = self._values(), now
                tensors, numbers = optimisation.state()
                tensors |= {f"best/{name}": value for name, value in best.items()}
                if saves:
                    told = {**numbers, "best": error}
                    saves.write(TrainingState(done, tensors, tuple(losses), told))
            on_step(done, losses[-1])
        with torch.no_grad():
            for name, parameter in self._parameters().items():
                parameter.copy_(torch.from_numpy(best[name]))
        return len(losses)

    def _parameters(self) -> dict[str, nn.Parameter]:
        return {name: p for group in self._groups() for name, p in group.parameters.items()}

    def _values(self) -> dict[str, np.ndarray]:
        return {n: p.detach().cpu().numpy().copy() for n, p in self._parameters().items()}

    @torch.no_grad()
    def result(self, steps: int) -> Imported:
        """Return what would travel, and the figures that stay."""
        with self.tokens.attached(), self.adapter.attached():
            probes = self.tokens.probes(TEMPLATES)
        return Imported(
            self.adapter.state(),
            self.tokens.state(),
            probes,
            self.kept_by_layer,
            self.kept,
            self.error_closed,
            self.error(),
            steps,
        )

    @torch.no_grad()
    def grid(self, columns: int = 4) -> bytes:
        """Return a PNG for the owner's eye: a row each of base, LoRA and slot, from equal noise."""
        base = self._base
        noise = torch.randn(columns, *base.latent_shape, generator=generator(1, "import"))
        prompts = [self.held_out.prompts[0], *dict.fromkeys(self.train.prompts)][:columns]
        prompts = [prompts[i % len(prompts)] for i in range(columns)]
        with Variant().applied(base) as tokens:
            pictures = self._drawn(noise, [p.replace(PLACE, self._noun) for p in prompts], tokens)
        with self.teacher.applied(base) as tokens:
            said = [p.replace(PLACE, tokens.phrase) for p in prompts]
            pictures += self._drawn(noise, said, tokens)
        with self.tokens.attached(), self.adapter.attached():
            said = [p.replace(PLACE, self.tokens.phrase) for p in prompts]
            pictures += self._drawn(noise, said, self.tokens)
        return _png(pictures, columns)

    def _drawn(
        self, latents: Tensor, said: Sequence[str], tokens: LearnedTokens
    ) -> list[Image.Image]:
        base, conditions, nothing = self._base, tokens.encode(said), tokens.encode([""] * len(said))
        times: list[int] = torch.linspace(base.num_timesteps - 1, 0, 26).long()[:-1].tolist()
        for now, then in zip(times, [*times[1:], None], strict=True):
            at = torch.full((len(said),), now)
            free = base.predict(latents, at, nothing).cpu()
            answer = free + _GUIDANCE * (base.predict(latents, at, conditions).cpu() - free)
            latents = base.family.noise.step(latents, answer, now=now, then=then)
        return base.images(latents)

    def identity(self, fence: int) -> str:
        """Return the digest that a save of this run carries."""
        words = [trigger.words for trigger in self.tokens.triggers]
        parts = [self._spec.id, self._slot, fence, words, self._noun, self._foreign.digest]
        told = json.dumps([*parts, self._settings.as_dict(), self.train.prompts], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def _losses(self, number: int) -> tuple[Tensor, Tensor]:
        """Return the distance to the teacher and to the base's answers, in one pass."""
        settings, told = self._settings, self.train
        asked = batch_at(number, seed=settings.seed, count=len(told.noisy), batch=settings.batch)
        quiet = batch_at(
            number, seed=settings.seed + 1, count=len(told.noisy), batch=settings.null_batch
        )
        said = [told.prompts[i].replace(PLACE, self.tokens.phrase) for i in asked]
        said += [told.prompts[i].replace(PLACE, self._noun) for i in quiet]
        rows = [*asked, *quiet]
        answer = self._base.predict(told.noisy[rows], told.times[rows], self.tokens.encode(said))
        near = functional.mse_loss(answer[: len(asked)], told.teacher[asked].to(answer.device))
        return near, functional.mse_loss(answer[len(asked) :], told.plain[quiet].to(answer.device))

    def _start(self) -> tuple[dict[str, float], float]:
        """Put A' into the slot, and return what it keeps on the held-out prompts."""
        rows, ups = dict[str, np.ndarray](), dict[str, np.ndarray]()
        for path, residual in self._foreign.residuals.items():
            layer = self.adapter.layers[path]
            b = layer.b.cpu().numpy().astype(np.float64) * layer.scale
            rows[path] = np.vstack([residual.down.astype(np.float64), b.T])
            ups[path] = residual.up.astype(np.float64)
        learnt, seen = self._grams(self.train, rows), self._grams(self.held_out, rows)
        a = {path: projected(up, learnt[path]) for path, up in ups.items()}
        state = self.adapter.state()
        self.adapter.load(state | {path: each.astype(np.float32) for path, each in a.items()})
        pairs = {path: energies(ups[path], a[path], seen[path]) for path in ups}
        by_layer = {p: 1 - lost / whole if whole else 1.0 for p, (lost, whole) in pairs.items()}
        lost, whole = (sum(pair[k] for pair in pairs.values()) for k in (0, 1))
        return by_layer, 1 - lost / whole if whole else 1.0

    @torch.no_grad()
    def _grams(self, told: States, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with replace(self.teacher, residuals={}).applied(self._base) as tokens:
            with grams(self._base, rows) as summed:
                self._answers(told, tokens)
            return summed

    def _answers(self, told: States, tokens: LearnedTokens, phrase: str | None = None) -> Tensor:
        said = [p.replace(PLACE, phrase or tokens.phrase) for p in told.prompts]
        parts = []
        for at in range(0, len(said), _BATCH):
            part = slice(at, at + _BATCH)
            conditions = tokens.encode(said[part])
            parts.append(self._base.predict(told.noisy[part], told.times[part], conditions).cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def _sampled(self, prompts: Sequence[str], each: int, seed: int) -> States:
        """Return states on the teacher's way to pictures, and its pictures with fresh noise."""
        base, random = self._base, generator(seed, "import")
        said = [prompt for prompt in prompts for _ in range(each)]
        times = torch.linspace(base.num_timesteps - 1, 0, _SAMPLING_STEPS + 1).long()[:-1]
        stops: list[int] = times.tolist()
        noisy, when, texts, answers = list[Tensor](), list[Tensor](), list[str](), list[Tensor]()
        with self.teacher.applied(base) as tokens:

            def ask(latents: Tensor, at: Tensor, some: Sequence[str]) -> Tensor:
                filled = [text.replace(PLACE, tokens.phrase) for text in some]
                answer = base.predict(latents, at, tokens.encode(filled)).cpu()
                noisy.append(latents)
                when.append(at)
                texts.extend(some)
                answers.append(answer)
                return answer

            for at in range(0, len(said), _BATCH):
                some = said[at : at + _BATCH]
                latents = torch.randn(len(some), *base.latent_shape, generator=random)
                for now, then in zip(stops, [*stops[1:], None], strict=True):
                    answer = ask(latents, torch.full((len(some),), now), some)
                    latents = base.family.noise.step(latents, answer, now=now, then=then)
                draws = stratified(
                    len(some) * _SAMPLING_STEPS, below=base.num_timesteps, random=random
                )
                for part in draws[torch.randperm(len(draws), generator=random)].split(len(some)):
                    noise = torch.randn(latents.shape, generator=random)
                    ask(base.add_noise(latents, noise, part), part, some)
        made = States(torch.cat(noisy), torch.cat(when), tuple(texts), torch.cat(answers), noisy[0])
        with Variant().applied(base) as tokens:
            return replace(made, plain=self._answers(made, tokens, self._noun))

    def _groups(self) -> list[Group]:
        settings = self._settings
        near, far = dict[str, nn.Parameter](), dict[str, nn.Parameter]()
        for path, (a,) in self.adapter.trainable().items():
            (near if reads_text(path) else far)[f"a.{path}"] = a
        return [
            Group(near, settings.rate, settings.weight_decay),
            Group(far, settings.image_rate, settings.weight_decay),
            Group({f"tokens.{n}": v for n, v in self.tokens.vectors.items()}, settings.token_rate),
        ]


def _png(pictures: Sequence[Image.Image], columns: int) -> bytes:
    width, height = pictures[0].size
    sheet = Image.new("RGB", (columns * width, len(pictures) // columns * height))
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        sheet.paste(picture, (column * width, row * height))
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()


def _check(triggers: Sequence[Trigger], foreign: Foreign, prompts: Sequence[str]) -> None:
    wanted = sum(trigger.vectors for trigger in triggers)
    given = {len(rows) for rows in foreign.rows.values()}
    if given != {wanted}:
        raise InputError(
            f"{sorted(given)} vectors call the LoRA, the concept has {wanted}",
            why="the concept's vectors start as those",
            fix="give --vectors the number of vectors or tokens that call the LoRA",
            code="vectors-do-not-fit",
        )
    if len(prompts) < 2 or any(PLACE not in text for text in prompts):  # noqa: PLR2004  # one is held out
        raise InputError(
            f"{len(prompts)} prompts, two or more with {PLACE} in each are needed",
            why="the concept stands there, and some prompts are only measured on",
            fix=f"write {PLACE} into every prompt",
            code="bad-prompts",
        )
    if not foreign.residuals:
        raise InputError(
            "the LoRA changes no layer that the federation adapts",
            why="nothing of it could be kept",
            fix="give a LoRA with attention projections of this base model",
            code="bad-adapter",
        )
