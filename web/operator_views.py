"""What the operator's first page and its lists say, from facts alone.

Law: pure functions to frozen values; every wait has a word, every empty list a next step. Not here:
one contribution's evidence (evidence_views.py), traffic (traffic_views.py).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .operator_facts import (
    BackupFacts,
    HouseFacts,
    InviteFacts,
    JobFacts,
    ScoreFacts,
)
from .public_views import Figure
from .slot_views import KINDS, LEASED, LeaseRow, SlotView, lease_row, slot_view
from .wording import counted, day_text, iso_text, legible, size_text, span_text, time_text

_DAY_S = 86_400
_BACKUP_DAYS = 7
_SOON_DAYS = 30
_KEY = 16
_MANY_SLOTS = 120


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that wants the operator, and where."""

    text: str
    href: str


@dataclass(frozen=True, slots=True)
class JobView:
    """A release or backup that the page started."""

    title: str
    state: str
    kind: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OverviewView:
    """The operator's first page."""

    name: str
    notices: tuple[Notice, ...]
    figures: tuple[Figure, ...]
    slots: tuple[SlotView, ...]
    is_dense: bool
    legend: tuple[tuple[str, str, int], ...]
    leases: tuple[LeaseRow, ...]
    cost: tuple[Figure, ...]
    job: JobView | None


@dataclass(frozen=True, slots=True)
class ContributionRow:
    """One contribution in the list."""

    leaf: int
    concept: str
    triggers: str
    slot: int
    member: str
    state: str
    why: str


@dataclass(frozen=True, slots=True)
class ContributionsView:
    """The queue, then everything else."""

    waiting: tuple[ContributionRow, ...]
    others: tuple[ContributionRow, ...]
    worker: bool


@dataclass(frozen=True, slots=True)
class InviteRow:
    """One invite."""

    key: str
    uses: str
    until: str
    iso: str
    state: str
    is_good: bool
    kind: str
    members: int


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One concept's retention in each release of the matrix; a cell is text and class."""

    concept: str
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MatrixView:
    """Concepts by releases."""

    releases: tuple[int, ...]
    rows: tuple[MatrixRow, ...]
    kept: str
    low: int
    open: int


@dataclass(frozen=True, slots=True)
class PublishView:
    """What a release would hold that the newest does not, and the job."""

    newest: int
    when: str
    accepted: int
    waiting: int
    plan_open: bool
    job: JobView | None
    is_running: bool


@dataclass(frozen=True, slots=True)
class BackupRow:
    """One backup."""

    name: str
    when: str
    leaves: str
    size: str
    is_whole: bool


@dataclass(frozen=True, slots=True)
class BackupsView:
    """Backups below the folder that the settings name."""

    place: str
    rows: tuple[BackupRow, ...]
    last: str
    job: JobView | None
    is_running: bool


def overview(facts: HouseFacts) -> OverviewView:
    """Return the first page."""
    own = [slot for slot in facts.slots if slot.home < 0]
    kinds = Counter(slot.kind for slot in own)
    return OverviewView(
        name=legible(facts.name),
        notices=tuple(_notices(facts)),
        figures=(
            Figure("slots free", f"{kinds['free']:,}", f"of {facts.capacity:,}"),
            Figure("leased now", f"{kinds['leased'] + kinds['revising']:,}"),
            Figure("contributions in", f"{kinds['filled'] + kinds['revising']:,}"),
            Figure("waiting", f"{kinds['quarantined']:,}"),
            Figure("members", f"{facts.members:,}", _revoked(facts.revoked)),
            Figure("ledger", f"{facts.ledger_size:,}", "leaves"),
        ),
        slots=tuple(slot_view(slot) for slot in own),
        is_dense=len(own) > _MANY_SLOTS,
        legend=tuple((kind, text, kinds[kind]) for kind, text in KINDS.items() if kinds[kind]),
        leases=tuple(lease_row(slot) for slot in facts.slots if slot.kind in LEASED),
        cost=_cost(facts, kinds["free"]),
        job=job(facts.job),
    )


def _revoked(number: int) -> str:
    return f"{number} revoked" if number else ""


def _notices(facts: HouseFacts) -> list[Notice]:
    found = list[Notice]()
    waiting = sum(each.state == "quarantined" for each in facts.contributions)
    if waiting:
        found.append(
            Notice(f"{counted(waiting, 'contribution')} in quarantine", "/operator/contributions")
        )
    if facts.plan_open:
        found.append(Notice("A release is planned and not out yet", "/operator/releases"))
    age_s = facts.now - facts.last_backup
    if not facts.last_backup:
        found.append(Notice("No backup was ever made", "/operator/backups"))
    elif age_s > _BACKUP_DAYS * _DAY_S:
        found.append(Notice(f"The last backup is {span_text(age_s)} old", "/operator/backups"))
    for what, until in (
        ("The certificate", facts.certificate_until),
        ("The keyring", facts.keyring_until),
    ):
        left_s = until - facts.now
        if left_s < _SOON_DAYS * _DAY_S:
            found.append(Notice(f"{what} ends in {span_text(left_s)}", "/operator"))
    if facts.free_bytes < 4 * facts.upload_bytes:
        found.append(
            Notice(
                f"Free disk above the reserve: {size_text(max(0, facts.free_bytes))}", "/operator"
            )
        )
    return found


def _cost(facts: HouseFacts, free: int) -> tuple[Figure, ...]:
    kept = sum(slot.kept and slot.kind == "free" for slot in facts.slots)
    fits = max(0, facts.free_bytes) // max(1, facts.upload_bytes + facts.concept_bytes)
    return (
        Figure("upload", size_text(facts.upload_bytes), "by its owner, once"),
        Figure("its own LoRA", size_text(facts.concept_bytes), "more in every later release"),
        Figure("a slot", "1", f"of {free} free, {kept} of them the operator's own"),
        Figure("disk", size_text(max(0, facts.free_bytes)), f"room for {fits:,} more"),
    )


def job(facts: JobFacts | None) -> JobView | None:
    """Return what runs, or ran last."""
    if facts is None:
        return None
    if facts.code is None:
        state, kind = "running", "pending"
    elif facts.code == 0:
        state, kind = "done", "ok"
    else:
        state, kind = f"failed with exit code {facts.code}", "bad"
    title = f"{facts.kind} by {legible(facts.who, 60)}, {time_text(facts.began)}"
    return JobView(title, state, kind, facts.lines)


def contributions(facts: HouseFacts) -> ContributionsView:
    """Return the queue, the oldest first, and the rest, the newest first."""
    rows = [
        ContributionRow(
            leaf=each.leaf,
            concept=legible(each.concept),
            triggers=legible(", ".join(each.triggers)),
            slot=each.slot,
            member=each.member[:_KEY] + (" revoked" if each.is_revoked else ""),
            state=each.state,
            why=legible(each.why, 300),
        )
        for each in facts.contributions
    ]
    waits = ("quarantined", "pending")
    return ContributionsView(
        waiting=tuple(row for row in rows if row.state in waits),
        others=tuple(row for row in reversed(rows) if row.state not in waits),
        worker=facts.policy.worker,
    )


def invites(found: Sequence[InviteFacts], now: int) -> tuple[InviteRow, ...]:
    """Return the list of invites."""
    return tuple(_invite(each, now) for each in found)


def _invite(each: InviteFacts, now: int) -> InviteRow:
    state = "used up" if not each.uses_left else "ended" if each.until <= now else "good"
    return InviteRow(
        key=each.key[:_KEY],
        uses=counted(each.uses_left, "use"),
        until=day_text(each.until),
        iso=iso_text(each.until),
        state=state,
        is_good=state == "good",
        kind="operator's" if each.is_operators else "member's",
        members=each.members,
    )


def matrix(scores: Sequence[ScoreFacts], kept_percent: int) -> MatrixView:
    """Return concepts by releases, the newest release first."""
    releases = sorted({each.release for each in scores}, reverse=True)
    cells = {(each.concept, each.release): each for each in scores}
    rows = [
        MatrixRow(legible(concept, 31), tuple(_cell(cells.get((concept, n))) for n in releases))
        for concept in sorted({each.concept for each in scores})
    ]
    newest = [each for each in scores if releases and each.release == releases[0]]
    return MatrixView(
        releases=tuple(releases),
        rows=tuple(rows),
        kept=f"{kept_percent} %",
        low=sum(each.suffers for each in newest),
        open=sum(each.pictures == 0 for each in newest),
    )


def _cell(score: ScoreFacts | None) -> tuple[str, str]:
    if score is None:
        return "", ""
    if score.pictures == 0:
        return "not measured", "note"
    if score.retention is None:
        return "nothing learnt", "low"
    return f"{score.retention:.2f}" + (" suffers" if score.suffers else ""), (
        "low" if score.suffers else "well"
    )


def publish(facts: HouseFacts) -> PublishView:
    """Return the page that publishes."""
    states = Counter(each.state for each in facts.contributions)
    return PublishView(
        newest=facts.newest_release,
        when=time_text(facts.released) if facts.newest_release else "",
        accepted=states["accepted"],
        waiting=states["quarantined"] + states["pending"],
        plan_open=facts.plan_open,
        job=job(facts.job),
        is_running=facts.job is not None and facts.job.code is None,
    )


def backups(facts: HouseFacts, place: str, found: Sequence[BackupFacts]) -> BackupsView:
    """Return the list of backups."""
    age = f"{span_text(facts.now - facts.last_backup)} ago" if facts.last_backup else "never"
    return BackupsView(
        place=legible(place, 200),
        rows=tuple(
            BackupRow(
                name=each.name,
                when="" if each.leaves is None else time_text(each.t),
                leaves="" if each.leaves is None else f"{each.leaves:,}",
                size="" if each.leaves is None else size_text(each.num_bytes),
                is_whole=each.leaves is not None,
            )
            for each in found
        ),
        last=age,
        job=job(facts.job),
        is_running=facts.job is not None and facts.job.code is None,
    )
