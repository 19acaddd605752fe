# pyright: basic
# torch and diffusers publish partial types.
"""What one contribution does to the base: on neutral prompts, on others' triggers, to its probes.

    probes      smallest cosine of a shipped probe and the one computed here
    neutral     ||eps_j - eps_0|| / ||eps_0||                   on prompts that name no concept
    to_it       <eps_ij - eps_i, eps_i - eps_0> / max(||eps_i - eps_0||^2, floor)
                                                                on the trigger of i

eps is the denoiser's answer on the way from noise to an image: of the base with the trigger's
vectors (0), with i's residuals (i), with both residuals at the spec's lambda (ij). -1: j takes away
what i learnt. The floor is that of core/crosstalk.py, by these lengths: beside one that is all but
silent nobody looks loud. All layers count, those of the text encoders too, at every position of the
prompt, so what hides from the gate on probes (core/crosstalk.py) is seen here. Everything is on
fixed states from a seed, hence the same numbers again. Source: security.md 8, method.md 6. Cost:
`_IMAGES` x `_STEPS` forward passes for each number. Not here: thresholds (coordinator/judge.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ..client.base import Base
from ..client.captions import PLACE, TEMPLATES
from ..client.planned_states import PlannedStates
from ..client.score import phrase_of
from ..client.tokens import LearnedTokens
from ..client.trigger import Trigger
from ..client.variant import Variant
from ..core.crosstalk import floor_of
from ..core.quantise import Quantised, dequantise
from ..core.spec import FederationSpec

NEUTRAL: Final = (
    *("a picture of a person", "a portrait of a woman", "an image of a man", "a dog in a garden"),
    *("a house by the sea", "a red car", "a drawing of a tree", "food on a table"),
)
"""Prompts that name no concept; public, and the same for everybody."""
_IMAGES: Final = 8
_STEPS: Final = 6
_BATCH: Final = 16


@dataclass(frozen=True, slots=True)
class Subject:
    """One contribution as it lies in the coordinator's folder."""

    leaf: int
    slot: int
    triggers: tuple[Trigger, ...]
    tensors: Mapping[str, Quantised]


class Measurer:
    """Measures contributions of one federation on its base."""

    def __init__(self, base: Base, spec: FederationSpec) -> None:
        """Walk the states once, with nothing added."""
        self._base, self._spec = base, spec
        plain = LearnedTokens.of(base, {}, layers=spec.token_layers)
        with plain.attached():
            plan = PlannedStates.sampled(
                base, plain.encode, NEUTRAL, count=_IMAGES, steps=_STEPS, seed=0
            )
            rows = list(plan.chunks())
        self._plan = plan
        self._noisy = torch.cat([row["noisy"] for row in rows])
        self._answers = torch.cat([row["answers"] for row in rows])
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def probes(self, subject: Subject) -> float:
        """Return the smallest cosine of a shipped probe with the true one."""
        with self._single(subject).applied(self._base) as tokens, torch.no_grad():
            true = tokens.probes(TEMPLATES)
        worst = 1.0
        for k, features in true.items():
            shipped = dequantise(subject.tensors[f"probe.{k}"]).astype(np.float64)
            sizes = np.linalg.norm(features, axis=1) * np.linalg.norm(shipped, axis=1)
            both = np.einsum("pm,pm->p", features, shipped)
            worst = min(worst, float(np.min(both / np.maximum(sizes, 1e-30))))
        return worst

    def neutral(self, subject: Subject) -> float:
        """Return how much it changes answers to prompts that name no concept, in hundredths."""
        answers = self._ask(self._single(subject), list(self._plan.prompts))
        change = torch.linalg.vector_norm(answers - self._answers)
        return 100 * float(change / torch.linalg.vector_norm(self._answers))

    def floor(self, usual: Sequence[Subject]) -> float:
        """Return the least that a share is taken of, where those are the usual ones."""
        owns = (self._alone(subject)[1] for subject in usual)
        return floor_of([own.reshape(1, -1).numpy() for own in owns])

    def to_it(self, subject: Subject, victim: Subject, *, floor: float = 0.0) -> float:
        """Return the share of what ``victim`` does on its trigger, in hundredths; -100 cancels."""
        alone, own = self._alone(victim)
        both = Variant.sum_of([self._single(victim), self._single(subject)])
        change = self._ask(both, self._prompts(victim)) - alone
        size = max(float((own * own).sum()), floor)
        return 100 * float((change * own).sum()) / size if size else 0.0

    def _alone(self, subject: Subject) -> tuple[Tensor, Tensor]:
        """Return the answers on its trigger, and what its residuals do to them."""
        if subject.leaf not in self._kept:
            prompts, single = self._prompts(subject), self._single(subject)
            none = Variant(vectors=single.vectors, token_layers=self._spec.token_layers)
            alone = self._ask(single, prompts)
            self._kept[subject.leaf] = alone, alone - self._ask(none, prompts)
        return self._kept[subject.leaf]

    def _prompts(self, subject: Subject) -> list[str]:
        phrase = phrase_of(subject.triggers)
        return [
            TEMPLATES[n % len(TEMPLATES)].replace(PLACE, phrase) for n in range(len(self._noisy))
        ]

    def _single(self, subject: Subject) -> Variant:
        lambda_ = self._spec.lambda_1024 / 1024
        return Variant.of_contribution(
            self._spec, subject.slot, subject.triggers, subject.tensors, lambda_=lambda_
        )

    @torch.no_grad()
    def _ask(self, variant: Variant, prompts: Sequence[str]) -> Tensor:
        """Return the answers on all states."""
        found = []
        with variant.applied(self._base) as tokens:
            for at in range(0, len(prompts), _BATCH):
                part = slice(at, at + _BATCH)
                conditions = tokens.encode(prompts[part], self._plan.framings[part])
                times = self._plan.timesteps[part]
                found.append(self._base.predict(self._noisy[part], times, conditions).cpu())
        return torch.cat(found).double()
