"""The owner's own look at a contribution before it leaves: what was learnt, what a merge keeps.

    L_base, L_single    the base and the packed contribution alone
    L_merged            the newest release with the contribution added, at the spec's lambda
    memorisation        how much of L_single's gain is on the training images alone

The losses on the concept's held-out images, with the same draws (score.py). All figures stay at
home. Law: the integers that will be sent are scored, not the floats they came from. Source:
design.md 8, "the flow"; product.md 5. Cost: three times the forward passes of one score, and those
of memorisation.py. Not here: fetching the release (pull.py) and its trust (trust.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.metrics import retention
from ..core.quantise import Quantised
from ..core.spec import FederationSpec
from .captioned import Captioned
from .memorisation import Memorisation, memorisation
from .score import NUM_DRAWS, Scorer, phrase_of
from .trigger import Trigger
from .variant import Variant


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Three losses and what was learnt by heart; ``loss_merged``: None before the first release."""

    loss_base: float
    loss_single: float
    loss_merged: float | None
    memorisation: Memorisation

    @property
    def retention(self) -> float | None:
        """The share of the gain that the merge keeps, None without a release."""
        if self.loss_merged is None:
            return None
        return retention(self.loss_base, self.loss_single, self.loss_merged)


def acceptance(  # noqa: PLR0913  # the parts of one score; a record would only rename them
    scorer: Scorer,
    spec: FederationSpec,
    slot: int,
    triggers: Sequence[Trigger],
    noun: str,
    tensors: Mapping[str, Quantised],
    *,
    newest: Path | None,
    without: str | None = None,
    trained_on: Sequence[Captioned],
    num_draws: int = NUM_DRAWS,
) -> Acceptance:
    """Score one packed contribution; ``newest`` is the folder of a trusted release.

    ``without``: the concept of it whose place the contribution takes, after a corrective round.

    ``trained_on``: the training images, of which ``num_draws`` are scored.
    """
    phrase = phrase_of(triggers)
    lambda_ = spec.lambda_1024 / 1024
    single = Variant.of_contribution(spec, slot, triggers, tensors)
    loss_merged = None
    if newest is not None:
        own = Variant.of_contribution(spec, slot, triggers, tensors, lambda_=lambda_)
        others = Variant.of_release(newest, spec, lambda_=lambda_, without=without)
        loss_merged = scorer.loss(Variant.sum_of([others, own]), phrase)
    losses = scorer.base_loss(noun), scorer.loss(single, phrase)
    memory = memorisation(
        scorer.base,
        trained_on,
        single,
        phrase=phrase,
        noun=noun,
        held_out=losses,
        num_draws=num_draws,
    )
    return Acceptance(*losses, loss_merged, memory)
