"""What the operator's pages know at one moment, as frozen values.

Law: read from the desk and the committed slots, never kept, so a page is as true as the commands.
Times are Unix seconds where a day is meant and seconds of a clock where something runs out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..core.spec import PROMPT

Kind = Literal["free", "leased", "filled", "revising", "emptying", "quarantined"]


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """One slot; ``kind`` tells a contribution that waits from one that counts.

    ``left_s`` is what a lease has until it can be given away, ``progress`` what its client reported
    last (-1: nothing yet) of ``total`` (0: it did not say); they mean nothing in other kinds.
    ``kept``: for the operator's own. ``home``: of a seat, the slot whose concept it teaches too; -1
    for a slot. ``owners``: how many have a part in what a slot holds.
    """

    index: int
    kind: Kind
    kept: bool
    concept: str = ""
    member: str = ""
    fence: int = 0
    left_s: float = 0.0
    held_s: int = 0
    progress: int = -1
    total: int = 0
    is_uploading: bool = False
    leaf: int | None = None
    home: int = -1
    owners: int = 0


@dataclass(frozen=True, slots=True)
class ContributionFacts:
    """One contribution as admission judged it.

    ``figures``: numbers by name, as they were measured; ``layers``: the norm of each layer in
    percent; ``pairs``: what it does on another's trigger, and that one on its own, in percent by
    the other's leaf; ``on_base``: the same on the base model, where the worker measured it.
    ``pictures``: names of those that the worker drew; ``drawn_with``: the release beside them.
    """

    leaf: int
    slot: int
    concept: str
    triggers: tuple[str, ...]
    member: str
    is_revoked: bool
    state: str
    why: str
    is_approved: bool
    figures: Mapping[str, float]
    layers: tuple[float, ...]
    pairs: Mapping[int, tuple[float, float]]
    on_base: Mapping[int, float]
    pictures: tuple[str, ...] = ()
    drawn_with: int = 0


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """The thresholds in force, by their names in ``[admission]``; by which prompt is drawn."""

    limits: Mapping[str, int]
    kept_percent: int
    worker: bool
    pictures: bool = True
    prompt: str = PROMPT


@dataclass(frozen=True, slots=True)
class InviteFacts:
    """One invite: the first digits of its public key, how often it can still be used."""

    key: str
    uses_left: int
    until: int
    is_operators: bool
    members: int


@dataclass(frozen=True, slots=True)
class BackupFacts:
    """One folder below the backups' folder; ``leaves`` is None where it is not whole."""

    name: str
    t: int
    leaves: int | None
    num_bytes: int


@dataclass(frozen=True, slots=True)
class ScoreFacts:
    """What one concept's owner measured of it in one release; ``retention`` None: not measured."""

    concept: str
    leaf: int
    release: int
    retention: float | None
    suffers: bool
    pictures: int


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A release or a backup that the page started: who, when, and what it said last.

    ``code``: the exit code, None while it runs.
    """

    kind: str
    who: str
    began: int
    lines: tuple[str, ...] = field(default=())
    code: int | None = None


@dataclass(frozen=True, slots=True)
class HouseFacts:
    """The house as a whole."""

    name: str
    folder: str
    now: int
    capacity: int
    kept_for_operator: int
    slots: tuple[SlotFacts, ...]
    contributions: tuple[ContributionFacts, ...]
    members: int
    revoked: int
    ledger_size: int
    newest_release: int
    released: int
    plan_open: bool
    free_bytes: int
    upload_bytes: int
    concept_bytes: int
    last_backup: int
    certificate_until: int
    keyring_until: int
    policy: PolicyFacts
    job: JobFacts | None
