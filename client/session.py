"""Decides what a client does next for one concept; it reads no file, clock or network.

    joined -> leased -> trained -> packed -> approved -> receipted
       ^        ^                     |          |   the bytes are refused: train anew
       |________|__________|__________|__________|   the lease is gone: a new request starts over

    receipted -> withdrawing -> withdrawn    by the owner's word; a new training starts from joined

`step(session, event) -> (session, actions)`: train_command.py carries the actions out and reports
what came of them as the next event; state.py keeps the session between processes. Laws:
the same request id asks for the same lease (so a kill between grant and save costs nothing);
what is packed is never quantised again; what was not approved is never sent;
the training saves go only after the receipt is kept; a withdrawal is signed once, and every retry
sends those bytes. Source: reliability.md 5.
"""

from dataclasses import dataclass, replace
from typing import Literal

from .trigger import Trigger

Phase = Literal[
    "joined",
    "leased",
    "trained",
    "packed",
    "approved",
    "receipted",
    "withdrawing",
    "withdrawn",
]


@dataclass(frozen=True, slots=True)
class Session:
    """Where one concept stands.

    Hashes are lower-case hex. ``slot`` is -1 before the lease.
    """

    concept: str
    triggers: tuple[str, ...]
    vectors: tuple[int, ...]  # learned vectors of each trigger
    noun: str  # the class word: what the concept is one of
    request: str  # 16 random bytes as hex: names the lease request
    counter: int  # of the client key
    phase: Phase = "joined"
    slot: int = -1
    fence: int = 0
    ttl_s: int = 0
    hold_s: int = 0
    blob: str = ""
    document: str = ""
    receipt: str = ""
    why: str = ""
    withdrawal: str = ""  # of the signed withdrawal
    withdrawal_receipt: str = ""
    epoch: int = 0  # of the master that the client key is derived from
    replaces: int = -1  # of a corrective round: the contribution that it goes on from
    release: int = 0  # of a corrective round: the one that it is trained against
    home: int = -1  # of another owner's concept: the slot whose block is trained against
    share: str = ""  # by whose word: the text of the share, a secret

    def as_triggers(self) -> list[Trigger]:
        """Return the triggers as training takes them, each with its number of vectors."""
        return [Trigger(*pair) for pair in zip(self.triggers, self.vectors, strict=True)]

    @property
    def block(self) -> int:
        """The slot whose block is trained against; -1 before the lease."""
        return self.slot if self.home < 0 else self.home


@dataclass(frozen=True, slots=True)
class Opened:
    """The command was started, for the first time or again."""


@dataclass(frozen=True, slots=True)
class Granted:
    """The coordinator leased a slot."""

    slot: int
    fence: int
    ttl_s: int
    hold_s: int


@dataclass(frozen=True, slots=True)
class Trained:
    """Training came to its end and its result is saved."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Blob and signed manifest are on the disk; SHA-256 of each."""

    blob: str
    document: str


@dataclass(frozen=True, slots=True)
class Approved:
    """The owner saw what leaves and said yes."""


@dataclass(frozen=True, slots=True)
class Received:
    """The receipt was verified and saved; its SHA-256."""

    receipt: str


@dataclass(frozen=True, slots=True)
class LeaseGone:
    """The slot is no longer ours; the next lease needs a request id and a client key of its own."""

    why: str
    request: str
    counter: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """The packed bytes are refused for good, here or there; the lease is still ours."""

    why: str


@dataclass(frozen=True, slots=True)
class Asked:
    """The owner wants the contribution out; the signed withdrawal is on the disk, its SHA-256."""

    withdrawal: str


@dataclass(frozen=True, slots=True)
class Left:
    """The receipt of the withdrawal was verified and saved; its SHA-256."""

    receipt: str


Event = (
    Opened | Granted | Trained | Packed | Approved | Received | LeaseGone | Rejected | Asked | Left
)


@dataclass(frozen=True, slots=True)
class AskLease:
    """Lease a slot with the session's request id."""


@dataclass(frozen=True, slots=True)
class Train:
    """Train in the leased slot, from the last save if there is one."""


@dataclass(frozen=True, slots=True)
class Pack:
    """Quantise once, write the blob, sign the manifest."""


@dataclass(frozen=True, slots=True)
class ShowEgress:
    """Show every byte that is about to leave, and ask."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Send the approved bytes until the receipt is here."""


@dataclass(frozen=True, slots=True)
class SendWithdrawal:
    """Send the signed withdrawal until its receipt is here."""


@dataclass(frozen=True, slots=True)
class ForgetTraining:
    """Remove the training saves: the receipt is kept."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """Keep the work that came to nothing, out of the new one's way; it was for ``slot``."""

    slot: int
    fence: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Tell the owner what happened and what to do."""


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to do: the receipt is here."""


Action = (
    AskLease
    | Train
    | Pack
    | ShowEgress
    | Upload
    | SendWithdrawal
    | ForgetTraining
    | SetAside
    | Stop
    | Done
)

_NEXT: dict[Phase, tuple[Action, ...]] = {
    "joined": (AskLease(),),
    "leased": (Train(),),
    "trained": (Pack(),),
    "packed": (ShowEgress(),),
    "approved": (Upload(),),
    "receipted": (ForgetTraining(), Done()),
    "withdrawing": (SendWithdrawal(),),
    "withdrawn": (SendWithdrawal(),),  # a coordinator that lost it hears it again
}


def step(  # noqa: C901  # one case an event
    session: Session, event: Event
) -> tuple[Session, tuple[Action, ...]]:
    """Advance by one event. Same session and event: same answer, always.

    An event that does not fit the phase changes nothing and asks for nothing.
    """
    match session.phase, event:
        case _, Opened():
            after = session
        case "joined", Granted(slot, fence, ttl_s, hold_s):
            after = replace(
                session, phase="leased", slot=slot, fence=fence, ttl_s=ttl_s, hold_s=hold_s, why=""
            )
        case "leased", Trained():
            after = replace(session, phase="trained")
        case "trained", Packed(blob, document):
            after = replace(session, phase="packed", blob=blob, document=document)
        case "packed", Approved():
            after = replace(session, phase="approved")
        case "approved", Received(receipt):
            after = replace(session, phase="receipted", receipt=receipt)
        case "receipted", Asked(withdrawal):
            after = replace(session, phase="withdrawing", withdrawal=withdrawal)
        case (("withdrawing" | "withdrawn"), Left(receipt)):
            return replace(session, phase="withdrawn", withdrawal_receipt=receipt), ()
        case (("packed" | "approved"), Rejected(why)):
            # These bytes are dead, the slot is not: other settings may give bytes that pass.
            again = replace(session, phase="leased", blob="", document="", why=why)
            return again, (SetAside(session.slot, session.fence), Stop())
        case (
            ("leased" | "trained" | "packed" | "approved"),
            LeaseGone(why, request, counter, epoch),
        ):
            # I1: the old fence is dead for ever, and so are its blob and manifest.
            fresh = Session(
                session.concept,
                session.triggers,
                session.vectors,
                session.noun,
                request,
                counter,
                why=why,
                epoch=epoch,
                replaces=session.replaces,
                release=session.release,
                home=session.home,
                share=session.share,
            )
            return fresh, (SetAside(session.slot, session.fence), Stop())
        case _:
            return session, ()
    return after, _NEXT[after.phase]
