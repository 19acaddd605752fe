"""Whether a sound contribution goes into the next release or waits for the operator.

Law: it decides on numbers that were measured from bytes whose hash is checked, and on the policy;
every finding says what was measured, what is allowed, and what its contributor can do. Nothing is
lost by a quarantine: stored, receipted, in the ledger, in no release until the operator says so.
Source: security.md 8. Not here: what is refused outright (admission.py), writing it down
(verdicts.py), what many do together (together.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from ..core.bounds import Bounds
from ..core.leaf import Verdict
from ..core.loudness import loudness_percent
from ..core.sizes import Sizes, long_vector
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

    is_final: bool = True

    @property
    def verdict(self) -> Verdict:
        """What the ledger says, unless the contribution is simply accepted."""
        if self.findings:
            return "quarantined"
        return "accepted" if self.is_final else "pending"

    @property
    def code(self) -> str:
        """The ledger's reason: that of the first finding."""
        return self.findings[0].code if self.findings else "worker"

    @property
    def why(self) -> str:
        """The contributor's reason: every finding."""
        if not self.findings:
            return "it waits until what it does to the base model is measured"
        return "; ".join(finding.why for finding in self.findings)[:_MOST_WHY]


@dataclass(frozen=True, slots=True)
class Measured:
    """What the admission worker found of one contribution on the base itself.

    ``on``: of what each other one does on its trigger, the share that this one adds there;
    negative takes away. The other two as in policy.py.
    """

    probe_cosine: float
    neutral_percent: float
    on: Mapping[int, float]

    @property
    def worst(self) -> float:
        """The share farthest from 0."""
        return max(self.on.values(), key=abs, default=0.0)


def judge(
    sizes: Sizes,
    others: Sequence[Neighbour],
    policy: Policy,
    *,
    usual: Sequence[Sequence[float]],
    is_first: bool,
) -> Judgement:
    """Return the judgement.

    ``usual``: the norms of each layer of accepted ones. ``is_first``: its member has none.
    """
    loudness = loudness_percent(sizes.layers, usual)
    accepted = [other for other in others if other.state == "accepted"]
    live = [other for other in others if other.state not in ("rejected", "superseded")]
    findings = [
        *_of_sizes(sizes, policy),
        *judge_loudness(loudness, policy),
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
        "loudness_percent": loudness,
        "embedding_percent": sizes.embedding_percent,
        "retention_percent": max((x.to_it for x in accepted), key=abs, default=0.0),
        "own_retention_percent": max((x.from_it for x in accepted), key=abs, default=0.0),
        "copy_percent": max((x.alike for x in others), default=0.0),
        "layers": list(sizes.layers),
        "pairs": {str(x.leaf): [x.to_it, x.from_it] for x in live if x.is_heard},
    }
    return Judgement(figures, tuple(findings), is_final=not policy.worker)


def judge_measured(measured: Measured, policy: Policy) -> tuple[Finding, ...]:
    """Return what the worker's numbers speak against."""
    return tuple(
        chain(
            _of_probes(measured, policy),
            _of_neutral(measured, policy),
            _of_interference(measured, policy),
        )
    )


def judge_pairs(pairs: Mapping[int, tuple[float, float]], policy: Policy) -> tuple[Finding, ...]:
    """Return what speaks against one beside those that were accepted after it had come."""
    others = [
        Neighbour(leaf, f"contribution {leaf}", "accepted", to_it, from_it, 0.0)
        for leaf, (to_it, from_it) in pairs.items()
    ]
    found = (f for other in others for f in _of_retention(other, policy))
    return tuple(chain(found, _of_sum(others, policy)))


def judge_loudness(percent: float, policy: Policy) -> Iterator[Finding]:
    """Say what speaks against one that is louder than the others (T12)."""
    if percent > policy.loudness_percent:
        yield Finding(
            "norm-outlier",
            f"over its layers, the norm of A is {percent:.0f} % of what is usual among accepted"
            f" contributions, allowed are {policy.loudness_percent} %: train with a smaller rate or"
            " fewer steps",
        )


def _of_probes(measured: Measured, policy: Policy) -> Iterator[Finding]:
    if measured.probe_cosine * 1000 < policy.probe_permille:
        yield Finding(
            "probe",
            f"a probe has cosine {measured.probe_cosine:.4f} with the trigger's true features,"
            f" at least {policy.probe_permille / 1000:g} is asked: pack the contribution with an"
            " unchanged orthofed",
        )


def _of_neutral(measured: Measured, policy: Policy) -> Iterator[Finding]:
    if not measured.neutral_percent <= policy.neutral_percent:  # T13; NaN is too much as well
        yield Finding(
            "interference",
            f"it changes answers to prompts that name no concept by"
            f" {measured.neutral_percent:.1f} %, allowed are {policy.neutral_percent} %: train"
            " with a larger null_weight or a smaller rate",
        )


def _of_interference(measured: Measured, policy: Policy) -> Iterator[Finding]:
    for leaf, share in measured.on.items():
        if not -policy.interference_percent <= share <= policy.hijack_percent:  # T14
            yield Finding(
                "interference",
                f"on the base model, on the trigger of contribution {leaf}, it adds {share:+.0f} %"
                f" of what that concept does there, allowed are -{policy.interference_percent} to"
                f" {policy.hijack_percent} %: train with a smaller rate, or more strangers",
            )


def _of_sizes(sizes: Sizes, policy: Policy) -> Iterator[Finding]:
    if why := long_vector(sizes, Bounds(embedding_percent=policy.embedding_percent)):
        yield Finding("embedding", why)


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
            f"on this concept's own trigger {other.concept}, which was there before, does"
            f" {other.from_it:+.0f} % of what it does itself, allowed are {bound} %: it is weak"
            " beside that one; withdraw it and teach it with more steps",
        )


def _of_sum(accepted: Sequence[Neighbour], policy: Policy) -> Iterator[Finding]:
    total, bound = sum(other.from_it for other in accepted), policy.retention_sum_percent
    if abs(total) > bound:
        yield Finding(
            "retention-sum",
            f"all others together do {total:+.0f} % of what this concept does on its own trigger,"
            f" allowed are {bound} %: teach it with more steps",
        )
