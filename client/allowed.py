"""What may leave this client: every call, field and signed value, each with its size and reason.

Law (security.md 9.1): what is not listed here cannot be sent. `allow` reads the very bytes that are
about to leave, not what they were made of: each field by its number, and inside a signed document
each value by its name. There is no entry that could hold an image, a caption, a path or code: text
that a person chose stands in ``concept``, ``triggers``, ``title`` and ``licence`` alone. A test
walks proto/v1 and core: a field that is not listed, or listed and gone, fails it. Not here: the
owner's yes (egress.py), the record of what left (outbox.py). Beside a signed message travel its
header (``HEADER``), the signature, and gRPC's own name, version and platform.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from ..core import canonical
from ..core.errors import InputError, VerificationFailed
from ..proto import methods
from ..proto.raw_fields import raw_fields


@dataclass(frozen=True, slots=True)
class Allowed:
    """One field: its name in proto/v1, the most bytes of a value, and why it leaves.

    ``document``: the kind of signed document that its bytes are. ``times``: how often it may stand.
    """

    name: str
    most: int
    why: str
    document: str = ""
    times: int = 1


_SLOT = Allowed("slot", 2, "which slot the lease is of")
_FENCE = Allowed("fence", 7, "which lease of that slot")
_UPLOAD = Allowed("upload_id", 16, "which announced contribution the bytes belong to")

FIELDS: Final[Mapping[str, Mapping[int, Allowed]]] = {
    methods.GET_SPEC.path: {},
    methods.JOIN.path: {1: Allowed("proof", 2 << 10, "an invite lets this member key in", "join")},
    methods.LEASE.path: {
        1: Allowed("document", 4 << 10, "what is asked for", "lease"),
        2: Allowed("vectors", 128, "how many learned vectors each trigger has"),
    },
    methods.ROTATE.path: {
        1: Allowed("document", 2 << 10, "both keys' word that one replaces the other", "rotation")
    },
    methods.RENEW.path: {
        1: _SLOT,
        2: _FENCE,
        3: Allowed("progress", 8, "a counter of finished work; no loss, no rate"),
        4: Allowed("total", 4, "what that counter comes to: how many steps were chosen"),
    },
    methods.GIVE_BACK.path: {1: _SLOT, 2: _FENCE},
    methods.BEGIN.path: {
        1: Allowed("document", 16 << 10, "the manifest that the owner saw", "contribution"),
        2: Allowed("chunks", 32, "SHA-256 of each chunk", times=methods.MAX_CHUNKS),
        3: Allowed("wraps", 64 * 80, "a private slot's key, sealed for its named consumers"),
    },
    methods.PUT.path: {
        1: _UPLOAD,
        2: Allowed("index", 2, "which chunk"),
        3: Allowed("data", methods.CHUNK_BYTES, "integers of A and the tokens, as the owner saw"),
    },
    methods.COMMIT.path: {1: _UPLOAD},
    methods.STATUS.path: {1: _SLOT, 2: _FENCE},
    methods.WITHDRAW.path: {
        1: Allowed("document", 2 << 10, "the owner's word that it is to leave", "withdrawal")
    },
    methods.ORDERS.path: {},
    methods.FLEET_KEY.path: {
        1: Allowed("public_key", 512, "the public key of this member's Flower node, no comment")
    },
    methods.SCORE.path: {
        1: Allowed("concept", 31, "the name that the owner gave to the concept"),
        2: Allowed("release", 4, "which release was measured"),
        3: Allowed("base_millionths", 4, "a mean loss: the base without the concept"),
        4: Allowed("single_millionths", 4, "a mean loss: the contribution alone"),
        5: Allowed("merged_millionths", 4, "a mean loss: the release"),
        6: Allowed("num_pictures", 3, "how many held-out images the means are over"),
        7: Allowed("num_draws", 3, "how many draws of noise the means are over"),
    },
    methods.LIST_RELEASES.path: {},
    methods.GET_MANIFEST.path: {1: Allowed("n", 4, "which release is wanted")},
    methods.READ.path: {
        1: Allowed("n", 4, "which release is wanted"),
        2: Allowed("name", 255, "which of its files; the name comes from its manifest"),
        3: Allowed("offset", 8, "from where"),
        4: Allowed("length", 4, "how much"),
    },
    methods.READ_PUBLIC.path: {
        1: Allowed("name", 255, "which public file of the ledger"),
        2: Allowed("offset", 8, "from where"),
        3: Allowed("length", 4, "how much"),
    },
    methods.GET_CONTRIBUTION.path: {1: Allowed("leaf", 7, "which contribution is wanted")},
    methods.READ_CONTRIBUTION.path: {
        1: Allowed("leaf", 7, "which contribution is wanted"),
        2: Allowed("offset", 8, "from where"),
        3: Allowed("length", 4, "how much"),
    },
}
"""Every call by its path: field numbers of its request, as in proto/v1."""

_PINNED = {
    "log": "the ledger that it is for",
    "v": "the version of this document",
}
DOCUMENTS: Final[Mapping[str, Mapping[str, str]]] = {
    "join": {
        **_PINNED,
        "invite": "the invite's public key, whose word this is",
        "member": "this home's public key",
    },
    "lease": {
        **_PINNED,
        "client": "a fresh public key for this lease",
        "concept": "the name that the owner gave to the concept",
        "member": "this home's public key",
        "replaces": "of a corrective round: which of the owner's contributions it goes on from",
        "share": "of another owner's concept: that owner's signed word that this home may teach it",
        "request": "random bytes, so that a resend asks for the same lease",
        "triggers": "the words that the owner chose for prompts",
    },
    "rotation": {
        **_PINNED,
        "new": "this home's new public key",
        "old": "the public key that it replaces",
    },
    "contribution": {
        **_PINNED,
        "basis": "fingerprint of the public block that A was trained against",
        "blob": "SHA-256 of the blob",
        "bytes": "length of the blob, which the layout fixes",
        "client": "the public key of the lease",
        "concept": "the name that the owner gave to the concept",
        "count": "of a concept with several owners: of how many pictures it is made, as shown",
        "dp": "the owner's own claim of differential privacy",
        "fed": "the federation's spec",
        "fence": "the lease",
        "form": "public or private",
        "licence": "the SPDX id that the owner chose",
        "pictures": "1: releases may show what the merged model draws of it, as the owner chose",
        "plain": "SHA-256 of a private slot's plaintext",
        "replaces": "of a corrective round: leaf and public key of what it takes the place of",
        "share": "of another owner's concept: that owner's signed word that this home may teach it",
        "slot": "the slot",
        "t": "the time of signing",
        "title": "text that the owner typed to be shown",
        "triggers": "the words that the owner chose for prompts",
        "wraps": "SHA-256 of a private slot's wrapped keys",
    },
    "withdrawal": {
        **_PINNED,
        "client": "the public key of the lease",
        "fed": "the federation's spec",
        "leaf": "the contribution's place in the ledger",
        "t": "the time of signing",
    },
}
"""Every signed document by its kind: the values of its body."""
HEADER: Final[Mapping[str, str]] = {
    "aud": "the ledger that the call is for",
    "body": "SHA-256 of the message",
    "key": "the public key that signs",
    "method": "the call",
    "nonce": "random bytes, so that nobody can replay it",
    "t": "the time, which replays fail by",
    "v": "the version of this header",
}
"""What the signed header of a request holds."""


def allow(method: str, body: bytes) -> None:
    """Let a message pass, or raise InputError (``egress-refused``) before a byte has left."""
    fields = FIELDS.get(method)
    if fields is None:
        raise _refused(f"a message to {method}", "this call is on no list")
    try:
        found = list(raw_fields(body))
    except ValueError as error:
        raise _refused(f"a message to {method}", f"it has {error}") from error
    times: dict[int, int] = {}
    for field in found:
        allowed = fields.get(field.number)
        if allowed is None:
            raise _refused(f"field {field.number} of a message to {method}", "it is on no list")
        times[field.number] = times.get(field.number, 0) + 1
        if field.size > allowed.most or times[field.number] > allowed.times:
            raise _refused(
                f"{allowed.name} of {field.size} bytes, number {times[field.number]}, in a message"
                f" to {method}",
                f"allowed are {allowed.times} of {allowed.most} bytes",
            )
        if allowed.document:
            _allow_document(allowed.document, field.value)


def _allow_document(kind: str, data: bytes | int) -> None:
    try:
        value = cast("dict[str, object]", canonical.decode(cast("bytes", data)))
        names = set(value) | {f"body.{name}" for name in cast("dict[str, object]", value["body"])}
        said = value["kind"]
    except (VerificationFailed, TypeError, KeyError) as error:
        raise _refused(f"a {kind} document", "it is none") from error
    listed = {"body", "kind", "sigs"} | {f"body.{name}" for name in DOCUMENTS[kind]}
    if said != kind or not names <= listed:
        more = ", ".join(sorted(names - listed)) or f"the kind {said!s:.32}"
        raise _refused(f"a {kind} document with {more}", "that is on no list")


def _refused(what: str, why: str) -> InputError:
    return InputError(
        f"{what} was stopped before it left",
        why=why,
        fix="report this as a bug; nothing was sent",
        code="egress-refused",
    )
