"""Differential privacy for fewer images: each moves the words for itself, the moves are averaged.

    d_k      how far `steps` steps on image k alone move the token vectors, from where all begin
    vectors = start + (sum of d_k, each cut to C, + sigma C z) / images           once, at the end

Nothing else is trained: A stays zero, so a few hundred numbers leave and the noise is small beside
them (security.md 9.3). Laws: no image sees another, or what came of it, before the sum; the sum is
noisy_gradient.py's with every image in it, so one image more or less moves it by C at most; the
noise is drawn once, for all of what leaves. The start is the class noun's, which is public. A run
that was stopped begins anew: the moves so far stay in memory and are gone.

The null response is 0 without a term for it: prompts that do not name the concept read none of the
vectors. Source: security.md 9.3; the exact noise of one Gaussian: arXiv:1805.06530. Cost: a forward
and backward pass of every image a step, and three copies of the vectors an image.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.dp_claim import DpClaim
from .attachment import Attachment
from .image_records import ImageRecords
from .noisy_gradient import noisy_gradient
from .per_image import PerImage


class DpMean:
    """The moves of every image of one run, and what is released of them."""

    def __init__(self, records: ImageRecords, claim: DpClaim, attachment: Attachment) -> None:
        """Let every image begin where the tokens are."""
        self._records, self._claim, self._attachment = records, claim, attachment
        self._settings = records.passes.settings
        self._tokens = records.tokens
        self._own = {
            name: nn.Parameter(vectors.detach().expand(records.count, *vectors.shape).clone())
            for name, vectors in self._tokens.vectors.items()
        }
        # Entry by entry, so that no image's move hangs on another's.
        self._optimiser = torch.optim.Adam(self._own.values(), lr=self._settings.token_rate)

    def step(self, number: int) -> float:
        """Move every image's vectors once; behind the last step leave the noisy mean in the tokens.

        Returns the mean loss, which stays at home.
        """
        self._optimiser.param_groups[0]["lr"] = self._settings.token_rate * (
            self._settings.rate_at(number)
        )
        told: list[float] = []
        for parameter in self._own.values():
            parameter.grad = torch.zeros_like(parameter)
        with self._attachment.lifted():
            for images, batch in self._records.drawn(range(self._records.count)):
                own = {name: moved[images] for name, moved in self._own.items()}
                each = PerImage(
                    self._records.passes.base, None, self._tokens, len(images), vectors=own
                )
                with each.attached():
                    losses = self._records.passes.image_losses(batch, each.encode)
                    found = each.gradients(losses)
                for parameter, gradient in zip(self._own.values(), found, strict=True):
                    assert parameter.grad is not None  # noqa: S101  # set above
                    parameter.grad[images] = gradient.to(parameter.grad)
                told += losses.detach().cpu().tolist()
        self._optimiser.step()
        if number + 1 == self._settings.steps:
            self._release()
        finite = [loss for loss in told if math.isfinite(loss)]
        return sum(finite) / len(finite) if finite else 0.0

    @property
    def moves(self) -> "Moves":
        """How far each image has moved its vectors so far."""
        starts: Mapping[str, nn.Parameter] = dict(self._tokens.vectors.items())
        return Moves([(self._own[name] - start).detach() for name, start in starts.items()])

    @torch.no_grad()
    def _release(self) -> None:
        like = list(self._tokens.vectors.values())
        mean = noisy_gradient(self.moves, self._claim, self._records.draws, like)
        for start, moved in zip(like, mean, strict=True):
            start.add_(moved.to(start))


@dataclass(frozen=True, slots=True)
class Moves:
    """One vector an image as the records of a sum: a tensor (images, *shape) a parameter."""

    rows: Sequence[Tensor]

    @property
    def count(self) -> int:
        """How many images there are."""
        return len(self.rows[0])

    def gradients(self, chosen: Sequence[int]) -> Iterator[list[Tensor]]:
        """Yield the moves of the images ``chosen``."""
        yield [part[list(chosen)] for part in self.rows]
