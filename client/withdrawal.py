"""Carries out `orthofed client withdraw`: from the owner's word to the receipt of its ledger leaf.

    receipt of the contribution -> the owner is asked -> withdrawal signed and kept -> sent
         -> its receipt verified against the pinned log and kept

Laws (reliability.md 5): the signed word is on the disk before it is sent, and every retry sends the
same bytes, so a kill at any instruction costs nothing but another run; the coordinator's answer
counts only as a receipt that verifies offline. A withdrawn concept can be withdrawn again: a
coordinator that was restored from an older copy hears the word once more. What was kept of it stays
at home, beside the concept's next training. A corrective round that is under way is given up
first: the word is for what stands, and takes out the concept. Source: security.md 4.5 and 9.1.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core import document
from ..core.errors import InputError, Refused
from ..core.receipt import Receipt
from ..core.withdrawal import Withdrawal
from ..proto import methods, wire
from . import session as flow
from .channel import Channel
from .correction import give_up, is_unsent
from .home import Home, sync_folder, write_whole
from .home_channel import home_channel
from .masters import Masters
from .packed_contribution import sha256
from .pinned import remembered
from .session import Session
from .state import BLOB, MANIFEST, RECEIPT, WITHDRAWAL, WITHDRAWAL_RECEIPT, load, save
from .trust import TrustedFederation, trusted_receipt, trusted_withdrawal


@dataclass(frozen=True, slots=True)
class Contribution:
    """What the owner is asked about: a concept's slot and its leaf of the ledger."""

    concept: str
    slot: int
    leaf: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The contribution that left, the withdrawal's own leaf, and the receipt in the home."""

    contribution: Contribution
    leaf: int
    receipt: Path
    sha256: str


def withdraw(
    home: Home, concept: str, *, ask: Callable[[Contribution], bool], patience_s: float
) -> Withdrawn:
    """Take the concept's contribution out and keep the receipt; again gives the same one.

    Raises InputError: nothing of this concept is with the coordinator, or the owner said no. Raises
    Refused: the coordinator does not know it. Raises Unreachable: no answer; run again later.
    """
    folder = home.run(concept)
    with home.lock():
        home.membership()  # refuses a home that has joined nothing
        session = load(folder)
        if session is not None and is_unsent(session) and session.phase != "approved":
            session = give_up(folder, session)  # what stands is withdrawn, and the round ends
        if session is None or session.phase in _NOTHING_SENT:
            raise _nothing(concept, home.folder, session)
        with home_channel(home, patience_s=patience_s) as channel:
            federation = remembered(home, channel).federation
            return _Withdrawing(folder, session, channel, federation, Masters(home), ask).run()


_NOTHING_SENT: frozenset[flow.Phase] = frozenset({"joined", "leased", "trained", "packed"})


class _Withdrawing:
    """One run of the command."""

    def __init__(  # the parts of one run, each used once
        self,
        folder: Path,
        session: Session,
        channel: Channel,
        federation: TrustedFederation,
        masters: Masters,
        ask: Callable[[Contribution], bool],
    ) -> None:
        self._folder = folder
        self._session = session
        self._channel = channel
        self._federation = federation
        self._masters = masters
        self._key = masters.of(session.epoch).client(federation.log, session.counter)
        self._ask = ask

    def run(self) -> Withdrawn:
        """Go on from wherever the last run stopped."""
        if self._session.phase == "approved":
            self._find_receipt()
        found = self._contribution()
        if self._session.phase == "receipted":
            self._sign(found)
        return self._send(found)

    def _find_receipt(self) -> None:
        """Ask what became of an upload whose receipt never arrived; it may be in the ledger."""
        session = self._session
        request = wire.StatusRequest(session.slot, session.fence)
        reply = self._channel.call(methods.STATUS, request, wire.StatusReply, key=self._key)
        if not reply.receipt and is_unsent(session):
            self._session = give_up(self._folder, session)
            old = self._session
            self._key = self._masters.of(old.epoch).client(self._federation.log, old.counter)
            return
        if not reply.receipt:
            raise _nothing(session.concept, self._folder, session)
        manifest = (self._folder / MANIFEST).read_bytes()
        trusted_receipt(self._federation, reply.receipt, manifest=manifest)
        write_whole(self._folder / RECEIPT, reply.receipt)
        self._step(flow.Received(sha256(reply.receipt)))

    def _contribution(self) -> Contribution:
        manifest = (self._folder / MANIFEST).read_bytes()
        data = (self._folder / RECEIPT).read_bytes()
        receipt = trusted_receipt(self._federation, data, manifest=manifest)
        return Contribution(self._session.concept, self._session.slot, receipt.index)

    def _sign(self, found: Contribution) -> None:
        if not self._ask(found):
            raise InputError(
                f"{found.concept} was not withdrawn: you did not say yes",
                why="a withdrawal cannot be taken back",
                fix="run the same command again to be asked again",
                code="withdrawal-declined",
            )
        said = Withdrawal(
            client=self._key.public_hex,
            fed=self._federation.spec.id,
            leaf=found.leaf,
            log=self._federation.log,
            t=int(time.time()),
        )
        signed = document.sign("withdrawal", said.body(), [self._key]).to_bytes()
        write_whole(self._folder / WITHDRAWAL, signed)
        self._step(flow.Asked(sha256(signed)))

    def _send(self, found: Contribution) -> Withdrawn:
        request = wire.WithdrawRequest((self._folder / WITHDRAWAL).read_bytes())
        reply = self._channel.call(methods.WITHDRAW, request, wire.WithdrawReply, key=self._key)
        receipt = self._verified(reply.receipt, found)
        path = self._folder / WITHDRAWAL_RECEIPT
        write_whole(path, reply.receipt)
        self._step(flow.Left(sha256(reply.receipt)))
        return Withdrawn(found, receipt.index, path, sha256(reply.receipt))

    def _verified(self, receipt: bytes, found: Contribution) -> Receipt:
        client = self._key.public_hex
        return trusted_withdrawal(self._federation, receipt, client=client, leaf=found.leaf)

    def _step(self, event: flow.Event) -> None:
        self._session, _ = flow.step(self._session, event)
        save(self._folder, self._session)


def keep_withdrawn(folder: Path, session: Session) -> Path:
    """Give the files of a withdrawn contribution a folder of their own, and return it.

    The old names stay until a new session is saved over them: after a kill this is done again.
    """
    aside = folder / f"withdrawn-{session.slot}-{session.fence}"
    aside.mkdir(exist_ok=True)
    for name in (BLOB, MANIFEST, RECEIPT, WITHDRAWAL, WITHDRAWAL_RECEIPT):
        if (folder / name).exists() and not (aside / name).exists():
            os.link(folder / name, aside / name)
    sync_folder(aside)
    sync_folder(folder)
    return aside


def _nothing(concept: str, where: Path, session: Session | None) -> InputError:
    if session is None:
        return InputError(
            f"{where} holds no concept {concept}",
            why="a contribution is withdrawn by the key that made it",
            fix="give the right concept and --home; orthofed client status lists what is there",
            code="nothing-to-withdraw",
        )
    return InputError(
        f"{session.concept} is {session.phase}: nothing of it is in the ledger",
        why="only a contribution that the coordinator took can be withdrawn",
        fix=f"run orthofed client give-back {session.concept} to free its slot"
        if session.phase != "joined"
        else "nothing is to be done",
        code="nothing-to-withdraw",
    )


def refuse_while_withdrawing(session: Session) -> None:
    """Raise Refused if the owner's word is signed and the coordinator has not confirmed it."""
    if session.phase == "withdrawing":
        raise Refused(
            f"{session.concept} is being withdrawn, and the receipt is not here yet",
            why="a concept is taught anew only when its last contribution is out",
            fix=f"run orthofed client withdraw {session.concept} first",
            code="being-withdrawn",
        )
