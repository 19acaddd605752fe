"""Teaches one concept: A of every adapted layer and the trigger's vectors, jointly, B frozen.

    minimise  E w(t) ||eps(x_t, t, caption with the trigger) - noise||^2            (objective.py)
              + null_weight x E ||eps(x_t, t, public prompt) - eps_base||^2       (public_states.py)
              + prior_weight x E w(t) ||eps(y_t, t, class noun) - noise||^2        (class_images.py)

over A and the vectors, with a rate of its own for each (optimisation.py). Images become latents
once and wait in CPU memory (material.py); a pass takes what it needs to the base's device
(placement.py). The first two terms share one forward pass. Laws: the same seed, versions and thread
count give the same bits of A; a run stopped between any two steps and started again gives them too
(checkpoint.py), whatever cache its material comes from. The base is read and never written. Source:
method.md 1.1, 6.2, 6.4, 10; reliability.md 5.

Cost: one forward and backward pass of (batch + null_batch) latents, `accumulation` times a step,
and with class images another of batch latents.
Left to others: the lease, the images on disk (dataset.py), quantising (packing.py), scoring.
"""

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..core.dp_claim import DpClaim
from ..core.errors import OrthoFedError
from ..core.spec import FederationSpec
from .adapter import Adapter
from .attachment import Attachment
from .base import Base
from .caches import Caches
from .captions import TEMPLATES
from .checkpoint import TrainingSaves, TrainingState
from .dataset import ConceptImages
from .dp_draws import DpDraws
from .dp_mean import DpMean
from .dp_step import DpStep
from .image_records import ImageRecords
from .material import Material
from .optimisation import Group, Optimisation
from .passes import Passes
from .process_group import ALONE, ProcessGroup, WorkerLost
from .residuals import Residuals
from .step import Step
from .tokens import LearnedTokens
from .trained import Trained
from .training_settings import TrainingSettings
from .trigger import Trigger

OnStep = Callable[[Step], None]


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
    caches: Caches | None = None,
    residuals: Callable[[Base, FederationSpec, int], Residuals] = Adapter,
    vectors: Mapping[str, Tensor] | None = None,
    group: ProcessGroup = ALONE,
    dp: DpClaim | None = None,
) -> Trained:
    """Return the trained concept; go on from the newest save of this very run, if there is one.

    ``on_step`` is called between steps; if it raises, the run is saved first and the exception goes
    on. Make ``saves`` with `identity_of`; without ``caches`` all is made anew. ``residuals`` makes
    what is trained beside the tokens; ``vectors`` is where these start, by encoder, None: at the
    noun. In a ``group`` every process calls this with the same values;
    the first one alone saves. ``dp`` is what a DP training makes good: with it no two runs
    give the same bits (dp_draws.py). Raises OrthoFedError: the loss became infinite or no number.
    Raises WorkerLost: another process is gone. Raises InputError: the optimiser is not there.
    """
    assert (dp is not None) == (settings.dp_epsilon > 0)  # noqa: S101  # never silently public
    started_s = time.monotonic()
    with _torch_as_asked(settings):
        trained = residuals(base, spec, slot)
        run = _Run(base, trained, triggers, noun, settings, vectors, spec.token_layers, group)
        begin = run.restore(saves.newest() if saves else None)
        if begin < settings.steps:
            made = (base, spec, run.tokens, images, noun, settings, caches or Caches.in_memory())
            with group.first_one_first():
                run.passes = Passes(base, settings, Material.made(*made))
            if dp is not None:
                run.make_dp(dp, images)
        _loop(run, begin, on_step, saves if group.is_first else None)
        with run.optimisation.averaged():
            return Trained(
                run.residuals.state(),
                run.tokens.state(),
                run.probes(),
                tuple(run.losses),
                time.monotonic() - started_s,
                begin,
                dp,
            )


def identity_of(  # everything that decides the run's bits
    spec: FederationSpec,
    slot: int,
    triggers: Sequence[Trigger],
    noun: str,
    images: ConceptImages,
    settings: TrainingSettings,
    dp: DpClaim | None = None,
) -> str:
    """Return the digest that a save of this run carries; another run never resumes from it.

    The lease's fence is no part of it: the same slot, leased again, has the same block.
    """
    words = [trigger.words for trigger in triggers]
    parts = [spec.id, slot, words, noun, images.digest, settings.decisive, dp and dp.body()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class _Run:
    """The moving parts of one training."""

    passes: Passes  # made when there is a step to do, before anything is attached
    dp_step: DpStep | None = None
    dp_mean: DpMean | None = None

    def __init__(  # as train()
        self,
        base: Base,
        residuals: Residuals,
        triggers: Sequence[Trigger],
        noun: str,
        settings: TrainingSettings,
        vectors: Mapping[str, Tensor] | None,
        layers: Sequence[str],
        group: ProcessGroup,
    ) -> None:
        self.base = base
        self.group = group
        self.settings = settings
        self.residuals = residuals
        strangers = settings.strangers if settings.null_weight else 0
        self.tokens = LearnedTokens.from_noun(
            base,
            triggers,
            noun,
            seed=settings.seed,
            strangers=strangers,
            layers=layers,
        )
        self.tokens.recompute = settings.checkpointing
        if vectors is not None:
            self.tokens.start_at(vectors)
        self.optimisation = Optimisation(self._groups(), settings)
        self.attachment = Attachment(self.tokens.attached, residuals.attached)
        self.losses: list[float] = []
        self.null_loss = self.prior_loss = 0.0
        self.skipped = False

    def step(self, number: int) -> float:
        """Do step ``number`` and return its loss on the concept's images."""
        if self.dp_mean is not None:
            self.losses.append(self.dp_mean.step(number))
            return self.losses[-1]
        losses = self.dp_step.gradients(number) if self.dp_step else self._gradients(number)
        total = sum(weight * loss for weight, loss in zip(self._weights, losses, strict=True))
        if not math.isfinite(total):
            raise _diverged(number, total)
        self.group.sum_gradients(self.optimisation.parameters)
        self.skipped = not self.optimisation.step(number)
        concept_loss, self.null_loss, self.prior_loss = losses
        self.losses.append(concept_loss)
        return concept_loss

    def _gradients(self, number: int) -> Sequence[float]:
        """Leave the step's gradient in every parameter; return the three losses of it."""
        count, weights = self.settings.accumulation, self._weights
        told = []
        for turn in self.group.turns(count):
            number_of_pass = number * count + turn
            concept, null = self.passes.concept_and_null(number_of_pass)
            self.optimisation.scaled((concept + weights[1] * null) / count).backward()
            prior = self.passes.prior(number_of_pass)
            if prior is not None:
                # A backward pass of its own: the activations of one of both are held at a time.
                self.optimisation.scaled(weights[2] * prior / count).backward()
            prior = torch.zeros_like(concept) if prior is None else prior.detach()
            told.append(torch.stack([concept.detach(), null.detach(), prior]))
        # Read once a step: each read waits until the GPU has done all that was asked of it.
        rows: list[list[float]] = self.group.all_rows(torch.stack(told).cpu(), count).tolist()
        return [sum(column) / count for column in zip(*rows, strict=True)]

    def make_dp(self, claim: DpClaim, images: ConceptImages) -> None:
        """Let every step from now on be one of ``claim``."""
        assert isinstance(self.residuals, Adapter)  # noqa: S101  # the product trains no other kind
        records = ImageRecords(self.passes, self.residuals, self.tokens, images.train, DpDraws())
        if claim.mechanism == "mean":
            self.dp_mean = DpMean(records, claim, self.attachment)
        else:
            self.dp_step = DpStep(records, self.passes, claim, self.attachment)

    @property
    def _weights(self) -> tuple[float, float, float]:
        """What the three losses count: concept, null response, prior."""
        return 1.0, self.settings.null_weight, self.settings.prior_weight

    def state(self) -> TrainingState:
        """Return all that the next step reads."""
        tensors, numbers = self.optimisation.state()
        return TrainingState(len(self.losses), tensors, tuple(self.losses), numbers)

    def restore(self, state: TrainingState | None) -> int:
        """Take over ``state`` and return the number of the step that comes next."""
        if state is None or (self.settings.is_mean and state.step < self.settings.steps):
            return 0  # of a mean nothing is kept before it is whole
        self.optimisation.restore(state.tensors, state.numbers)
        self.losses = list(state.losses)
        return state.step

    @torch.no_grad()
    def probes(self) -> dict[int, np.ndarray]:
        """Return each trigger's text features in four prompts, at its last vector's position."""
        with self.attachment:
            return self.tokens.probes(TEMPLATES)

    def _groups(self) -> list[Group]:
        """Return A near the prompt, other A, and the vectors, each with its rate."""
        settings = self.settings
        near: dict[str, nn.Parameter] = {}
        far: dict[str, nn.Parameter] = {}
        for path, parameters in self.residuals.trainable().items():
            group = near if reads_text(path) else far
            group |= {f"{x}.{path}": p for x, p in zip("ab", parameters, strict=False)}
        return [
            Group(near, settings.rate, settings.weight_decay),
            Group(far, settings.image_rate, settings.weight_decay),
            Group({f"tokens.{n}": v for n, v in self.tokens.vectors.items()}, settings.token_rate),
        ]


def reads_text(path: str) -> bool:
    """Say whether the layer's input is text: it can answer one trigger and not another."""
    return not path.startswith("unet.") or path.endswith(("attn2.to_k", "attn2.to_v"))


def _loop(run: _Run, begin: int, on_step: OnStep | None, saves: TrainingSaves | None) -> None:
    settings = run.settings
    started_s = saved_s = time.monotonic()
    with run.attachment, _recomputed(run.base, settings):
        for number in range(begin, settings.steps):
            begun_s = time.monotonic()
            with _saved_if_stopped(run, saves, by=WorkerLost):
                loss = run.step(number)
            now_s = time.monotonic()
            left_s = (now_s - started_s) / (number + 1 - begin) * (settings.steps - number - 1)
            if on_step is not None:
                rate = settings.rate * settings.rate_at(number)
                done = Step(
                    number + 1,
                    settings.steps,
                    loss,
                    run.null_loss,
                    run.prior_loss,
                    rate,
                    left_s,
                    run.tokens,
                    now_s - begun_s,
                    run.skipped,
                )
                with _saved_if_stopped(run, saves):
                    on_step(done)
            # After on_step: a step that is saved has been reported, so no log can lack it.
            if saves and now_s - saved_s >= settings.save_every_s and number + 1 < settings.steps:
                saves.write(run.state())
                saved_s = time.monotonic()
        if saves and begin < settings.steps:
            saves.write(run.state())


@contextlib.contextmanager
def _saved_if_stopped(
    run: _Run, saves: TrainingSaves | None, *, by: type[Exception] = Exception
) -> Generator[None]:
    """Save the run when what happens inside stops it: between steps its state is whole.

    So it is when a step lost a worker: nothing was updated yet. Not for KeyboardInterrupt: who is
    in such a hurry waits for no save (interrupts.py).
    """
    try:
        yield
    except by:
        if saves:
            saves.write(run.state())
        raise


@contextlib.contextmanager
def _torch_as_asked(settings: TrainingSettings) -> Generator[None]:
    """Run torch with the wanted threads (0: as it is) and deterministic kernels, if asked."""
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(mode=settings.deterministic)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=strict)
        torch.set_num_threads(before)


@contextlib.contextmanager
def _recomputed(base: Base, settings: TrainingSettings) -> Generator[None]:
    """Keep no activations inside the denoiser's blocks: the backward pass makes them again.

    The text encoders keep theirs: 77 positions are little beside thousands of latent ones, unless
    layer-wise tokens make 16 or 71 texts of a prompt (tokens.py).
    """
    if not settings.checkpointing:
        yield
        return
    denoiser = base.family.denoiser
    denoiser.enable_gradient_checkpointing()
    denoiser.train()  # some of diffusers' blocks recompute in this mode only; it drops nothing out
    try:
        yield
    finally:
        denoiser.eval()
        denoiser.disable_gradient_checkpointing()


def _diverged(number: int, loss: float) -> OrthoFedError:
    return OrthoFedError(
        f"the loss at step {number + 1} is {loss}",
        why="nothing finite can be learnt from it",
        fix="lower rate and token_rate in the training settings, or set precision = 'fp32' where "
        "it is fp16, and start again",
        code="training-diverged",
    )
