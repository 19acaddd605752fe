"""A data owner who names consumers: seals what member.py packed, for a lease of its own."""

import hashlib
from collections.abc import Collection
from typing import Any

from orthofed.client.sealing import seal_for
from orthofed.core.contribution import ContributionManifest
from orthofed.core.document import parse
from orthofed.core.recipient import Recipient
from orthofed.core.sealed import lease_context

from .member import Leased, Member, Packed


def pack_private(
    member: Member, lease: Leased, recipients: Collection[Recipient], **how: Any
) -> tuple[Packed, bytes]:
    """Pack as ``member.pack`` does, sealed; return what is sent, and the plaintext."""
    public = member.pack(lease, **how)
    said = ContributionManifest.from_document(parse(public.document, kind="contribution"))
    made = seal_for(recipients, public.blob, context=lease_context(said))
    packed = member.pack(
        lease,
        blob=made.blob,
        form="private",
        plain=hashlib.sha256(public.blob).hexdigest(),
        wraps=hashlib.sha256(made.wraps).hexdigest(),
    )
    packed.wraps = made.wraps
    return packed, public.blob
