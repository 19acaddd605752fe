"""Brings an ordinary LoRA into a slot: its nearest A', then distilled without any image.

    start     A' = dW C B (B^T C B)^-1                                      (core/projection.py)
    minimise  E||eps_teacher - eps_student||^2 + null_weight E||eps_student - eps_base||^2

Teacher is the base with the whole LoRA and the words that call it; student the base with the slot
and the concept's own vectors, which start as the rows of those words. Timesteps and latents are the
teacher's own: every state of its sampling, and its pictures with fresh noise. No private data is
needed. Laws: the same seed gives the same bits, also when it went on from a save; the last
quarter of the prompts is only measured on, and the best look at them is kept. Source: method.md 7.
Left to others: the teacher (teacher.py), reading the file, the lease, packing.
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

from ..core.projection import energies, projected
from ..core.spec import FederationSpec
from .activations import grams
from .adapter import Adapter
from .captions import PLACE, TEMPLATES
from .checkpoint import TrainingSaves, TrainingState
from .draws import batch_at, generator
from .optimisation import Group, Optimisation
from .teacher import States, Teacher
from .tokens import LearnedTokens
from .training import reads_text
from .training_settings import TrainingSettings
from .trigger import Trigger
from .variant import Variant

_GUIDANCE: Final = 4.0
_LOOK_EVERY: Final = 25


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
        teacher: Teacher,
        spec: FederationSpec,
        slot: int,
        triggers: Sequence[Trigger],
        settings: TrainingSettings,
    ) -> None:
        """Compute the nearest A' of what the teacher has; ``triggers`` fit it (check_vectors)."""
        self._teacher, self._base, self._spec = teacher, teacher.base, spec
        self._settings, self._slot = distilling(settings), slot
        self.adapter = Adapter(self._base, spec, slot)
        start = {name: torch.tensor(rows) for name, rows in teacher.rows.items()}
        self.tokens = LearnedTokens(self._base, triggers, start, layers=spec.token_layers)
        self.kept_by_layer, self.kept = self._start()
        self.error_closed = self.error()

    @torch.no_grad()
    def error(self) -> float:
        """Return held-out E||teacher - student||^2 / E||teacher - base||^2 of the student now."""
        told = self._teacher.held_out
        # The start is compared with the base that is asked for the noun: what the LoRA changes.
        with self.tokens.attached(), self.adapter.attached():
            answers = self._teacher.answers(told, self.tokens)
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
        prompts = [self._teacher.held_out.prompts[0], *dict.fromkeys(self._teacher.train.prompts)][
            :columns
        ]
        prompts = [prompts[i % len(prompts)] for i in range(columns)]
        with Variant().applied(base) as tokens:
            pictures = self._drawn(
                noise, [p.replace(PLACE, self._teacher.noun) for p in prompts], tokens
            )
        with self._teacher.variant.applied(base) as tokens:
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
        parts = [
            self._spec.id,
            self._slot,
            fence,
            words,
            self._teacher.noun,
            self._teacher.foreign.digest,
        ]
        told = json.dumps(
            [*parts, self._settings.as_dict(), self._teacher.train.prompts], sort_keys=True
        )
        return hashlib.sha256(told.encode()).hexdigest()

    def _losses(self, number: int) -> tuple[Tensor, Tensor]:
        """Return the distance to the teacher and to the base's answers, in one pass."""
        settings, told = self._settings, self._teacher.train
        asked = batch_at(number, seed=settings.seed, count=len(told.noisy), batch=settings.batch)
        quiet = batch_at(
            number, seed=settings.seed + 1, count=len(told.noisy), batch=settings.null_batch
        )
        said = [told.prompts[i].replace(PLACE, self.tokens.phrase) for i in asked]
        said += [told.prompts[i].replace(PLACE, self._teacher.noun) for i in quiet]
        rows = [*asked, *quiet]
        answer = self._base.predict(told.noisy[rows], told.times[rows], self.tokens.encode(said))
        near = functional.mse_loss(answer[: len(asked)], told.teacher[asked].to(answer.device))
        return near, functional.mse_loss(answer[len(asked) :], told.plain[quiet].to(answer.device))

    def _start(self) -> tuple[dict[str, float], float]:
        """Put A' into the slot, and return what it keeps on the held-out prompts."""
        rows, ups = dict[str, np.ndarray](), dict[str, np.ndarray]()
        for path, residual in self._teacher.foreign.residuals.items():
            layer = self.adapter.layers[path]
            b = layer.b.cpu().numpy().astype(np.float64) * layer.scale
            rows[path] = np.vstack([residual.down.astype(np.float64), b.T])
            ups[path] = residual.up.astype(np.float64)
        learnt, seen = (
            self._grams(self._teacher.train, rows),
            self._grams(self._teacher.held_out, rows),
        )
        a = {path: projected(up, learnt[path]) for path, up in ups.items()}
        state = self.adapter.state()
        self.adapter.load(state | {path: each.astype(np.float32) for path, each in a.items()})
        pairs = {path: energies(ups[path], a[path], seen[path]) for path in ups}
        by_layer = {p: 1 - lost / whole if whole else 1.0 for p, (lost, whole) in pairs.items()}
        lost, whole = (sum(pair[k] for pair in pairs.values()) for k in (0, 1))
        return by_layer, 1 - lost / whole if whole else 1.0

    @torch.no_grad()
    def _grams(self, told: States, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with replace(self._teacher.variant, residuals={}).applied(self._base) as tokens:
            with grams(self._base, rows) as summed:
                self._teacher.answers(told, tokens)
            return summed

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
