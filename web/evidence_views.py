"""One contribution with all that admission measured of it, from facts alone.

Law: each number stands beside what is allowed, under the name that docs/admission.md gives it, and
what speaks against the contribution is marked by word and not by colour alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ..core.evidence_picture import COLUMNS, ROWS, places, prompt_of
from .charts import Bars, columns, diverging
from .operator_facts import ContributionFacts, PolicyFacts
from .wording import legible

_MOST_PAIRS = 12
_LARGE = 100_000
"""A threshold from here on is a gate that is switched off."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What is measured, under which name, and which threshold it is held to."""

    title: str
    figure: str
    limit: str
    unit: str = " %"
    both: bool = False


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """One gate: what was measured, what is allowed, and whether it passed."""

    gate: str
    measured: str
    allowed: str
    verdict: str
    kind: str


@dataclass(frozen=True, slots=True)
class PairRow:
    """What this one and another do to each other."""

    other: str
    leaf: int
    to_it: str
    from_it: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture, and what it is in words."""

    src: str
    alt: str


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One prompt with its pictures, in the order of the columns."""

    prompt: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class SampleTable:
    """Pictures side by side, all from the same noise."""

    columns: tuple[str, ...]
    rows: tuple[SampleRow, ...]


@dataclass(frozen=True, slots=True)
class EvidenceView:
    """The page of one contribution."""

    leaf: int
    concept: str
    triggers: tuple[str, ...]
    member: str
    slot: int
    state: str
    why: str
    is_revoked: bool
    is_approved: bool
    can_decide: bool
    can_approve: bool
    rows: tuple[EvidenceRow, ...]
    layers: Bars | None
    loudest: str
    pairs: Bars | None
    pair_rows: tuple[PairRow, ...]
    on_base: Bars | None
    worker: bool
    samples: SampleTable | None
    no_samples: str


_GATES = (
    Gate("layer norm, the largest", "norm_percent", "norm_percent"),
    Gate("loudness, beside what is usual", "loudness_percent", "loudness_percent"),
    Gate("learned vectors", "embedding_percent", "embedding_percent"),
    Gate("on others' triggers", "retention_percent", "retention_percent", both=True),
    Gate("others on its trigger", "own_retention_percent", "retention_percent", both=True),
    Gate("likeness with another", "copy_percent", "copy_percent"),
    Gate("neutral prompts, on the base", "neutral_percent", "neutral_percent"),
)


def evidence(
    found: ContributionFacts, policy: PolicyFacts, names: Mapping[int, str]
) -> EvidenceView:
    """Return the page; ``names``: every contribution's concept by its leaf."""
    out = found.state in ("rejected", "withdrawn")
    allowed = policy.limits["retention_percent"]
    ranked = sorted(found.pairs.items(), key=lambda pair: -abs(pair[1][0]))[:_MOST_PAIRS]
    told = [(_name(names, leaf), to_it) for leaf, (to_it, _) in ranked]
    base = sorted(found.on_base.items(), key=lambda pair: -abs(pair[1]))[:_MOST_PAIRS]
    return EvidenceView(
        leaf=found.leaf,
        concept=legible(found.concept),
        triggers=tuple(legible(each) for each in found.triggers),
        member=found.member,
        slot=found.slot,
        state=found.state,
        why=legible(found.why, 1_200),
        is_revoked=found.is_revoked,
        is_approved=found.is_approved,
        can_decide=not out,
        can_approve=not out and not found.is_approved,
        rows=tuple(_row(gate, found, policy) for gate in _GATES if gate.figure in found.figures),
        layers=columns(
            "Norm of each layer, in percent of the base's weight there",
            found.layers,
            limit=float(policy.limits["norm_percent"]),
        )
        if found.layers
        else None,
        loudest=f"{max(found.layers):.3g} %" if found.layers else "",
        pairs=diverging(
            "What it does on other concepts' triggers, in percent of what they do there",
            told,
            low=-allowed,
            high=allowed,
        )
        if told
        else None,
        pair_rows=tuple(
            PairRow(_name(names, leaf), leaf, f"{a:+.1f} %", f"{b:+.1f} %")
            for leaf, (a, b) in ranked
        ),
        on_base=diverging(
            "The same on the base model, by the admission worker",
            [(_name(names, leaf), share) for leaf, share in base],
            low=-policy.limits["interference_percent"],
            high=policy.limits["hijack_percent"],
        )
        if base
        else None,
        worker=policy.worker,
        samples=_samples(found, policy.prompt),
        no_samples="" if found.pictures else _why_none(found, policy),
    )


def _samples(found: ContributionFacts, asked: str) -> SampleTable | None:
    """Return the pictures that are there, by prompt and by what drew them."""
    there = [each for each in places(has_release=True) if each.name in found.pictures]
    if not there:
        return None
    columns = tuple(each for each in COLUMNS if any(place.column == each for place in there))
    words = {**COLUMNS, "without": f"release {found.drawn_with} without it"}
    words["with"] = f"release {found.drawn_with} with it" if found.drawn_with else "with it"
    rows = list[SampleRow]()
    for row in ROWS:
        prompt = legible(prompt_of(row, asked, found.triggers))
        rows.append(
            SampleRow(
                prompt,
                tuple(
                    Sample(
                        f"/operator/contributions/{found.leaf}/pictures/{place.name}.png",
                        f"“{prompt}”, {words[place.column]}",
                    )
                    for place in there
                    if place.row == row
                ),
            )
        )
    return SampleTable(tuple(words[each] for each in columns), tuple(rows))


def _why_none(found: ContributionFacts, policy: PolicyFacts) -> str:
    """Say why there are no pictures, and what would make some."""
    if not policy.pictures:
        return "Pictures of what waits are switched off: pictures = false in [admission]."
    if found.state != "quarantined":
        return (
            "Pictures are drawn of what is in quarantine. What another concept draws is seen in"
            " the release that holds it."
        )
    return "Not drawn yet: orthofed admit does, on any machine that has this folder and torch."


def _name(names: Mapping[int, str], leaf: int) -> str:
    return legible(names.get(leaf, f"contribution {leaf}"), 31)


def _row(gate: Gate, found: ContributionFacts, policy: PolicyFacts) -> EvidenceRow:
    value, limit = found.figures[gate.figure], policy.limits[gate.limit]
    is_off = limit >= _LARGE
    passed = is_off or (abs(value) if gate.both else value) <= limit
    if gate.figure == "copy_percent":
        passed = is_off or value < limit
    bound = f"±{limit}" if gate.both else f"{limit}"
    verdict = "not looked at" if is_off else "passed" if passed else "beyond"
    return EvidenceRow(
        gate=gate.title,
        measured=f"{value:g}{gate.unit}",
        allowed="off" if is_off else f"{bound}{gate.unit}",
        verdict=verdict,
        kind="note" if is_off else "ok" if passed else "bad",
    )
