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
from dataclasses import dataclass

from ..core import canonical, document
from ..core.contribution import ContributionManifest
from ..core.errors import InputError, Refused, VerificationFailed
from ..core.fields import NO_ID
from ..core.keyring import Keyring, ledger_key_at, log_id
from ..core.receipt import Receipt, checkpoint_size, verify_receipt
from ..core.spec import FederationSpec
from ..core.withdrawal import Withdrawal


@dataclass(frozen=True, slots=True)
class TrustedFederation:
    """A spec and the keyrings 1, 2, 3, ..., all bound to ``log``."""

    log: str
    spec: FederationSpec
    keyrings: tuple[Keyring, ...]
    keyring_leaves: tuple[int, ...] = ()
    """Where they lie in the ledger, for who has read it; empty otherwise."""

    @property
    def keyring(self) -> Keyring:
        """The newest keyring."""
        return self.keyrings[-1]

    def receipt(self, data: bytes) -> Receipt:
        """Return a receipt after every check; one from before a rotation stays good.

        Who has read the ledger knows where the keyrings lie, and asks for the one key that signs
        checkpoints of this size, so that a key that was rotated away signs nothing newer (T25).
        Else any keyring of the chain will do.
        Raises VerificationFailed: none of them signed it, or it is damaged.
        """
        if self.keyring_leaves:
            size = checkpoint_size(data)
            keys = [ledger_key_at(self.keyrings, self.keyring_leaves, size)]
        else:
            keys = [ring.ledger for ring in reversed(self.keyrings)]
        for key in keys[1:]:
            with contextlib.suppress(VerificationFailed):
                return verify_receipt(data, log=self.log, ledger_key=key)
        return verify_receipt(data, log=self.log, ledger_key=keys[0])


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
