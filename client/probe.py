"""Will it fit, and how long will it take: five real steps before a slot is leased.

    two warm-up steps, three timed ones -> the median is seconds_per_step
    total = steps x seconds_per_step + one forward pass for each public state, two for each step of
            a class image, a third of a step's

The steps are those of training.py itself, on images of the concept's largest shape, at the wanted
rank, precision and batch; nothing of them is kept, and every draw of the real run comes from its
own seed, so the trained bits are the same with and without a probe. At most two of the passes that
a step asks of one process are made: more would only repeat them. On a CPU each further process
takes the same memory again, with the base; a GPU is there for each. Laws: over 90 % of the free
memory or 70 % of the time that a lease may be held, nothing is leased. Source: product.md 5. Cost:
five steps, and the encoding of at most 16 images.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Final

from ..core.dp_claim import DpClaim
from ..core.errors import OrthoFedError
from ..core.spec import FederationSpec
from .base import Base
from .dataset import ConceptImages
from .memory import MemoryWatch
from .out_of_memory import smaller, told_when_out_of_memory
from .step import Step
from .training import train
from .training_settings import TrainingSettings
from .trigger import Trigger

_WARM_UP: Final = 2
_TIMED: Final = 3
_IMAGES: Final = 16
"""As many as the autoencoder and the public states take at once: their peak is in the figure."""
_MEMORY_SHARE: Final = 0.9
_HOLD_SHARE: Final = 0.7


@dataclass(frozen=True, slots=True)
class Probed:
    """What five steps cost, and what that makes of the whole training."""

    seconds_per_step: float
    total_s: float  # what is made before them, and every step
    peak_bytes: int  # the most that the steps added to the loaded base (memory.py)
    free_bytes: int  # before them

    def check(self, settings: TrainingSettings, *, hold_s: int) -> None:
        """Pass if the training fits the machine and the lease.

        Raises OrthoFedError: one of the two is too small; measured value, bound, what to change.
        """
        if self.peak_bytes > _MEMORY_SHARE * self.free_bytes:
            raise OrthoFedError(
                f"a step takes {_gigabytes(self.peak_bytes)} of memory, {_MEMORY_SHARE:.0%} of the "
                f"{_gigabytes(self.free_bytes)} that are free is allowed",
                why="a training that runs out of memory, or into swap, does not end; "
                "no slot was leased",
                fix="; or ".join(smaller(settings)),
                code="does-not-fit",
            )
        if self.total_s > _HOLD_SHARE * hold_s:
            raise OrthoFedError(
                f"the training would take {self.total_s:.0f} s at {self.seconds_per_step:.3g} s a "
                f"step, {_HOLD_SHARE:.0%} of the {hold_s} s that a lease may be held is allowed",
                why="the slot would go to somebody else before it is filled; no slot was leased",
                fix="; or ".join(_quicker(settings, self, hold_s)),
                code="takes-too-long",
            )


def probe(
    base: Base,
    spec: FederationSpec,
    triggers: Sequence[Trigger],
    noun: str,
    images: ConceptImages,
    settings: TrainingSettings,
    dp: DpClaim | None = None,
) -> Probed:
    """Return what a training with these settings and ``dp`` costs on this machine.

    Raises OrthoFedError: the memory is not enough for a step, or the loss is no number.
    """
    share = settings.accumulation // settings.processes
    passes = min(2, share)
    silent = settings.null_weight > 0 and (settings.null_images > 0 or settings.own_states > 0)
    some = _largest(images)
    if dp is not None:  # one pass a step, of all its images; the real ones draw more
        some = replace(some, train=some.train[: settings.batch])
    quick = replace(
        settings,
        steps=_WARM_UP + _TIMED,
        accumulation=passes,
        processes=1,
        jitters=1,
        null_images=int(silent and dp is not None),
        null_states=int(silent),
        prior_images=1,
        prior_steps=1,
    )
    ends_s: list[float] = []

    def on_step(_: Step) -> None:
        ends_s.append(time.monotonic())

    with told_when_out_of_memory(settings), MemoryWatch(base.device) as watch:
        # Every slot has the same shapes, so the first one stands for the one to come.
        train(base, spec, 0, triggers, noun, some, quick, on_step=on_step, dp=_all_drawn(dp))
    timed = [after - before for before, after in pairwise(ends_s[_WARM_UP - 1 :])]
    own = share * settings.batch  # images a step, on average where they are drawn by chance
    step_s = median(timed) * share / passes
    if dp is not None:
        own = math.ceil(dp.q_ppm / 1e6 * len(images.train))
        step_s *= max(1.0, own / len(some.train))
    drawn = settings.prior_weight > 0 and not images.of_the_class
    prior = settings.batch * (settings.prior_weight > 0)
    latents = own + share * (settings.null_batch * silent + prior)
    states = 2 * drawn * settings.prior_images * settings.prior_steps + silent * (
        settings.null_images * settings.null_sampling_steps
        + settings.own_states * len(images.train)
    )
    total_s = step_s * (settings.steps + states / latents / 3)  # forward without backward
    peak_bytes = watch.peak_bytes
    if base.device.type == "cpu":
        peak_bytes += (settings.processes - 1) * (peak_bytes + base.num_bytes)
    return Probed(step_s, total_s, peak_bytes, watch.free_bytes)


def _largest(images: ConceptImages) -> ConceptImages:
    """Return images of the shape with most pixels: the one that needs most of everything."""
    sizes = [item.size for item in images.train]
    size = max(sizes, key=lambda pair: pair[0] * pair[1])
    return replace(
        images, train=tuple(item for item in images.train if item.size == size)[:_IMAGES]
    )


def _all_drawn(dp: DpClaim | None) -> DpClaim | None:
    """Return a claim whose steps draw every image; nothing that comes of them leaves."""
    return None if dp is None else replace(dp, q_ppm=10**6, steps=_WARM_UP + _TIMED)


def _quicker(settings: TrainingSettings, probed: Probed, hold_s: int) -> list[str]:
    """Return what to set so that the training ends in time, the surest first."""
    ways = []
    fits = int(settings.steps * _HOLD_SHARE * hold_s / probed.total_s)
    if fits >= 1:
        ways.append(f"set steps = {fits}")
    if settings.accumulation > 1:
        ways.append(f"set accumulation = {settings.accumulation // 2}")
    if settings.batch > 1:
        ways.append(f"set batch = {settings.batch // 2}")
    if settings.checkpointing:
        ways.append("set checkpointing = false if the memory allows it")
    return ways or ["use a faster machine, or ask the operator for a longer hold_s"]


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
