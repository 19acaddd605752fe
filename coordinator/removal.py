"""How a contribution leaves: withdrawn by its client, or rejected by the operator.

Laws: slot, contribution row, ledger leaf and receipt are one transaction; a withdrawal's receipt is
kept for ever, so a retry gets the same one; the slot is free only when no release holds the
contribution (leases.py, I5), and only then does the blob go (sweeper.py). A withdrawal takes out
the whole concept: with the contribution that it names all that it replaced and all that replaced
it. A rejection takes out one of them; an earlier one that stands has its place again. One that
waits for admission, is in quarantine or was rejected can be withdrawn too: its bytes are its
owner's. A rejection is the operator's: the leaf has no more than that, its reason is for the
contributor alone. Not here: whether the call's own signature is good (auth.py).
"""

from ..core.document import parse
from ..core.errors import Refused
from ..core.leaf import document_leaf
from ..core.withdrawal import Withdrawal
from ..fleet.journal import tell
from ..proto import wire
from . import contribution_rows, lease_rows, orders, verdicts
from .board import Turn
from .contribution_rows import Contribution
from .holding import live
from .house import House
from .reason import reason
from .slot_events import Withdraw


class Removal:
    """Takes contributions out."""

    def __init__(self, house: House) -> None:
        """Act on what the house owns."""
        self._house = house

    def asked(self, key: str, request: wire.WithdrawRequest) -> wire.WithdrawReply:
        """Answer the wire call: the word has to be the caller's own (T2, T20)."""
        said = parse(request.document, kind="withdrawal")
        if [each.key for each in said.sigs] != [key]:
            raise _not_yours()
        receipt = self.withdraw(request.document)
        self._house.sweep()  # in no release: the blob goes now, not with the next one
        return wire.WithdrawReply(receipt)

    def withdraw(self, document: bytes) -> bytes:
        """Take a contribution out by its client's signed word; return the receipt of the leaf."""
        signed = parse(document, kind="withdrawal")
        asked = Withdrawal.from_document(signed)
        facts = self._house.facts
        if (asked.log, asked.fed) != (facts.log, facts.fed):
            raise _not_yours()

        def write(turn: Turn) -> bytes:
            entry = contribution_rows.of_leaf(turn.db, asked.leaf)
            lease = lease_rows.of_client(turn.db, asked.client)
            if entry is None or lease is None or _pair(entry) != (lease.slot, lease.fence):
                raise _not_yours()
            before = contribution_rows.withdrawal_receipt(turn.db, asked.leaf)
            if before is not None:
                return before
            if entry.state == "withdrawn":
                raise _with_its_concept()
            concept = contribution_rows.of_concept(turn.db, entry.first)
            held = live(concept)
            if held is not None:  # else all are rejected, and the slot may be somebody else's
                keeper = lease_rows.at(turn.db, held.slot, held.fence).client
                turn.step(Withdraw(keeper, held.slot, held.fence))
            leaf = self._house.ledger.append(turn.db, document_leaf(signed))
            for each in concept:
                contribution_rows.set_state(turn.db, each.leaf, "withdrawn", why="")
            contribution_rows.add_withdrawal(
                turn.db, asked.leaf, leaf=leaf.index, receipt=leaf.receipt
            )
            orders.carry_out(turn.db, lease.member, "withdraw", lease.concept, leaf=leaf.index)
            return leaf.receipt

        receipt = self._house.board.run(write)
        tell("contribution-withdrawn", leaf=asked.leaf)
        self._house.heads.poke()
        return receipt

    def reject(self, leaf: int, *, why: str) -> None:
        """Take a contribution out by the operator's word; once more changes nothing.

        Raises InputError: ``why`` is no reason that its owner could read.
        """
        told = reason(why)

        def write(turn: Turn) -> None:
            entry = contribution_rows.of_leaf(turn.db, leaf)
            if entry is None:
                raise verdicts.no_contribution(leaf)
            if entry.state == "rejected":
                return
            if entry.state == "withdrawn":
                raise _is_withdrawn(leaf)
            verdicts.say(turn, self._house, leaf, "rejected", code="operator", why=told)

        self._house.board.run(write)
        self._house.sweep()  # its pictures go
        tell("contribution-rejected", leaf=leaf)
        self._house.heads.poke()


def _is_withdrawn(leaf: int) -> Refused:
    return Refused(
        f"contribution {leaf} is withdrawn",
        why="its owner took it out of every later release",
        fix="nothing is to be done",
        code="not-filled",
    )


def _with_its_concept() -> Refused:
    return Refused(
        "this contribution was withdrawn by the word for another one of its concept",
        why="a withdrawal takes out the concept, with all that was ever sent of it",
        fix="nothing is to be done: no later release holds any of it",
        code="withdrawn",
    )


def _pair(entry: Contribution) -> tuple[int, int]:
    return entry.slot, entry.fence


def _not_yours() -> Refused:
    # T20: one text for absent and forbidden, without the number that was asked for.
    return Refused(
        "this key has no such contribution",
        why="a client takes out what its own key signed, in this ledger, and nothing else",
        fix="ask with the client key of the lease and the leaf that the receipt names",
        code="not-found",
    )
