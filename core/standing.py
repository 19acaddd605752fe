"""How each contribution stands, from the leaves of the ledger alone.

    contribution             accepted, unless an admission says otherwise
    admission                what it says; ``approved`` stands as ``accepted``
    withdrawal               withdrawn, for good; what is rejected can only be withdrawn still
    contribution, replaces   of one concept's contributions that are accepted the last one stands
                             accepted, the ones before it superseded

    contribution, share      one more owner's part of the concept of the share's leaf

Laws: the last leaf that speaks of a contribution decides, so ledgers from before there were
admissions read as they did. One concept has one live contribution at the most (I3): while a
corrective one is in quarantine, or rejected, the one before stands as it did. A withdrawal takes
out the concept, whichever of its contributions it names; of a concept with several owners, that
owner's part. A share lets in as many owners as it says, to a concept that its giver has not taken
out (T29). Source: security.md 4.6 and 8. Not here: signatures (core/contribution.py), and whose
word a withdrawal is (core/withdrawal.py).
"""

from collections.abc import Iterable, Mapping
from typing import Literal, cast

from .fields import bad_field

Standing = Literal["pending", "accepted", "quarantined", "rejected", "superseded", "withdrawn"]
Leaves = Iterable[tuple[int, Mapping[str, object]]]
_SAME_CONCEPT = ("basis", "concept", "triggers")
_SAME_OWNER = ("basis", "concept", "share", "slot", "triggers")


def standings(leaves: Leaves) -> dict[int, Standing]:
    """Return how each contribution stands, by its leaf; give (index, parsed body), ascending.

    >>> said = {"kind": "admission", "leaf": 3, "verdict": "quarantined", "why": "norm"}
    >>> standings([(3, {"kind": "contribution"}), (4, said)])
    {3: 'quarantined'}

    Raises VerificationFailed ``bad-field``: a leaf speaks of a contribution that is not there, or
    changes what is for good, or replaces what is not its own.
    """
    found: dict[int, Standing] = {}
    said_of: dict[int, Mapping[str, object]] = {}
    concept: dict[int, list[int]] = {}  # one list for all of one owner's of a concept
    uses: dict[object, int] = {}  # of each share, by its signature
    for index, body in leaves:
        match body["kind"]:
            case "contribution":
                said_of[index] = _manifest(body)
                before = _before(index, said_of, found)
                if before is None and "share" in said_of[index]:
                    used = _check_share(index, said_of, found)
                    uses[used] = uses.get(used, 0) + 1
                    if uses[used] > cast("int", _share(said_of[index])["uses"]):
                        raise bad_field(f"leaf {index} uses a share more often than it allows")
                concept[index] = [] if before is None else concept[before]
                concept[index].append(index)
                found[index] = "accepted"
            case "admission":
                verdict = cast("str", body["verdict"])
                said = "accepted" if verdict == "approved" else cast("Standing", verdict)
                _change(found, index, body["leaf"], said)
            case "withdrawal":
                leaf = _manifest(body).get("leaf")
                _change(found, index, leaf, "withdrawn")
                for each in concept[cast("int", leaf)]:
                    found[each] = "withdrawn"
            case _:
                pass
    newest = {concept[leaf][0]: leaf for leaf, state in found.items() if state == "accepted"}
    for leaf, state in found.items():
        if state == "accepted" and newest[concept[leaf][0]] != leaf:
            found[leaf] = "superseded"
    return found


def concepts(leaves: Leaves) -> dict[int, int]:
    """Return, for each contribution, the first one of its concept; ``leaves`` as in `standings`."""
    first: dict[int, int] = {}
    for index, body in leaves:
        if body["kind"] == "contribution":
            replaced = _replaced(_manifest(body))
            first[index] = first.get(cast("int", replaced.get("leaf")), index)
    return first


def _manifest(body: Mapping[str, object]) -> Mapping[str, object]:
    """Return the signed body of a leaf, empty where it has none."""
    doc = cast("Mapping[str, Mapping[str, object]]", body.get("doc", {}))
    return doc.get("body", {})


def _replaced(manifest: Mapping[str, object]) -> Mapping[str, object]:
    value = manifest.get("replaces")
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def _before(
    index: int,
    said_of: Mapping[int, Mapping[str, object]],
    found: Mapping[int, Standing],
) -> int | None:
    """Return the contribution that this one replaces: one of its own slot and names (T4)."""
    said = said_of[index]
    if "replaces" not in said:
        return None
    replaced = _replaced(said)
    before = replaced.get("leaf")
    if not isinstance(before, int) or found.get(before, "withdrawn") == "withdrawn":
        raise bad_field(f"leaf {index} replaces a contribution that is not there, or withdrawn")
    was = said_of[before]
    same = all(said.get(name) == was.get(name) for name in _SAME_OWNER)
    if (
        not same
        or ("count" in said) != ("count" in was)
        or replaced.get("client") != was.get("client")
    ):
        raise bad_field(f"leaf {index} replaces contribution {before}, which is another concept's")
    return before


def _check_share(
    index: int,
    said_of: Mapping[int, Mapping[str, object]],
    found: Mapping[int, Standing],
) -> object:
    """Check that a share lets this contribution in, and return which it is (T29).

    Raises VerificationFailed ``bad-field``.
    """
    said, share = said_of[index], _share(said_of[index])
    leaf = share.get("leaf")
    nothing: Mapping[str, object] = {}
    was = said_of.get(leaf, nothing) if isinstance(leaf, int) else nothing
    given = (share.get("client"), share.get("slot")) == (was.get("client"), was.get("slot"))
    same = all(said.get(name) == was.get(name) for name in _SAME_CONCEPT)
    if not given or not same or "share" in was or "count" not in was:
        raise bad_field(f"leaf {index} joins a concept by a share that is not its first owner's")
    if found[cast("int", leaf)] == "withdrawn":
        raise bad_field(f"leaf {index} joins a concept that its first owner withdrew")
    return share.get("sig")


def _share(manifest: Mapping[str, object]) -> Mapping[str, object]:
    value = manifest.get("share")
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def _change(found: dict[int, Standing], index: int, leaf: object, said: Standing) -> None:
    before = found.get(leaf, "withdrawn") if isinstance(leaf, int) else "withdrawn"
    if before == "withdrawn" or (before == "rejected" and said != "withdrawn"):
        raise bad_field(f"leaf {index} speaks of a contribution that is not there, or out for good")
    found[cast("int", leaf)] = said
