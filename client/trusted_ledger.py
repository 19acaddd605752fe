"""The whole ledger up to a signed checkpoint, and what it says of one release.

    leaves -> root of the checkpoint;  leaf 0 is the spec, the keyring leaves are the chain's
    release: its leaf, by manifest id and number; the leaf before of its kind is its ``prev``
             signed by a release key of the keyring in force at that leaf, and before its ``until``
             every contribution leaf below ``size`` in exactly one of its two lists, no slot twice,
             nothing included that its client withdrew before the release's leaf, nothing called
             so that it did not; all that is included stands accepted, there too; what is kept out
             stands as it is called, and is sealed if it is called private; ``size`` is past the
             release before; the parts of one concept weigh what the images say that their owners
             signed; no client key has two contributions, each names this log and federation

Law: leaves are believed once they hash to a root that the ledger's key signed; kinds of a later
version are carried along and say nothing here. So nothing can be dropped from a release in silence,
and no file of another release passes for this one (T16, T17).
Cost: hashing every leaf once, about 5 us each. Source: security.md 3, 4.6, 4.8.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from ..core import canonical, document, merkle
from ..core.checkpoint import Checkpoint
from ..core.errors import Refused
from ..core.fields import NO_ID
from ..core.head import LedgerHead
from ..core.keyring import Keyring
from ..core.leaf import document_leaf, parse_leaf, spec_leaf
from ..core.owners import check_split
from ..core.receipt import make_receipt
from ..core.recorded import Recorded, check_once
from ..core.release import ReleaseManifest, check_complete
from ..core.standing import Standing, concepts, standings
from ..core.withdrawal import Withdrawal
from .trust import TrustedFederation, check, mismatch

_READERS_OWN = ("manifest.json", "trust")
_READ = ("admission", "contribution", "keyring", "release", "withdrawal")


@dataclass(frozen=True, slots=True)
class TrustedRelease:
    """A release manifest that the log's own release key signed, and its leaf in the ledger.

    ``contributions``: what the ledger holds of each that the manifest lists, by leaf; the clients'
    signatures are checked by who reads them (contributions.py).
    """

    federation: TrustedFederation
    manifest: ReleaseManifest
    leaf: int
    contributions: Mapping[int, document.Document]


@dataclass(frozen=True, slots=True)
class TrustedLedger:
    """Every leaf's body; ``leaves`` holds, by kind, index and body of those that are read here."""

    federation: TrustedFederation
    checkpoint: Checkpoint
    bodies: tuple[bytes, ...]
    leaves: dict[str, list[tuple[int, dict[str, object]]]]
    recorded: Mapping[int, Recorded]
    """What the leaf of each contribution records, by leaf."""

    def check_head(self, head: LedgerHead) -> None:
        """Check that a head names the newest release of the ledger, so that none is kept back.

        Raises VerificationFailed.
        """
        releases = self.leaves["release"]
        newest = releases[-1][1] if releases else {"manifest": NO_ID, "n": 0}
        if head.release != newest["n"]:
            raise mismatch(f"the head names release {head.release}, the newest is {newest['n']}")
        if head.manifest != newest["manifest"]:
            raise mismatch("the head names another manifest than the ledger")

    def keyring_at(self, leaf: int) -> Keyring:
        """Return the keyring that was in force when ``leaf`` was written, 2 or more."""
        places = [index for index, _ in self.leaves["keyring"]]
        return self.federation.keyrings[bisect_left(places, leaf) - 1]

    def prove(self, index: int, note: bytes) -> bytes:
        """Return the proof file of one leaf under the checkpoint ``note``."""
        hashes = [merkle.leaf_hash(body) for body in self.bodies]
        proof = merkle.inclusion_proof(hashes, index, len(hashes))
        return make_receipt(self.bodies[index], index, proof, note)

    def release(self, signed: bytes) -> TrustedRelease:
        """Return the release whose manifest is ``signed``, if it is this ledger's.

        Raises VerificationFailed: a check failed.
        """
        with check("manifest"):
            doc = document.parse(signed, kind="release")
            manifest = ReleaseManifest.from_document(doc)
            # T10: these names are the reader's own; a release with them would overwrite its proof.
            if any(e.name.split("/")[0] in _READERS_OWN for e in manifest.files):
                raise mismatch("the release names a file that only its reader may write")
            if (manifest.log, manifest.fed) != (self.federation.log, self.federation.spec.id):
                raise mismatch("the release names another log or federation")
        with check("ledger proof"):
            leaf = self._release_leaf(manifest, doc.id)
        with check("release signature"):
            ring = self.keyring_at(leaf)
            doc.verify(ring.release, need=1)
            doc.check_only(ring.release)
        with check("expiry"):
            ring.check_time(manifest.t)
        with check("completeness"):
            self._check_lists(manifest, leaf)
        contributions = {
            index: document.from_value(body["doc"], kind="contribution")
            for index, body in self.leaves["contribution"]
            if index < manifest.size
        }
        return TrustedRelease(self.federation, manifest, leaf, contributions)

    def manifest_id(self, n: int) -> str:
        """Return the manifest id of release ``n``.

        Raises Refused ``no-such-release``.
        """
        for _, body in self.leaves["release"]:
            if body["n"] == n:
                return str(body["manifest"])
        raise Refused(
            f"there is no release {n}" if n else "nothing is released yet",
            why=f"the ledger of {len(self.bodies)} leaves has no leaf of it",
            fix="pull the newest, or wait until the operator has released",
            code="no-such-release",
        )

    def _release_leaf(self, manifest: ReleaseManifest, manifest_id: str) -> int:
        releases = self.leaves["release"]
        mine = [index for index, body in releases if body["n"] == manifest.n]
        if len(mine) != 1 or self._id_at(mine[0]) != manifest_id:
            raise mismatch(f"the ledger has no leaf of this release {manifest.n}")
        before = [self._id_at(index) for index, body in releases if body["n"] == manifest.n - 1]
        if manifest.n > 1 and before != [manifest.prev]:
            raise mismatch(f"release {manifest.n} does not follow release {manifest.n - 1}")
        last = max((index for index, _ in releases if index < mine[0]), default=0)
        if not last < manifest.size <= mine[0]:
            raise mismatch(
                f"release {manifest.n} was built from {manifest.size} leaves, with the release"
                f" before it at leaf {last} and itself at leaf {mine[0]}"
            )
        return mine[0]

    def _id_at(self, leaf: int) -> str:
        return str(
            next(body for index, body in self.leaves["release"] if index == leaf)["manifest"]
        )

    def _check_lists(self, manifest: ReleaseManifest, leaf: int) -> None:
        check_complete(manifest, self.recorded)
        slots = [self.recorded[index].slot for index, _ in manifest.contributions]
        if len(slots) != len(set(slots)):
            raise mismatch(f"release {manifest.n} holds two contributions of one slot")
        check_once(self.recorded)
        gone = self._withdrawn(leaf)  # up to the release itself, however old its plan was
        if still := sorted(index for index, _ in manifest.contributions if index in gone):
            raise mismatch(f"release {manifest.n} holds contribution {still[0]}, withdrawn before")
        self._check_weights(manifest)
        told = {index for index, why in manifest.left_out if why == "withdrawn"}
        if alleged := sorted(told - self._withdrawn(manifest.size)):
            raise mismatch(
                f"release {manifest.n} leaves out contribution {alleged[0]} as withdrawn, and its"
                " client never said so"
            )
        self._check_admissions(manifest, leaf)

    def _check_weights(self, manifest: ReleaseManifest) -> None:
        """Check that the parts of one concept weigh what their owners' images say (T29)."""
        parts: dict[int, list[tuple[int, int]]] = {}
        for index, weight in manifest.contributions:
            said = self.recorded[index]
            parts.setdefault(said.block, []).append((weight, said.count))
        for found in parts.values():
            if len(found) > 1:
                check_split([weight for weight, _ in found], [count for _, count in found])

    def _check_admissions(self, manifest: ReleaseManifest, leaf: int) -> None:
        """Check how all stood when the release was planned, and what it holds at its leaf too.

        Between the two a contribution can be replaced by a later one of its concept, and no more.
        """
        stands, stand_now = self._standings(manifest.size), self._standings(leaf)
        gone = self._withdrawn(manifest.size)
        for index, _ in manifest.contributions:
            if self.recorded[index].private:
                raise mismatch(f"release {manifest.n} holds contribution {index}, which is sealed")
            now = stand_now[index]
            found = stands[index] if now in ("accepted", "superseded") else now
            if found != "accepted":
                raise mismatch(
                    f"release {manifest.n} holds contribution {index}, which the ledger has {found}"
                )
        for index, why in manifest.left_out:
            said = stands[index]
            if said == "accepted" and self.recorded[index].private:
                # A reader with a key merges what is called so: never what was withdrawn.
                said = "withdrawn" if index in gone else "private"
            if why not in ("withdrawn", said):
                raise mismatch(
                    f"release {manifest.n} leaves out contribution {index} as {why}, and the"
                    f" ledger has it {said}"
                )

    def _standings(self, size: int) -> dict[int, Standing]:
        both = (*self.leaves["admission"], *self.leaves["contribution"])
        return standings(sorted((pair for pair in both if pair[0] < size), key=lambda p: p[0]))

    def _withdrawn(self, size: int) -> set[int]:
        """Return the contributions whose concepts their own clients withdrew below ``size``."""
        found: set[int] = set()
        ours = (self.federation.log, self.federation.spec.id)
        first = concepts(self.leaves["contribution"])
        for index, body in self.leaves["withdrawal"]:
            if index < size:
                said = Withdrawal.from_document(document.from_value(body["doc"], kind="withdrawal"))
                of = self.recorded.get(said.leaf)
                # A word for another ledger counts in no other: leaves have the same numbers there.
                if of and of.client == said.client and (said.log, said.fed) == ours:
                    found.add(first[said.leaf])
        return {leaf for leaf in first if first[leaf] in found}


def trusted_ledger(
    federation: TrustedFederation,
    checkpoint: Checkpoint,
    bodies: Sequence[bytes],
    keyrings: Sequence[bytes],
) -> TrustedLedger:
    """Return the ledger, if ``bodies`` are all its leaves, and ``keyrings`` those in them.

    Raises VerificationFailed: a check failed.
    """
    with check("ledger"):
        root = merkle.root([merkle.leaf_hash(body) for body in bodies])
        if len(bodies) != checkpoint.size or root != checkpoint.root:
            raise mismatch(f"{len(bodies)} leaves that do not give the signed root")
        leaves: dict[str, list[tuple[int, dict[str, object]]]] = {kind: [] for kind in _READ}
        for index, body in enumerate(bodies):
            if (leaf := _leaf(body)) is not None:
                leaves[str(leaf["kind"])].append((index, leaf))
        if bodies[0] != spec_leaf(federation.spec.id):
            raise mismatch("leaf 0 is not this federation's spec")
        rings = [bodies[index] for index, _ in leaves["keyring"]]
        # Whole documents: a signature more or less changes no id, but the file (formats.md 2).
        told = [document_leaf(document.parse(data, kind="keyring")) for data in keyrings]
        if rings != told or leaves["keyring"][0][0] != 1:
            raise mismatch("the keyrings are not those of the ledger, in its order")
        recorded = {index: Recorded.of(leaf) for index, leaf in leaves["contribution"]}
        ours = (federation.log, federation.spec.id)
        if strange := [n for n, each in recorded.items() if (each.log, each.fed) != ours]:
            raise mismatch(f"contribution {strange[0]} names another log or federation")
    places = tuple(index for index, _ in leaves["keyring"])
    placed = replace(federation, keyring_leaves=places)
    return TrustedLedger(placed, checkpoint, tuple(bodies), leaves, recorded)


def _leaf(body: bytes) -> dict[str, object] | None:
    """Return the leaf, None for a kind that says nothing here."""
    if body.startswith(b'{"client":'):  # a lease, as most leaves are; no kind of _READ begins so
        return None
    value = canonical.decode(body)
    kind = cast("dict[str, object]", value).get("kind") if isinstance(value, dict) else None
    return parse_leaf(body) if kind in _READ else None
