"""The contribution manifest: what a client says, and signs, about one blob.

Law: slot, fence, ledger and the SHA-256 of the blob stand in one signed body, so a contribution can
be moved to no other slot and changed by nobody (T4); ``basis`` is the fingerprint of the block that
A_i was trained against, so a wrong basis is refused before a merge (T11). One that takes the place
of an earlier one of its concept, after a corrective round, is signed by that one's client key too,
so nobody but its owner replaces it (T4). One that joins another owner's concept holds that owner's
share and is signed by the share's key too, so nobody gets in without it (T29).
Source: security.md 4.5. Not here: the blob's own rules (core/layout.py), whether the lease holds.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np
from jaxtyping import Int8

from .canonical import decode_text, encode_text
from .document import Document
from .dp_claim import DpClaim
from .errors import InputError
from .fields import NO_ID, Fields, bad_field
from .names import check_title, slug
from .share import MOST_IMAGES, Share

Form = Literal["public", "private"]
_FORMS: Final[tuple[Form, Form]] = ("public", "private")
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
_MOST_BYTES: Final = 512 << 20
_MOST_TRIGGERS: Final = 16
_TITLE_CHARACTERS: Final = 512
_NEED: Final = [
    "basis",
    "blob",
    "bytes",
    "client",
    "concept",
    "fed",
    "fence",
    "form",
    "licence",
    "log",
    "slot",
    "t",
    "triggers",
    "v",
]
_PRIVATE: Final = ("plain", "wraps")
_MAY: Final = ("count", "dp", "pictures", "replaces", "share", "title", *_PRIVATE)


@dataclass(frozen=True, slots=True)
class Replaced:
    """The contribution whose place another one takes: its leaf, and its client key in hex."""

    leaf: int
    client: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContributionManifest:
    """One signed description of one blob; hashes and keys are hex, ``t`` is Unix seconds.

    ``basis``: 64 zeros for basis families that are not integers. ``licence``: an SPDX id.
    ``dp``: the client's own claim. ``pictures``: releases may show what the merged model draws of
    it. ``plain``, ``wraps``: hashes that private slots have.
    ``replaces``: of a corrective round, which earlier contribution of the concept. ``count``: of a
    concept that may have several owners, how many images it was made from. ``share``: of another
    owner than the first, by whose word it is one; ``slot`` is then a seat, beyond the spec's slots.
    """

    basis: str
    blob: str
    bytes: int
    client: str
    concept: str
    fed: str
    fence: int
    licence: str
    log: str
    slot: int
    t: int
    triggers: tuple[str, ...]
    form: Form = "public"
    title: str = ""
    dp: DpClaim | None = None
    pictures: bool = False
    plain: str = ""
    wraps: str = ""
    replaces: Replaced | None = None
    count: int = 0
    share: Share | None = None

    @property
    def block(self) -> int:
        """The slot whose block A was trained against: its own, or that of its first owner."""
        return self.slot if self.share is None else self.share.slot

    @property
    def signers(self) -> tuple[str, ...]:
        """The client keys that have to sign, sorted."""
        beside = {self.client}
        if self.replaces is not None:
            beside.add(self.replaces.client)
        elif self.share is not None:
            beside.add(self.share.key)
        return tuple(sorted(beside))

    def body(self) -> dict[str, object]:
        """Return the body that is signed; an absent field is left out."""
        body: dict[str, object] = {
            "basis": self.basis,
            "blob": self.blob,
            "bytes": self.bytes,
            "client": self.client,
            "concept": self.concept,
            "fed": self.fed,
            "fence": self.fence,
            "form": self.form,
            "licence": self.licence,
            "log": self.log,
            "slot": self.slot,
            "t": self.t,
            "triggers": list(self.triggers),
            "v": 1,
        }
        if self.title:
            body["title"] = encode_text(self.title)
        if self.dp is not None:
            body["dp"] = self.dp.body()
        if self.pictures:
            body["pictures"] = 1
        if self.form == "private":
            body.update(plain=self.plain, wraps=self.wraps)
        if self.replaces is not None:
            body["replaces"] = {"client": self.replaces.client, "leaf": self.replaces.leaf}
        if self.count:
            body["count"] = self.count
        if self.share is not None:
            body["share"] = self.share.value
        return body

    @classmethod
    def from_document(cls, signed: Document) -> "ContributionManifest":
        """Return the manifest of a document that its own client key signed, and nobody else.

        But for one that replaces another: that one's client key signed it too. And one that joins a
        concept: the share's key did.

        Raises VerificationFailed: ``bad-field``, ``bad-key`` or ``bad-signature``.
        """
        manifest = cls.from_body(signed.body)
        signers = manifest.signers
        if signed.kind != "contribution" or tuple(s.key for s in signed.sigs) != signers:
            raise bad_field("a contribution manifest is signed by its client key alone")
        signed.verify(signers, need=len(signers))
        return manifest

    @classmethod
    def from_body(cls, body: object) -> "ContributionManifest":
        """Return the manifest of a body whose signature was checked elsewhere.

        Raises VerificationFailed ``bad-field``.
        """
        fields = Fields(body, "a contribution manifest", need=_NEED, may=_MAY)
        fields.version()
        form = cast("Form", fields.one_of("form", _FORMS))
        private = form == "private"
        if any((name in fields) != private for name in _PRIVATE):
            raise bad_field("`plain` and `wraps` belong to private contributions, and only there")
        replaces = _replaced(fields.raw("replaces")) if "replaces" in fields else None
        count = fields.integer("count", 1, MOST_IMAGES) if "count" in fields else 0
        share = Share.from_value(fields.raw("share")) if "share" in fields else None
        if count and (private or "dp" in fields):
            raise bad_field("`count` belongs to public contributions without a claim of privacy")
        _check_share(share, count, fields)
        if replaces is not None and (private or replaces.client == fields.raw("client")):
            raise bad_field("`replaces` belongs to public contributions under a key of their own")
        return cls(
            basis=fields.hex("basis"),
            blob=fields.hex("blob"),
            bytes=fields.integer("bytes", 1, _MOST_BYTES),
            client=fields.hex("client"),
            concept=_slug(fields.raw("concept"), "concept"),
            fed=fields.hex("fed"),
            fence=fields.integer("fence", 1),
            form=form,
            licence=_licence(fields),
            log=fields.hex("log"),
            slot=fields.integer("slot"),
            t=fields.integer("t"),
            triggers=_triggers(fields),
            title=_title(fields) if "title" in fields else "",
            dp=DpClaim.from_body(fields.raw("dp")) if "dp" in fields else None,
            pictures="pictures" in fields and fields.integer("pictures", 1, 1) == 1,
            plain=fields.hex("plain") if private else "",
            wraps=fields.hex("wraps") if private else "",
            replaces=replaces,
            count=count,
            share=share,
        )


def _check_share(share: Share | None, count: int, fields: Fields) -> None:
    """Refuse a share of another ledger, for its own giver, or exceeded."""
    if share is None:
        return
    if share.log != fields.hex("log") or fields.raw("client") in (share.client, share.key):
        raise bad_field("`share` of a contribution manifest is of another ledger, or its own")
    if not 1 <= count <= share.most:
        raise bad_field(f"`count` of a shared concept is not an integer from 1 to {share.most}")


def block_fingerprint(blocks: Iterable[Int8[np.ndarray, "_m _r"]]) -> str:
    """Return SHA-256 over the entries of sqrt(m) B_i, row by row, layers in the spec's order, hex.

    Shapes: m and r differ from layer to layer. An iterable of int8 blocks of +1 and -1, so that one
    layer is in memory at a time. Families whose entries are no integers have ``NO_ID`` instead.
    """
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()


def _replaced(value: object) -> Replaced:
    fields = Fields(value, "a replaced contribution", need=("client", "leaf"))
    return Replaced(fields.integer("leaf", 2), fields.hex("client"))


def _slug(value: object, name: str) -> str:
    try:
        if isinstance(value, str) and slug(value) == value:
            return value
    except InputError as error:
        raise bad_field(f"`{name}` of a contribution manifest is no slug") from error
    raise bad_field(f"`{name}` of a contribution manifest is no slug")


def _triggers(fields: Fields) -> tuple[str, ...]:
    items = fields.items("triggers", least=1, most=_MOST_TRIGGERS)
    triggers = tuple(_slug(item, "triggers") for item in items)
    if len(set(triggers)) != len(triggers):
        raise bad_field("`triggers` of a contribution manifest names one twice")
    return triggers


def _licence(fields: Fields) -> str:
    licence = fields.text("licence", most=64)
    if not _SPDX.fullmatch(licence):
        raise bad_field("`licence` of a contribution manifest is no SPDX id")
    return licence


def _title(fields: Fields) -> str:
    title = decode_text(fields.text("title", most=_TITLE_CHARACTERS))
    try:
        return check_title(title)
    except InputError as error:
        raise bad_field("`title` of a contribution manifest is not fit to be shown") from error


__all__ = ["NO_ID", "ContributionManifest", "Form", "Replaced", "block_fingerprint"]
