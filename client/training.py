"""Teaches one concept: A of every adapted layer and the trigger's vectors, jointly, B frozen.

    minimise  E ||eps(x_t, t, caption with the trigger) - noise||^2
              + null_weight x E ||eps(x_t, t, public prompt) - eps_base||^2       (public_states.py)

over A and the vectors, with AdamW and a rate of its own for each. Images become latents once. Both
terms share one forward pass. Laws: the same seed, versions and thread count give the same bits of
A; a run stopped between any two steps and started again gives them too (checkpoint.py). The base
is read and never written. Source: method.md 1.1, 6.2, 6.4, 10; reliability.md 5.

Cost: one forward and backward pass of (batch + null_batch) latents a step. Left to others: the
lease, the images on disk (dataset.py), quantising (packing.py), scoring (score.py).
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageChops
from torch import Tensor, nn
from torch.nn import functional

from ..core.errors import OrthoFedError
from ..core.spec import FederationSpec
from .adapter import Adapter
from .base import Base
from .checkpoint import TrainingSaves, TrainingState
from .dataset import Captioned, ConceptImages, filled
from .draws import batch_at, generator, stratified
from .public_states import PublicStates, public_prompts
from .tokens import LearnedTokens, Trigger
from .training_settings import TrainingSettings

__all__ = ["Trained", "TrainingSettings", "Trigger", "identity_of", "train"]

PROBE_TEMPLATES = ("a picture of {}", "a portrait of {}", "an image of {}", "{}")

OnStep = Callable[[int, int, float, float], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gives: the tensors that travel (after packing.py) and facts that stay."""

    a: dict[str, np.ndarray]  # layer path -> (n, r) float32
    embeddings: dict[tuple[str, int], np.ndarray]  # (encoder, trigger number) -> (v, width)
    probes: dict[int, np.ndarray]  # trigger number -> (4, width of the text features)
    losses: tuple[float, ...]  # of each step; they stay at home
    seconds: float  # of this process, without what was resumed
    resumed_at: int  # the step this process began with


def train(  # noqa: PLR0913  # the parts of one run; a record would only rename them
    base: Base,
    spec: FederationSpec,
    slot: int,
    triggers: Sequence[Trigger],
    noun: str,
    images: ConceptImages,
    settings: TrainingSettings,
    *,
    on_step: OnStep | None = None,
    saves: TrainingSaves | None = None,
) -> Trained:
    """Return the trained concept; go on from the newest save of this very run, if there is one.

    ``on_step(step, steps, loss, seconds_left)`` is called between steps; if it raises, the run is
    saved first and the exception goes on. Make ``saves`` with `identity_of`.
    Raises OrthoFedError: the loss became infinite or no number.
    """
    started_s = time.monotonic()
    with _torch_as_asked(settings.threads):
        run = _Run(base, spec, slot, triggers, noun, images, settings)
        begin = run.restore(saves.newest() if saves else None)
        _loop(run, begin, on_step, saves)
        return Trained(
            run.adapter.state(),
            run.tokens.state(),
            run.probes(),
            tuple(run.losses),
            time.monotonic() - started_s,
            begin,
        )


def identity_of(  # everything that decides the run's bits
    spec: FederationSpec,
    slot: int,
    fence: int,
    triggers: Sequence[Trigger],
    noun: str,
    images: ConceptImages,
    settings: TrainingSettings,
) -> str:
    """Return the digest that a save of this run carries; another run never resumes from it."""
    decisive = settings.as_dict()
    del decisive["save_every_s"], decisive["threads"]  # they change speed, or last bits at most
    words = [trigger.words for trigger in triggers]
    parts = [spec.id, slot, fence, words, noun, images.digest, decisive]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class _Run:
    """The moving parts of one training."""

    def __init__(  # as train()
        self,
        base: Base,
        spec: FederationSpec,
        slot: int,
        triggers: Sequence[Trigger],
        noun: str,
        images: ConceptImages,
        settings: TrainingSettings,
    ) -> None:
        self.base = base
        self.settings = settings
        self.adapter = Adapter(base, spec, slot)
        self.tokens = LearnedTokens.from_noun(base, triggers, noun, seed=settings.seed)
        self.optimiser = torch.optim.AdamW(
            [
                {"params": parameters, "initial_lr": rate, "weight_decay": decay}
                for parameters, rate, decay in self._groups()
            ],
            fused=True,
        )
        self.captions = filled(images.train, self.tokens.phrase) * settings.jitters
        self.latents = base.latents(jittered(images.train, settings))
        self.public = self._public_states(images, noun)
        self.losses: list[float] = []

    def step(self, number: int) -> float:
        """Do step ``number`` and return its loss on the concept's images."""
        concept, null = self._losses(number)
        total = concept + self.settings.null_weight * null
        if not torch.isfinite(total):
            raise OrthoFedError(
                f"the loss at step {number + 1} is {total.item()}",
                why="nothing finite can be learnt from it",
                fix="lower rate and token_rate in the training settings and start again",
                code="training-diverged",
            )
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        share = self.settings.rate_at(number)
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * share
            if self.settings.clip_norm:
                nn.utils.clip_grad_norm_(group["params"], self.settings.clip_norm)
        self.optimiser.step()
        self.losses.append(concept.item())
        return self.losses[-1]

    def state(self) -> TrainingState:
        """Return all that the next step reads."""
        tensors: dict[str, np.ndarray] = {}
        for name, parameter in self._named():
            moments = self.optimiser.state[parameter]
            for part, value in {"value": parameter, **moments}.items():
                tensors[f"{name}/{part}"] = value.detach().numpy().copy()
        return TrainingState(len(self.losses), tensors, tuple(self.losses))

    def restore(self, state: TrainingState | None) -> int:
        """Take over ``state`` and return the number of the step that comes next."""
        if state is None:
            return 0
        with torch.no_grad():
            for name, parameter in self._named():
                parameter.copy_(torch.from_numpy(state.tensors[f"{name}/value"]))
                # Without moments: a layer that feeds nothing, as SDXL's first encoder's last one.
                self.optimiser.state[parameter] = {
                    part: torch.from_numpy(state.tensors[f"{name}/{part}"].copy())
                    for part in ("step", "exp_avg", "exp_avg_sq")
                    if f"{name}/{part}" in state.tensors
                }
        self.losses = list(state.losses)
        return state.step

    @torch.no_grad()
    def probes(self) -> dict[int, np.ndarray]:
        """Return each trigger's text features in four prompts, at its last vector's position."""
        with self.tokens.attached(), self.adapter.attached():
            return self.tokens.probes(PROBE_TEMPLATES)

    def _losses(self, number: int) -> tuple[Tensor, Tensor]:
        """Return the concept's loss and the null-response term of one batch, from one pass."""
        noisy, times, prompts, target = self._concept_batch(number)
        count = len(noisy)
        if self.public is not None:
            chosen = batch_at(
                number,
                seed=self.settings.seed + 1,
                count=len(self.public.noisy),
                batch=self.settings.null_batch,
            )
            noisy = torch.cat([noisy, self.public.noisy[chosen]])
            times = torch.cat([times, self.public.timesteps[chosen]])
            prompts = [*prompts, *(self.public.prompts[i] for i in chosen)]
            target = torch.cat([target, self.public.answers[chosen]])
        answer = self.base.predict(noisy, times, self.tokens.encode(prompts))
        concept = functional.mse_loss(answer[:count], target[:count])
        if self.public is None:
            return concept, torch.zeros(())
        return concept, functional.mse_loss(answer[count:], target[count:])

    def _concept_batch(self, number: int) -> tuple[Tensor, Tensor, list[str], Tensor]:
        chosen = batch_at(
            number,
            seed=self.settings.seed,
            count=len(self.latents),
            batch=self.settings.batch,
        )
        latents = self.latents[chosen]
        random = generator(self.settings.seed, "noise", number)
        times = stratified(len(chosen), below=self.base.num_timesteps, random=random)
        noise = torch.randn(latents.shape, generator=random)
        noisy = self.base.add_noise(latents, noise, times)
        prompts = [self.captions[i] for i in chosen]
        return noisy, times, prompts, self.base.target(latents, noise, times)

    def _public_states(self, images: ConceptImages, noun: str) -> PublicStates | None:
        settings, encode = self.settings, self.tokens.encode
        if not settings.null_weight:
            return None
        parts = []
        if settings.null_images:
            prompts = public_prompts([item.caption for item in images.train], noun)
            count, steps = settings.null_images, settings.null_sampling_steps
            parts.append(
                PublicStates.sampled(
                    self.base, encode, prompts, count=count, steps=steps, seed=settings.seed
                )
            )
        if settings.null_states:
            own, captions = self.latents[: len(images.train)], filled(images.train, noun)
            each = settings.null_states
            parts.append(
                PublicStates.noised(
                    self.base, encode, own, captions, each=each, seed=settings.seed + 1
                )
            )
        return PublicStates.all_of(parts) if parts else None

    def _groups(self) -> list[tuple[list[nn.Parameter], float, float]]:
        """Return (parameters, full rate, weight decay): A near the prompt, other A, vectors."""
        settings, near, far = self.settings, [], []
        for path, layer in self.adapter.layers.items():
            (near if reads_text(path) else far).append(layer.a)
        return [
            (near, settings.rate, settings.weight_decay),
            (far, settings.image_rate, settings.weight_decay),
            (list(self.tokens.vectors.values()), settings.token_rate, 0.0),
        ]

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        layers = [(f"a.{path}", layer.a) for path, layer in self.adapter.layers.items()]
        return [*layers, *((f"tokens.{name}", v) for name, v in self.tokens.vectors.items())]


def reads_text(path: str) -> bool:
    """Say whether the layer's input is text: it can answer one trigger and not another."""
    return not path.startswith("unet.") or path.endswith(("attn2.to_k", "attn2.to_v"))


def jittered(items: Sequence[Captioned], settings: TrainingSettings) -> list[Image.Image]:
    """Return the images, then for each further jitter all of them shifted by a few pixels."""
    random = generator(settings.seed, "jitter")
    reach = settings.jitter_pixels
    images = [item.image for item in items]
    for _ in range(settings.jitters - 1):
        for item in items:
            x, y = torch.randint(-reach, reach + 1, (2,), generator=random).tolist()
            images.append(_shifted(item.image, x, y))
    return images


def _shifted(image: Image.Image, x: int, y: int) -> Image.Image:
    """Return ``image`` moved by (x, y) pixels, its border repeated, not wrapped round."""
    wide = ImageChops.offset(image, x, y)
    box = (max(x, 0), max(y, 0), image.width + min(x, 0), image.height + min(y, 0))
    return wide.crop(box).resize(image.size, Image.Resampling.BICUBIC)


def _loop(run: _Run, begin: int, on_step: OnStep | None, saves: TrainingSaves | None) -> None:
    settings = run.settings
    started_s = saved_s = time.monotonic()
    with run.tokens.attached(), run.adapter.attached():
        for number in range(begin, settings.steps):
            loss = run.step(number)
            now_s = time.monotonic()
            left_s = (now_s - started_s) / (number + 1 - begin) * (settings.steps - number - 1)
            if saves and now_s - saved_s >= settings.save_every_s and number + 1 < settings.steps:
                saves.write(run.state())
                saved_s = time.monotonic()
            if on_step is not None:
                with _saved_if_stopped(run, saves):
                    on_step(number + 1, settings.steps, loss, left_s)
        if saves and begin < settings.steps:
            saves.write(run.state())


@contextlib.contextmanager
def _saved_if_stopped(run: _Run, saves: TrainingSaves | None) -> Generator[None]:
    """Save the run when what happens inside stops it: between steps its state is whole."""
    try:
        yield
    except BaseException:
        if saves:
            saves.write(run.state())
        raise


@contextlib.contextmanager
def _torch_as_asked(threads: int) -> Generator[None]:
    """Run torch with ``threads`` threads (0: as it is) and deterministic kernels only."""
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    if threads:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=strict)
        torch.set_num_threads(before)
