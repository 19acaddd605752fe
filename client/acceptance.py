"""The owner's own look at a contribution before it leaves: what was learnt, what a merge keeps.

    L_base, L_single    the base and the packed contribution alone
    L_merged            the newest release with the contribution added, at the spec's lambda

All on the concept's held-out images, with the same draws (score.py). The figures stay at home. Law:
the integers that will be sent are scored, not the floats they came from. Source: design.md 8, "the
flow"; product.md 5. Cost: three times the forward passes of one score. Not here: fetching the
release (pull.py) and its trust (trust.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.metrics import retention
from ..core.quantise import Quantised
from ..core.spec import FederationSpec
from .score import Scorer, phrase_of
from .tokens import Trigger
from .variant import Variant


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The three losses; ``loss_merged`` is None before the first release."""

    loss_base: float
    loss_single: float
    loss_merged: float | None

    @property
    def retention(self) -> float | None:
        """The share of the gain that the merge keeps, None without a release."""
        if self.loss_merged is None:
            return None
        return retention(self.loss_base, self.loss_single, self.loss_merged)


def acceptance(
    scorer: Scorer,
    spec: FederationSpec,
    slot: int,
    triggers: Sequence[Trigger],
    noun: str,
    tensors: Mapping[str, Quantised],
    *,
    newest: Path | None,
) -> Acceptance:
    """Score one packed contribution; ``newest`` is the folder of a trusted release."""
    phrase = phrase_of(triggers)
    lambda_ = spec.lambda_1024 / 1024
    single = Variant.of_contribution(spec, slot, triggers, tensors)
    loss_merged = None
    if newest is not None:
        own = Variant.of_contribution(spec, slot, triggers, tensors, lambda_=lambda_)
        others = Variant.of_release(newest, spec, lambda_=lambda_)
        loss_merged = scorer.loss(Variant.sum_of([others, own]), phrase)
    return Acceptance(scorer.base_loss(noun), scorer.loss(single, phrase), loss_merged)
