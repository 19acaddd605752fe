"""Whether a sound contribution goes into the next release or waits for the operator.

Law: it decides on numbers that were measured from bytes whose hash is checked, and on the policy;
every finding says what was measured, what is allowed, and what its contributor can do. Nothing is
lost by a quarantine: stored, receipted, in the ledger, in no release until the operator says so.
Source: security.md 8. Not here: what is refused outright (admission.py), writing it down
(verdicts.py).
"""

from dataclasses import dataclass, field
from typing import Literal

from ..core.leaf import Verdict
from .admission import Sizes
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


def judge(sizes: Sizes, policy: Policy, *, is_first: bool) -> Judgement:
    """Return the judgement; ``is_first``: its member has no accepted contribution yet."""
    findings = []
    if sizes.embedding_percent > policy.embedding_percent:
        findings.append(
            Finding(
                "embedding",
                f"a learned vector is {sizes.embedding_percent:.0f} % as long as the longest word"
                f" of the base model, allowed are {policy.embedding_percent} %: train with a"
                " smaller token_rate",
            )
        )
    if is_first and policy.approve_first:
        findings.append(
            Finding("first", "a member's first contribution waits for the operator's approval")
        )
    figures: dict[str, object] = {
        "norm_percent": sizes.norm_percent,
        "embedding_percent": sizes.embedding_percent,
    }
    return Judgement(figures, tuple(findings))
