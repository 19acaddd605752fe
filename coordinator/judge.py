"""Whether a sound contribution goes into the next release or waits for the operator.

Law: it decides on numbers that were measured from bytes whose hash is checked, and on the policy;
every finding says what was measured, what is allowed, and what its contributor can do. Nothing is
lost by a quarantine: stored, receipted, in the ledger, in no release until the operator says so.
Source: security.md 8. Not here: what is refused outright (admission.py), writing it down
(verdicts.py), what many do together (together.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..core.leaf import Verdict
from .admission import Sizes
from .neighbours import Neighbour
from .policy import Policy

_MOST_WHY = 1_000  # characters; the wire takes 1,024


@dataclass(frozen=True, slots=True)
class Finding:
    """One gate that a contribution did not pass: its code and a sentence for its contributor."""

    code: str
    why: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What admission says of one contribution."""

    figures: dict[str, object]
    findings: tuple[Finding, ...] = field(default=())

    @property
    def state(self) -> Literal["accepted", "quarantined"]:
        """Where the contribution stands."""
        return "quarantined" if self.findings else "accepted"

    @property
    def verdict(self) -> Verdict:
        """What the ledger says."""
        return self.state

    @property
    def code(self) -> str:
        """The ledger's reason: that of the first finding."""
        return self.findings[0].code if self.findings else "measured"

    @property
    def why(self) -> str:
        """The contributor's reason: every finding."""
        return "; ".join(finding.why for finding in self.findings)[:_MOST_WHY]


def judge(
    sizes: Sizes, others: Sequence[Neighbour], policy: Policy, *, is_first: bool
) -> Judgement:
    """Return the judgement; ``is_first``: its member has no accepted contribution yet."""
    accepted = [other for other in others if other.state == "accepted"]
    live = [other for other in others if other.state != "rejected"]
    findings = [
        *_of_sizes(sizes, policy),
        *(f for other in others for f in _of_likeness(other, policy)),
        *(f for other in accepted for f in _of_retention(other, policy)),
        *_of_sum(accepted, policy),
    ]
    if is_first and policy.approve_first:
        findings.append(
            Finding("first", "a member's first contribution waits for the operator's approval")
        )
    figures: dict[str, object] = {
        "norm_percent": sizes.norm_percent,
        "embedding_percent": sizes.embedding_percent,
        "retention_percent": max((x.to_it for x in accepted), key=abs, default=0.0),
        "own_retention_percent": max((x.from_it for x in accepted), key=abs, default=0.0),
        "copy_percent": max((x.alike for x in others), default=0.0),
        "layers": list(sizes.layers),
        "pairs": {str(x.leaf): [x.to_it, x.from_it] for x in live if x.is_heard},
    }
    return Judgement(figures, tuple(findings))


def _of_sizes(sizes: Sizes, policy: Policy) -> Iterator[Finding]:
    if sizes.embedding_percent > policy.embedding_percent:
        yield Finding(
            "embedding",
            f"a learned vector is {sizes.embedding_percent:.0f} % as long as the longest word of"
            f" the base model, allowed are {policy.embedding_percent} %: train with a smaller"
            " token_rate",
        )


def _of_likeness(other: Neighbour, policy: Policy) -> Iterator[Finding]:
    if other.alike >= policy.copy_percent:
        yield Finding(
            "copy",
            f"it is {other.alike:.0f} % the same as {other.concept} (contribution {other.leaf}),"
            f" {policy.copy_percent} % counts as a copy: teach from images of your own",
        )


def _of_retention(other: Neighbour, policy: Policy) -> Iterator[Finding]:
    bound = policy.retention_percent
    if abs(other.to_it) > bound:  # T14
        yield Finding(
            "retention",
            f"on the trigger of {other.concept} it does {other.to_it:+.0f} % of what that concept"
            f" does there (below 0: it cancels), allowed are {bound} %: train with a smaller rate,"
            " or more strangers",
        )
    if abs(other.from_it) > bound:
        yield Finding(
            "retention-own",
            f"{other.concept}, which was there before, does {other.from_it:+.0f} % of what this"
            f" concept does on its own trigger, allowed are {bound} %: teach it with more steps",
        )


def _of_sum(accepted: Sequence[Neighbour], policy: Policy) -> Iterator[Finding]:
    total, bound = sum(other.from_it for other in accepted), policy.retention_sum_percent
    if abs(total) > bound:
        yield Finding(
            "retention-sum",
            f"all others together do {total:+.0f} % of what this concept does on its own trigger,"
            f" allowed are {bound} %: teach it with more steps",
        )
