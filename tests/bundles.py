"""One good release bundle with a history, and every part of it to be made wrong: R18's material.

    leaf 0 spec   1 keyring   2 3 anna   4 5 bert   6 release 1 of both   7 anna withdrawn
         8 9 cleo   10 release 2: bert and cleo in it, anna left out

``Parts`` holds what a bundle is signed from; ``folder`` gives the files as `orthofed pull` leaves
them, ``served`` what a coordinator would serve. Changed by ``replace`` it is what an attacker with
some of the keys could make; changed in the files, what one without keys can.
"""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from orthofed.core.contribution import ContributionManifest
from orthofed.core.document import Document, sign
from orthofed.core.keyring import Keyring, log_id
from orthofed.core.keys import SigningKey
from orthofed.core.leaf import document_leaf, lease_leaf, release_leaf, spec_leaf
from orthofed.core.receipt import make_receipt
from orthofed.core.release import ReleaseManifest
from orthofed.core.withdrawal import Withdrawal
from orthofed.proto import wire

from .mirror import (
    LEDGER,
    NOW_S,
    RELEASE,
    SignedRelease,
    entry_of,
    public_files,
    tensor_file,
    tiny_keyring,
    tiny_spec,
)
from .plain_ledger import PlainLedger

OWNERS = {
    name: SigningKey.from_seed(bytes([n]) * 32)
    for n, name in enumerate(("anna", "bert", "cleo"), start=40)
}
SLOTS = {"anna": 0, "bert": 1, "cleo": 2}
LEAF = 10
"""The leaf of release 2."""


def content(n: int) -> dict[str, bytes]:
    """Return the files of release ``n``."""
    return {
        "card.md": b"# tiny, release %d\n" % n,
        "checkpoint/unet/model.safetensors": tensor_file(n),
        "embeddings/bert-k7.safetensors": tensor_file(30 + n),
        "info.json": b'{"n":%d,"v":1}' % n,
        f"lora/tiny-r000{n}.safetensors": tensor_file(10 + n, 4096),
    }


@dataclass(frozen=True)
class Parts:
    """What a bundle is made from; ``leaves`` are those before its own, ``after`` those behind."""

    spec: bytes
    keyrings: tuple[Document, ...]
    leaves: tuple[bytes, ...]
    files: dict[str, bytes]
    manifest: dict[str, Any]
    signers: tuple[SigningKey, ...] = (RELEASE,)
    leaf: bytes | None = None
    after: tuple[bytes, ...] = ()
    ledger_key: SigningKey = LEDGER
    head: dict[str, Any] = field(default_factory=dict)
    log: str = ""

    @property
    def log_id(self) -> str:
        """The log id, as the founding says, or as claimed."""
        return self.log or log_id(hashlib.sha256(self.spec).hexdigest(), self.keyrings[0].id)

    @property
    def signed(self) -> Document:
        """The signed manifest."""
        return sign("release", self.manifest, self.signers)

    @property
    def bodies(self) -> list[bytes]:
        """Every leaf of the ledger."""
        n = self.manifest["n"]
        leaf = self.leaf or release_leaf(manifest=self.signed.id, n=n)
        return [*self.leaves, leaf, *self.after]

    def told(self, **changes: Any) -> "Parts":
        """Return the parts with other fields in the manifest."""
        return replace(self, manifest={**self.manifest, **changes})

    def with_files(self, files: dict[str, bytes]) -> "Parts":
        """Return the parts with other files, listed as they are."""
        entries = [entry_of(name, data) for name, data in sorted(files.items())]
        listed = [
            {"bytes": e.bytes, "chunks": list(e.chunks), "name": e.name, "sha256": e.sha256}
            for e in entries
        ]
        return replace(self.told(files=listed), files=files)

    def served(self) -> SignedRelease:
        """Return what a coordinator serves."""
        reply = wire.ManifestReply(
            document=self.signed.to_bytes(),
            receipt=b"receipt",
            spec=self.spec,
            keyrings=tuple(ring.to_bytes() for ring in self.keyrings),
        )
        said = {"release": self.manifest["n"], "manifest": self.signed.id, **self.head}
        public = public_files(self.bodies, self.log_id, reply, key=self.ledger_key, **said)
        return SignedRelease(self.log_id, self.files, reply, public)

    def folder(self) -> dict[str, bytes]:
        """Return the files that a pull of this release leaves."""
        served, plain = self.served(), PlainLedger(self.bodies)
        size, place = len(self.bodies), len(self.leaves)
        proof = make_receipt(
            self.bodies[place], place, plain.path(place, size), served.public["checkpoint"]
        )
        trust = {
            name: data
            for name, data in served.public.items()
            if not name.startswith("tile/") or name.startswith("tile/entries/")
        }
        return {
            **self.files,
            "manifest.json": served.reply.document,
            "trust/log": self.log_id.encode() + b"\n",
            "trust/release.proof": proof,
            **{f"trust/{name}": data for name, data in trust.items()},
        }


def contributed(name: str, log: str) -> list[bytes]:
    """Return the leaves of one lease and its contribution."""
    key, slot = OWNERS[name], SLOTS[name]
    manifest = ContributionManifest(
        basis="0" * 64,
        blob="1" * 64,
        bytes=4_096,
        client=key.public_hex,
        concept=name,
        fed=tiny_spec().id,
        fence=1,
        licence="CC0-1.0",
        log=log,
        slot=slot,
        t=NOW_S - 3_000,
        triggers=(f"{name}-k7",),
    )
    lease = lease_leaf(client=key.public_hex, fence=1, slot=slot, triggers=[f"{name}-k7"])
    return [lease, document_leaf(sign("contribution", manifest.body(), [key]))]


def release(
    n: int, log: str, *, size: int, inside: list[int], out: dict[int, str], prev: str
) -> Parts:
    """Return release ``n`` of a ledger that still has no leaves."""
    spec, ring = tiny_spec(), tiny_keyring()
    manifest = ReleaseManifest(
        contributions=tuple((leaf, 1024) for leaf in inside),
        fed=spec.id,
        files=(),
        left_out=tuple((leaf, why) for leaf, why in out.items()),  # pyright: ignore[reportArgumentType]  # a wrong one is what a test wants
        log=log,
        n=n,
        prev=prev,
        size=size,
        t=NOW_S - 60,
    )
    parts = Parts(spec.to_bytes(), (ring,), (), {}, manifest.body())
    return parts.with_files(content(n))


def first() -> Parts:
    """Return release 1 as it was when it was the newest."""
    spec, ring = tiny_spec(), tiny_keyring()
    log = log_id(spec.id, ring.id)
    leaves = [spec_leaf(spec.id), document_leaf(ring)]
    leaves += contributed("anna", log) + contributed("bert", log)
    made = release(1, log, size=6, inside=[3, 5], out={}, prev="0" * 64)
    return replace(made, leaves=tuple(leaves))


def good() -> Parts:
    """Return release 2, the newest."""
    before = first()
    word = Withdrawal(OWNERS["anna"].public_hex, tiny_spec().id, 3, before.log_id, NOW_S - 2_000)
    leaves = [*before.bodies, document_leaf(sign("withdrawal", word.body(), [OWNERS["anna"]]))]
    leaves += contributed("cleo", before.log_id)
    made = release(
        2,
        before.log_id,
        size=10,
        inside=[5, 9],
        out={3: "withdrawn"},
        prev=before.signed.id,
    )
    return replace(made, leaves=tuple(leaves))


def keyring(n: int, before: Document, signers: list[SigningKey], **changes: Any) -> Document:
    """Return keyring ``n`` that follows ``before``, with changes."""
    ring = Keyring.from_body(before.body)
    return sign("keyring", replace(ring, n=n, prev=before.id, **changes).to_body(), signers)


def founded(**changes: Any) -> Parts:
    """Return release 2 of a federation whose keyring 1 has other fields: another log id."""
    ring = sign(
        "keyring",
        replace(Keyring.from_body(tiny_keyring().body), **changes).to_body(),
        [SigningKey.from_seed(b"\3" * 32)],
    )
    log = log_id(tiny_spec().id, ring.id)
    parts = good()
    leaves = [parts.leaves[0], document_leaf(ring)]
    leaves += contributed("anna", log) + contributed("bert", log)
    made = release(1, log, size=6, inside=[3, 5], out={}, prev="0" * 64)
    return replace(made, keyrings=(ring,), leaves=tuple(leaves))
