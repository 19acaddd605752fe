"""What admission allows: the operator's thresholds, in the table ``[admission]`` of the settings.

They are in no spec, so an operator may tighten them between starts; what was accepted stays so. The
defaults were fitted on the base that ships (benchmarks/admission.py, docs/log.md). Every number is
a percentage, that of the probes in thousandths, so that the file holds no fraction. Source:
security.md 8. Not here: the measuring (admission.py, neighbours.py, the package admission), what
follows from it (judge.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ..core.bounds import MOST, Bounds, full_house

_TOLD = Bounds()


@dataclass(frozen=True, slots=True)
class Policy:
    """The thresholds; each is met up to and including its number.

    ``norm_percent``: spectral norm of a layer's A over that of W. ``loudness_percent``: the norms
    of all layers over those usual among the accepted (core/loudness.py). ``embedding_percent``: a
    learned vector's length over that of the longest in the base's vocabulary.
    ``retention_percent``: what one may change of what another one does on its own trigger,
    ``retention_sum_percent``: what all others together may. ``copy_percent``: the cosine of both A,
    or of both vectors, from which on two are one. ``budget_percent``: the bound of the merged
    residual of a layer, over W; 0 is what a full house at the norm cap has, so that only a larger
    lambda is held. ``approve_first``: whether a member's first contribution waits for the
    operator's word.

    ``kept_percent``: the retention, by its owner's own figures, under which the operator is told
    that a concept suffers in a release (retention.py); nothing follows from it by itself.

    ``worker``: whether a contribution stays pending until the admission worker has measured it on
    the base. ``neutral_percent``: what it may change, by the worker's numbers, of answers to
    prompts that name no concept. ``interference_percent``: what it may take away from what another
    one does on its own trigger. ``hijack_percent``: what it may add there. ``probe_permille``: the
    least cosine of a shipped probe with the true one. ``pictures``: whether the worker draws what
    is in quarantine, for the operator's page alone (evidence.py).
    """

    norm_percent: int = _TOLD.norm_percent
    loudness_percent: int = 250
    embedding_percent: int = _TOLD.embedding_percent
    retention_percent: int = 25
    retention_sum_percent: int = 50
    copy_percent: int = 80
    budget_percent: int = 0
    approve_first: bool = False
    kept_percent: int = 70
    worker: bool = False
    neutral_percent: int = 3
    interference_percent: int = 50
    hijack_percent: int = 100
    probe_permille: int = 999
    pictures: bool = True

    @classmethod
    def read(cls, table: Mapping[str, object]) -> "Policy":
        """Return the policy of a TOML table. Raises ValueError: what is wrong, for a person."""
        known = {field.name: type(field.default) for field in fields(cls)}
        for key, value in table.items():
            if key not in known:
                raise ValueError(f"unknown key admission.{key}")
            if type(value) is not known[key]:
                raise ValueError(f"admission.{key} is {_KINDS[known[key]]}")
            least = 0 if key == "budget_percent" else 1
            if type(value) is int and not least <= value <= MOST:
                raise ValueError(f"admission.{key} = {value}, it is {least} to {MOST}")
        return cls(**dict(table))  # pyright: ignore[reportArgumentType]  # each was just checked

    def bounds(self, num_slots: int, epochs: int = 1) -> Bounds:
        """Return what owners may know; ``num_slots``: the federation's, of all ``epochs``."""
        budget = self.budget_percent or full_house(self.norm_percent, num_slots, epochs)
        return Bounds(self.norm_percent, self.embedding_percent, budget)

    def to_toml(self) -> str:
        """Return the table as the settings file holds it, last."""
        lines = [
            "# What a contribution may do, in hundredths; docs/admission.md says what each means.",
            "[admission]",
        ]
        for field in fields(self):
            value = getattr(self, field.name)
            lines.append(f"{field.name} = {str(value).lower()}")
        return "\n".join([*lines, ""])


_KINDS: Mapping[type, str] = {int: f"a number up to {MOST}", bool: "true or false"}
