"""The federation that this home belongs to, as its coordinator tells it now, or a refusal.

    GetSpec -> spec and keyrings, bound to the pinned log id (trust.py)
            -> where each keyring lies in the ledger, proven under the newest ledger key   (T25)
            -> no keyring is missing or another one than this home has seen                (T16)
            -> the newest one is in force: it has not run out

Law: so a receipt is judged by the one ledger key that signs checkpoints of its size, and a key that
was rotated away signs nothing newer, at home as for who reads the whole ledger. Bound: a home that
has not heard of a keyring yet can be held at the one before by a thief of its ledger key who also
answers in the coordinator's place, until that keyring runs out. Cost: one call.
"""

import time
from dataclasses import dataclass

from ..core.errors import VerificationFailed
from ..proto import methods, wire
from .channel import Channel
from .home import Home
from .trust import TrustedFederation, check, placed, trusted_federation


@dataclass(frozen=True, slots=True)
class Told:
    """What the coordinator told, checked, and the reply that it told it by."""

    federation: TrustedFederation
    reply: wire.SpecReply


def ask_federation(home: Home, channel: Channel, log: str) -> Told:
    """Ask for spec and keyrings of the ledger ``log``; nothing is written.

    Raises VerificationFailed: a check failed. Raises SpecError: the spec is of a later version.
    """
    reply = channel.call(methods.GET_SPEC, wire.SpecRequest(), wire.SpecReply)
    federation = trusted_federation(log, reply.spec, reply.keyrings)
    known = home.keyrings()
    with check("keyring"):
        if reply.keyrings[: len(known)] != known:
            raise VerificationFailed(
                f"{len(reply.keyrings)} keyrings that do not continue the {len(known)} seen before",
                why="a federation's keyrings only grow; an older list would let an old key sign",
                fix="tell the operator; nothing was sent",
                code="keyrings-went-back",
            )
    with check("expiry"):
        federation.keyring.check_time(int(time.time()))
    return Told(placed(federation, reply.keyrings, reply.keyring_proofs), reply)


def remembered(home: Home, channel: Channel) -> Told:
    """Ask for the federation of a home that joined, and remember its keyrings; raises as above."""
    told = ask_federation(home, channel, home.membership().log)
    home.keep_keyrings(told.reply.keyrings)
    return told
