"""The gradient of one step of a differentially private training.

    noisy gradient of the owner's images  +  null_weight x null response  +  prior_weight x prior

Law: the last two see the federation's base, the class noun and the templates, and A as it is, which
is noisy already; nothing in them is the owner's (material.py draws their images from the base), so
they are added outside the cut and cost no epsilon. Losses that are shown stay at home.
"""

import math
from dataclasses import dataclass

from ..core.dp_claim import DpClaim
from .attachment import Attachment
from .image_records import ImageRecords
from .noisy_gradient import noisy_gradient
from .passes import Passes
from .per_image import parameters


@dataclass(frozen=True, slots=True)
class DpStep:
    """Makes the gradients of one run, step after step."""

    records: ImageRecords
    passes: Passes
    claim: DpClaim
    attachment: Attachment

    def gradients(self, number: int) -> tuple[float, float, float]:
        """Leave the step's gradient in every parameter; return the three losses of it."""
        settings, told = self.passes.settings, [0.0, 0.0]
        for place, (weight, made) in enumerate(
            ((settings.null_weight, self.passes.null), (settings.prior_weight, self.passes.prior))
        ):
            if weight and (loss := made(number)) is not None:
                (weight * loss).backward()
                told[place] = loss.detach().cpu().item()
        leaves = parameters(self.records.adapter, self.records.tokens)
        self.records.losses.clear()
        with self.attachment.lifted():
            found = noisy_gradient(self.records, self.claim, self.records.draws, leaves)
        for parameter, noisy in zip(leaves, found, strict=True):
            parameter.grad = noisy if parameter.grad is None else parameter.grad + noisy
        return _mean(self.records.losses), told[0], told[1]


def _mean(losses: list[float]) -> float:
    """Return the mean of the losses that are numbers; 0 where none was drawn."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    return sum(finite) / len(finite) if finite else 0.0
