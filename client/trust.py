"""Decides whether a spec, a keyring chain and a release are those of one pinned log.

    SHA-256 of spec = fed;  fed and keyring 1 -> log id = the pinned one;  keyring n signs n + 1
    release signature by a key of the keyring that was in force at its leaf; its leaf in the ledger

Law: nothing a server says is believed before it hangs on the log id, which came by another way (an
invite, a link). Each failure names the check: spec, keyring, log id, release signature, ledger
proof. Source: security.md 4.3, 4.7, 4.8 (T16, T17). Not here: file hashes and headers (verify.py),
the ledger's leaves (trusted_ledger.py), its head against clock and past (ledger_view.py).
"""

import contextlib
import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..core import canonical, document
from ..core.contribution import ContributionManifest
from ..core.errors import InputError, Refused, VerificationFailed
from ..core.fields import NO_ID
from ..core.keyring import Keyring, ledger_key_at, log_id
from ..core.leaf import document_leaf
from ..core.receipt import Receipt, checkpoint_size, verify_receipt
from ..core.spec import FederationSpec
from ..core.withdrawal import Withdrawal

_FIRST_KEYRING: Final = 1
"""The ledger's leaf of keyring 1: the spec is leaf 0."""


@dataclass(frozen=True, slots=True)
class TrustedFederation:
    """A spec and the keyrings 1, 2, 3, ..., all bound to ``log``."""

    log: str
    spec: FederationSpec
    keyrings: tuple[Keyring, ...]
    keyring_leaves: tuple[int, ...] = ()
    """Where they lie in the ledger, once that was read or proven; empty before."""

    @property
    def keyring(self) -> Keyring:
        """The newest keyring."""
        return self.keyrings[-1]

    def receipt(self, data: bytes) -> Receipt:
        """Return a receipt after every check; one from before a rotation stays good.

        T25: one key alone signs checkpoints of its size, so that a key that was rotated away signs
        nothing newer. Raises VerificationFailed: that key did not sign it, or it is damaged.
        """
        if len(self.keyring_leaves) != len(self.keyrings):
            raise mismatch("a receipt, and nobody proved where the keyrings lie")
        key = ledger_key_at(self.keyrings, self.keyring_leaves, checkpoint_size(data))
        return verify_receipt(data, log=self.log, ledger_key=key)


@contextlib.contextmanager
def check(name: str) -> Generator[None]:
    """Let any failure inside say which check it was; exit code 4.

    A side that does not answer, or a full disk, is no failed check and stays what it is.
    """
    try:
        yield
    except (InputError, Refused, VerificationFailed) as error:
        if error.code in ("spec-version", "tls-untrusted"):
            raise  # this client is too old, or nothing was read at all; the text says so
        raise VerificationFailed(
            f"check failed: {name}: {error.what}",
            why=error.why,
            fix=error.fix,
            code=f"{name.replace(' ', '-')}-failed",
        ) from error


def trusted_federation(log: str, spec: bytes, keyrings: Sequence[bytes]) -> TrustedFederation:
    """Return spec and newest keyring, if they are those of ``log``.

    Raises VerificationFailed: a check failed. Raises SpecError: the spec is of a later version.
    """
    fed = hashlib.sha256(spec).hexdigest()
    rings = trusted_keyrings(log, keyrings, fed=fed)
    with check("spec"):
        parsed = FederationSpec.from_bytes(spec)  # only now: its version is the federation's word
    return TrustedFederation(log, parsed, rings)


def placed(
    federation: TrustedFederation, keyrings: Sequence[bytes], proofs: Sequence[bytes]
) -> TrustedFederation:
    """Return the federation with its keyrings' places in the ledger, as ``proofs`` prove them.

    ``proofs``: of each keyring but the first, which is leaf 1, under a checkpoint by the newest
    ledger key; whoever has an older one alone can make none of them (T25).

    Raises VerificationFailed: a check failed.
    """
    places = [_FIRST_KEYRING]
    with check("keyring proof"):
        if len(proofs) != len(keyrings) - 1:
            raise mismatch(f"{len(proofs)} proofs for {len(keyrings)} keyrings")
        for data, proof in zip(keyrings[1:], proofs, strict=True):
            leaf = verify_receipt(proof, log=federation.log, ledger_key=federation.keyring.ledger)
            if leaf.leaf_body != document_leaf(document.parse(data, kind="keyring")):
                raise mismatch(f"leaf {leaf.index} is another one than the keyring's")
            if leaf.index <= places[-1]:
                raise mismatch(f"a keyring at leaf {leaf.index} that follows leaf {places[-1]}")
            places.append(leaf.index)
    return replace(federation, keyring_leaves=tuple(places))


def trusted_keyrings(
    log: str, keyrings: Sequence[bytes], *, fed: str | None = None
) -> tuple[Keyring, ...]:
    """Return the keyrings, if they are those of ``log``, and of the spec with the id ``fed``.

    Raises VerificationFailed: a check failed.
    """
    with check("keyring"):
        chain = _chain(keyrings)
        rings = tuple(Keyring.from_body(signed.body) for signed in chain)
    with check("spec"):
        if fed not in (None, rings[-1].fed):
            raise mismatch(f"a spec with SHA-256 {fed[:16]}..., signed is {rings[-1].fed[:16]}...")
    with check("log id"):
        found = log_id(rings[0].fed, chain[0].id)
        if found != log:
            raise VerificationFailed(
                f"log id {found[:16]}..., pinned is {log[:16]}...",
                why="this is another federation, or its history was rewritten",
                fix="ask the operator which log id is right, by a way you trust",
                code="other-log",
            )
    return rings


def trusted_receipt(federation: TrustedFederation, receipt: bytes, *, manifest: bytes) -> Receipt:
    """Return the receipt, if it is this log's word for the contribution ``manifest``.

    Raises VerificationFailed: it is not.
    """
    with check("receipt"):
        parsed = federation.receipt(receipt)
        doc = parsed.leaf.get("doc")
        if parsed.leaf.get("kind") != "contribution" or doc != _nested(manifest):
            raise mismatch("the receipt is of another contribution")
    return parsed


def trusted_contribution(
    federation: TrustedFederation, receipt: bytes
) -> tuple[Receipt, ContributionManifest, bytes]:
    """Return a receipt whose manifest is not at hand, the manifest in its leaf, and its document.

    Raises VerificationFailed: it is not this log's word for any contribution.
    """
    with check("receipt"):
        parsed = federation.receipt(receipt)
        if parsed.leaf.get("kind") != "contribution":
            raise mismatch("the receipt is of another leaf than a contribution's")
        signed = document.from_value(parsed.leaf.get("doc"), kind="contribution")
        manifest = ContributionManifest.from_document(signed)
        if (manifest.log, manifest.fed) != (federation.log, federation.spec.id):
            raise mismatch("the contribution is of another log or federation")
    return parsed, manifest, signed.to_bytes()


def trusted_withdrawal(
    federation: TrustedFederation, receipt: bytes, *, client: str, leaf: int
) -> Receipt:
    """Return the receipt, if it is this log's word that ``client`` withdrew contribution ``leaf``.

    Raises VerificationFailed: it is not.
    """
    with check("withdrawal receipt"):
        parsed = federation.receipt(receipt)
        if parsed.leaf.get("kind") != "withdrawal":
            raise mismatch("the receipt is of another leaf than a withdrawal's")
        signed = document.from_value(parsed.leaf.get("doc"), kind="withdrawal")
        said = Withdrawal.from_document(signed)
        wanted = (client, leaf, federation.log, federation.spec.id)
        if (said.client, said.leaf, said.log, said.fed) != wanted:
            raise mismatch("the receipt is of another withdrawal")
    return parsed


def _chain(keyrings: Sequence[bytes]) -> list[document.Document]:
    """Return the keyring documents, each signed by its own roots and those before it."""
    chain: list[document.Document] = []
    for data in keyrings:
        signed = document.parse(data, kind="keyring")
        ring = Keyring.from_body(signed.body)
        signed.verify(ring.root, need=ring.need)
        before = Keyring.from_body(chain[-1].body) if chain else None
        if before is not None:
            signed.verify(before.root, need=before.need)
        place = (len(chain) + 1, chain[-1].id if chain else NO_ID)
        if (ring.n, ring.prev) != place or (before is not None and ring.fed != before.fed):
            raise mismatch(f"keyring {ring.n} does not follow from the one before")
        chain.append(signed)
    if not chain:
        raise mismatch("there is no keyring")
    return chain


def _nested(data: bytes) -> object:
    return canonical.decode(data)


def mismatch(what: str) -> VerificationFailed:
    """Return the error for parts that are each well made, and do not belong together."""
    return VerificationFailed(
        what,
        why="the parts were not made for one another",
        fix="fetch it again; if that does not help, tell the operator",
        code="mismatch",
    )
