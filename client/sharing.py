"""Makes a share: the first owner of a concept lets others teach it too, from pictures of their own.

    receipt kept, public, images counted -> a fresh secret -> the share, signed by its client key

Law: nothing is sent; the coordinator learns of a share when somebody leases by it, and by then the
owner's signature is in it (T29). The secret is drawn here and stands in the text alone: who loses
it makes another one. Source: docs/adr/0032. Not here: who may use it (coordinator/joining.py).
"""

import secrets
import time
from dataclasses import dataclass

from ..core.errors import InputError
from ..core.keys import SigningKey
from ..core.names import slug
from ..core.share import MOST_IMAGES, MOST_OWNERS, Share
from .correction import standing
from .home import Home
from .home_channel import home_channel
from .masters import Masters
from .outbox import Outbox
from .pinned import remembered
from .share_text import ShareText
from .state import RECEIPT
from .trust import trusted_contribution


@dataclass(frozen=True, slots=True)
class Shared:
    """A share as text, with what it says."""

    text: str
    share: Share
    concept: str


def share_concept(
    home: Home, concept: str, *, uses: int, most_images: int | None, patience_s: float
) -> Shared:
    """Return a share of the concept for ``uses`` others.

    ``most_images``: how many images one of them counts at most; None: as many as the owner has.

    Raises InputError: the concept is not with the federation, not the owner's own to share, or a
    number is out of bounds.
    """
    _check("uses", uses, MOST_OWNERS - 1)
    name = slug(concept)
    with home.lock():
        with home_channel(
            home, patience_s=patience_s, outbox=Outbox(home.folder / "outbox.jsonl")
        ) as channel:
            federation = remembered(home, channel).federation
        folder, session = standing(home.run(name))
        if session is None or session.phase != "receipted":
            raise _not_shareable(f"{name} is not with the federation", "train and send it first")
        receipt = (folder / RECEIPT).read_bytes()
        parsed, manifest, _ = trusted_contribution(federation, receipt)
        if not session.noun:
            raise _not_shareable(
                f"{name} was found again with its seed alone, and its class noun is not known",
                "withdraw it and train it with --shared",
            )
        if manifest.share is not None:
            raise _not_shareable(f"{name} is another owner's concept", "ask its first owner")
        if not manifest.count:
            raise _not_shareable(
                f"contribution {parsed.index} of {name} does not count its images",
                "withdraw it and train it with --shared: what each owner's part weighs follows"
                " from these counts",
            )
        images = manifest.count if most_images is None else most_images
        _check("most-images", images, MOST_IMAGES)
        owner = Masters(home).of(session.epoch).client(federation.log, session.counter)
    seed = secrets.token_bytes(32)
    share = Share.signed(
        owner,
        most=images,
        key=SigningKey.from_seed(seed).public_hex,
        leaf=parsed.index,
        log=federation.log,
        slot=manifest.slot,
        t=int(time.time()),
        uses=uses,
    )
    words = (session.concept, session.triggers, session.vectors, session.noun)
    return Shared(ShareText(share, *words, seed).to_text(), share, session.concept)


def _check(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise InputError(
            f"--{name} {value}",
            why=f"it is 1 to {most}",
            fix="choose a number within these bounds",
            code="bad-share-terms",
        )


def _not_shareable(what: str, fix: str) -> InputError:
    return InputError(
        f"there is nothing to share: {what}",
        why="a public contribution of a concept's first owner, trained with --shared, is shared",
        fix=fix,
        code="not-shareable",
    )
