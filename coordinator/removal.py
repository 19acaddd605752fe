"""How a contribution leaves: withdrawn by its client, or rejected by the operator.

Laws: slot, contribution row, ledger leaf and receipt are one transaction; a withdrawal's receipt is
kept for ever, so a retry gets the same one; the slot is free only when no release holds the
contribution (leases.py, I5), and only then does the blob go (sweeper.py). A rejection is the
operator's: the leaf has no more than that, its reason is for the contributor alone. Not here: who
may ask (auth.py).
"""

from ..core.document import parse
from ..core.errors import Refused
from ..core.leaf import document_leaf
from ..core.withdrawal import Withdrawal
from . import records, verdicts
from .board import Turn
from .house import House
from .records import Contribution
from .slot_events import Reject, Withdraw


class Removal:
    """Takes contributions out."""

    def __init__(self, house: House) -> None:
        """Act on what the house owns."""
        self._house = house

    def withdraw(self, document: bytes) -> bytes:
        """Take a contribution out by its client's signed word; return the receipt of the leaf."""
        signed = parse(document, kind="withdrawal")
        asked = Withdrawal.from_document(signed)
        facts = self._house.facts
        if (asked.log, asked.fed) != (facts.log, facts.spec.id):
            raise _no_such(asked.leaf)

        def write(turn: Turn) -> bytes:
            entry = records.contribution(turn.db, asked.leaf)
            lease = records.lease_of_client(turn.db, asked.client)
            if entry is None or lease is None or _pair(entry) != (lease.slot, lease.fence):
                raise _no_such(asked.leaf)
            before = records.withdrawal_receipt(turn.db, asked.leaf)
            if before is not None:
                return before
            turn.step(Withdraw(asked.client, entry.slot, entry.fence))
            leaf = self._house.ledger.append(turn.db, document_leaf(signed))
            records.set_contribution(turn.db, asked.leaf, "withdrawn", why="")
            records.add_withdrawal(turn.db, asked.leaf, leaf=leaf.index, receipt=leaf.receipt)
            return leaf.receipt

        receipt = self._house.board.run(write)
        self._house.heads.poke()
        return receipt

    def reject(self, leaf: int, *, why: str) -> None:
        """Take a contribution out by the operator's word; once more changes nothing."""

        def write(turn: Turn) -> None:
            entry = records.contribution(turn.db, leaf)
            if entry is None:
                raise verdicts.no_contribution(leaf)
            if entry.state == "rejected":
                return
            turn.step(Reject(entry.slot, entry.fence))
            verdicts.say(turn, self._house, leaf, "rejected", code="operator", why=why)

        self._house.board.run(write)
        self._house.heads.poke()


def _pair(entry: Contribution) -> tuple[int, int]:
    return entry.slot, entry.fence


def _no_such(leaf: int) -> Refused:
    return Refused(
        f"leaf {leaf} is no contribution of this client",
        why="a client takes out what its own key signed, in this ledger, and nothing else",
        fix="ask with the client key of the lease and the leaf that the receipt names",
        code="not-found",
    )
