"""What is about to leave, byte for byte, and the owner's yes.

The list names each file with bytes and SHA-256, and each tensor with shape, bytes, SHA-256 and
norm (of the real numbers, not the integers). It is computed from the very bytes that upload.py
sends, never from what they were made of. Law: without `gate` the outbox has no approved bytes and
refuses to send them. Source: security.md 9.1, product.md 5.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..core.dp_claim import DpClaim
from ..core.errors import InputError
from ..core.layout import ContributionLayout, unpack
from ..core.memorisation import BY_HEART, Memorisation
from ..core.promises import MAY_REVEAL, NAMED_READ, NEVER_LEAVE
from ..core.recipient import Recipient
from .sealing import Sealed

LEAVES: Final = f"{NEVER_LEAVE}\n{MAY_REVEAL}"
"""What may be said about privacy at the gate, word for word (security.md 9.1)."""
PRIVATE_LEAVES: Final = f"{NEVER_LEAVE}\n{NAMED_READ}"
"""The same of a private contribution, whose name and triggers stay public."""


@dataclass(frozen=True, slots=True)
class LeavingFile:
    """One file that leaves; ``sha256`` in hex."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LeavingTensor:
    """One tensor inside the blob; ``norm`` is the Frobenius norm of its real values."""

    name: str
    shape: tuple[int, ...]
    num_bytes: int
    sha256: str
    norm: float


@dataclass(frozen=True, slots=True)
class EgressList:
    """Everything that one contribution sends."""

    triggers: tuple[str, ...]
    files: tuple[LeavingFile, ...]
    tensors: tuple[LeavingTensor, ...]
    recipients: tuple[str, ...] = ()
    """Who alone can open it; empty: everybody."""
    dp: DpClaim | None = None  # what the manifest claims of differential privacy
    memorisation: Memorisation | None = None
    """What was learnt by heart; it is shown here and stays at home."""
    warnings: tuple[str, ...] = ()
    """Why it may not be in the next release, though it can be sent (weighing.py)."""
    images: int = 0  # what the manifest says for all to read of how many images it is of
    licence: str = ""
    title: str = ""
    pictures: bool = False
    folder: str = ""  # where the files lie that leave

    @property
    def wording(self) -> str:
        """What may be said of its privacy."""
        return PRIVATE_LEAVES if self.recipients else LEAVES

    @property
    def num_bytes(self) -> int:
        """All bytes of all files."""
        return sum(file.num_bytes for file in self.files)


def egress_list(
    document: bytes,
    blob: bytes,
    *,
    layout: ContributionLayout,
    triggers: tuple[str, ...],
    sealed: Sealed | None = None,
    recipients: tuple[Recipient, ...] = (),
    dp: DpClaim | None = None,
    images: int = 0,
) -> EgressList:
    """List what leaves, from the packed bytes themselves.

    ``sealed`` leaves in the blob's place; ``dp`` is what ``document`` claims, ``images`` what it
    counts.
    """
    leaving = [("manifest.json", document)]
    if sealed is None:
        leaving += [("contribution.safetensors", blob)]
    else:
        leaving += [("contribution.sealed", sealed.blob), ("wraps", sealed.wraps)]
    files = tuple(
        LeavingFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in leaving
    )
    tensors: list[LeavingTensor] = []
    for name, tensor in unpack(layout, blob).items():
        raw = np.ascontiguousarray(tensor.q, dtype="<i2").tobytes()
        norm = math.ldexp(float(np.linalg.norm(tensor.q.astype(np.float64))), tensor.exponent)
        digest = hashlib.sha256(raw).hexdigest()
        tensors.append(LeavingTensor(name, tensor.q.shape, len(raw), digest, norm))
    named = tuple(recipient.to_text() for recipient in recipients)
    return EgressList(triggers, files, tuple(tensors), named, dp, images=images)


def beforehand(
    concept: str, show: Callable[[EgressList], object] = lambda _: None
) -> Callable[[EgressList], bool]:
    """Return the answer of an owner who said --yes before any figure was known.

    It shows the list with ``show`` and is a yes. Raises InputError when asked: what would leave was
    learnt by heart, so that is held, as a daemon holds it.
    """

    def answer(listing: EgressList) -> bool:
        show(listing)
        found = listing.memorisation
        if found is not None and found.by_heart:
            raise InputError(
                f"{concept} is packed and was not sent: memorisation {found.score:.3f},"
                f" above {BY_HEART:g} --yes is not enough",
                why="whoever gets it may draw again what it learnt by heart",
                fix="train with more images, fewer --steps or --dp; or look at it and say yes by"
                f" hand with orthofed client approve {concept}, and run this command again",
                code="learnt-by-heart",
            )
        return True

    return answer


def gate(listing: EgressList, *, ask: Callable[[EgressList], bool]) -> None:
    """Show the list and go on only with a yes.

    Raises InputError: the owner said no; nothing was sent.
    """
    if not ask(listing):
        raise InputError(
            f"{listing.num_bytes} bytes were not sent: they were not approved",
            why="no contribution leaves without its owner's yes",
            fix="run it again to be asked again, nothing is trained twice; or free the slot with"
            " orthofed client give-back",
            code="egress-declined",
        )
