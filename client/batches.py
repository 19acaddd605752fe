"""Which images, captions and noise a pass sees: all of it a function of its number.

Latents of one shape form a bucket; a pass takes one bucket. Buckets take turns so that after any
number of passes each was served in proportion to its images, and inside a bucket every epoch shows
each image once (draws.py). Nothing is kept between passes, so a resumed run sees the same ones.

Cost: the turns of all passes are computed once, passes x buckets comparisons.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .draws import batch_at, generator, stratified
from .families.framing import Framing


@dataclass(frozen=True, slots=True)
class Bucket:
    """Images of one shape. Shapes: latents (n, c, h, w); masks (n, 1, h, w) or None."""

    latents: Tensor
    captions: tuple[str, ...]
    framings: tuple[Framing, ...]
    masks: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """One pass: clean latents, noise and timesteps, what is said of them and how they were cut."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    captions: list[str]
    framings: list[Framing]
    masks: Tensor | None


@dataclass(frozen=True, slots=True)
class Batches:
    """All passes of one run."""

    buckets: tuple[Bucket, ...]
    turns: tuple[tuple[int, int], ...]  # of each pass: the bucket, and how often it was served
    batch: int
    num_timesteps: int
    seed: int
    caption_dropout: float = 0.0
    noise_offset: float = 0.0
    keep_tags: int | None = None  # shuffle the tags behind so many; None: none

    @staticmethod
    def of(
        buckets: Sequence[Bucket],
        *,
        passes: int,
        batch: int,
        num_timesteps: int,
        seed: int,
        caption_dropout: float = 0.0,
        noise_offset: float = 0.0,
        keep_tags: int | None = None,
    ) -> "Batches":
        """Return the plan of ``passes`` passes over ``buckets``."""
        turns = tuple(_turns([len(b.latents) for b in buckets], passes))
        return Batches(
            tuple(buckets),
            turns,
            batch,
            num_timesteps,
            seed,
            caption_dropout=caption_dropout,
            noise_offset=noise_offset,
            keep_tags=keep_tags,
        )

    def at(self, number: int) -> Batch:
        """Return pass ``number``."""
        index, served = self.turns[number]
        bucket = self.buckets[index]
        chosen = batch_at(
            served, seed=self.seed + 7_919 * index, count=len(bucket.latents), batch=self.batch
        )
        random = generator(self.seed, "noise", number)
        times = stratified(len(chosen), below=self.num_timesteps, random=random)
        return self._noised(bucket, chosen, times, random, generator(self.seed, "tags", number))

    def drawn(self, index: int, chosen: Sequence[int], random: torch.Generator) -> Batch:
        """Return a pass of the rows ``chosen`` of bucket ``index``, each drawn for itself.

        Timesteps are not spread over the pass: what a row gets hangs on no other row.
        """
        times = torch.randint(self.num_timesteps, (len(chosen),), generator=random)
        return self._noised(self.buckets[index], chosen, times, random, random)

    def _noised(
        self,
        bucket: Bucket,
        chosen: Sequence[int],
        times: Tensor,
        random: torch.Generator,
        tags: torch.Generator,
    ) -> Batch:
        latents = bucket.latents[list(chosen)]
        noise = torch.randn(latents.shape, generator=random)
        if self.noise_offset:
            shift = torch.randn(*latents.shape[:2], 1, 1, generator=random)
            noise = noise + self.noise_offset * shift
        captions = [bucket.captions[i] for i in chosen]
        if self.keep_tags is not None:
            captions = [_shuffled(text, keep=self.keep_tags, random=tags) for text in captions]
        if self.caption_dropout:
            dropped = torch.rand(len(chosen), generator=random) < self.caption_dropout
            captions = [
                "" if out else text for out, text in zip(dropped.tolist(), captions, strict=True)
            ]
        masks = bucket.masks[list(chosen)] if bucket.masks is not None else None
        framings = [bucket.framings[i] for i in chosen]
        return Batch(latents, noise, times, captions, framings, masks)


def _shuffled(caption: str, *, keep: int, random: torch.Generator) -> str:
    """Return ``caption`` with the comma-separated tags behind the first ``keep`` in a new order."""
    tags = [tag.strip() for tag in caption.split(",")]
    order: list[int] = torch.randperm(max(0, len(tags) - keep), generator=random).tolist()
    return ", ".join([*tags[:keep], *(tags[keep + place] for place in order)])


def _turns(sizes: Sequence[int], passes: int) -> list[tuple[int, int]]:
    """Return (bucket, times served before) of each pass; the one furthest behind is next."""
    total, served = sum(sizes), [0] * len(sizes)
    turns = []
    for number in range(passes):
        behind = [
            (number + 1) * size / total - done for size, done in zip(sizes, served, strict=True)
        ]
        index = behind.index(max(behind))
        turns.append((index, served[index]))
        served[index] += 1
    return turns
