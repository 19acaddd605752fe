"""Finds every contribution of a home's masters again, on a machine that has nothing else.

    of each master: client key 0, 1, 2, ... -> what does the coordinator know of it?
         -> receipt -> manifest -> home

Laws (security.md 3): a backup of the 32-byte master suffices to find and withdraw every
contribution; what the coordinator says is believed only as a receipt of the pinned log, for a
manifest that this very key signed; what the home knows already is left alone. Keys that were drawn
and never leased leave gaps: ``_GAP`` unknown ones in a row end the search. What was learnt is not
found again: the blob is not given back by anybody, and training needs the images. Cost: one small
call a key.
"""

from dataclasses import dataclass
from itertools import chain, count
from typing import Final

from ..core.contribution import ContributionManifest
from ..core.errors import Refused, VerificationFailed
from ..core.layout import ContributionLayout
from ..core.spec import FederationSpec
from ..proto import methods, wire
from .channel import Channel
from .home import Home, write_whole
from .home_channel import home_channel
from .masters import Master, Masters
from .packed_contribution import sha256
from .pinned import remembered
from .session import Session
from .state import MANIFEST, RECEIPT, load, save
from .trust import TrustedFederation, trusted_contribution

_GAP: Final = 20
_UNKNOWN: Final = ("not-your-role", "not-found")
_MOST_VECTORS: Final = 8


@dataclass(frozen=True, slots=True)
class Found:
    """One contribution of a master here; ``is_new``: the home did not know it."""

    concept: str
    slot: int
    leaf: int
    state: str
    is_new: bool


def recover(home: Home, *, patience_s: float) -> tuple[Found, ...]:
    """Return every contribution of this home's masters, each now in the home, by key.

    The masters before a rotation count, as far as their files are here.

    Raises VerificationFailed: the coordinator gave something else than this log's receipts.
    """
    with home.lock(), home_channel(home, patience_s=patience_s) as channel:
        federation = remembered(home, channel).federation
        masters = Masters(home)
        found = (_search(home, masters, master, channel, federation) for master in masters.all())
        return tuple(chain.from_iterable(found))


def _search(
    home: Home, masters: Masters, master: Master, channel: Channel, federation: TrustedFederation
) -> tuple[Found, ...]:
    found, last = list[Found](), -1
    for counter in count():
        if counter - last > _GAP:
            break
        key = master.client(federation.log, counter)
        try:
            reply = channel.call(
                methods.STATUS, wire.StatusRequest(0, 0), wire.StatusReply, key=key
            )
        except Refused as error:
            if error.code in _UNKNOWN:
                continue
            raise
        last = counter
        masters.use_counters_from(master, counter + 1)
        if reply.receipt:
            which = _Key(key.public_hex, counter, master.epoch)
            found.append(_keep(home, federation, reply, which))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Key:
    """A client key: its public half, and where it comes from."""

    client: str
    counter: int
    epoch: int


def _keep(home: Home, federation: TrustedFederation, reply: wire.StatusReply, which: _Key) -> Found:
    receipt, manifest, document = trusted_contribution(federation, reply.receipt)
    if manifest.client != which.client:
        raise VerificationFailed(
            f"the coordinator gave the receipt of {manifest.client[:16]} for {which.client[:16]}",
            why="a receipt holds the manifest that its own key signed",
            fix="tell the operator",
            code="bad-reply",
        )
    folder = home.run(manifest.concept)  # T10: as a slug
    known = load(folder)
    # A withdrawn one leaves its concept to whatever came after it.
    # Of a concept that was corrected, the one that stands is found too.
    is_new = known is None and reply.state not in ("superseded", "withdrawn")
    if is_new:
        write_whole(folder / MANIFEST, document)
        write_whole(folder / RECEIPT, reply.receipt)
        session = Session(
            concept=manifest.concept,
            triggers=manifest.triggers,
            vectors=_vectors(federation.spec, manifest),
            noun="",
            request="0" * 32,
            counter=which.counter,
            epoch=which.epoch,
            phase="receipted",
            slot=manifest.slot,
            fence=manifest.fence,
            document=sha256(document),
            receipt=sha256(reply.receipt),
            home=-1 if manifest.share is None else manifest.block,
        )
        save(folder, session)
    return Found(manifest.concept, manifest.slot, receipt.index, reply.state, is_new)


def _vectors(spec: FederationSpec, manifest: ContributionManifest) -> tuple[int, ...]:
    """Return the vectors of each trigger, which the size of the blob tells where all are equal."""
    num = len(manifest.triggers)
    for each in range(1, _MOST_VECTORS + 1):
        if ContributionLayout(spec, (each,) * num).size == manifest.bytes:
            return (each,) * num
    return (1,) * num
