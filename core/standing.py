"""How each contribution stands, from the leaves of the ledger alone.

    contribution             accepted, unless an admission says otherwise
    admission                what it says; ``approved`` stands as ``accepted``
    withdrawal               withdrawn, for good; what is rejected can only be withdrawn still

Law: the last leaf that speaks of a contribution decides, so ledgers from before there were
admissions read as they did. Source: security.md 4.6 and 8. Not here: signatures, and whose word a
withdrawal is (core/withdrawal.py).
"""

from collections.abc import Iterable, Mapping
from typing import Literal, cast

from .fields import bad_field

Standing = Literal["pending", "accepted", "quarantined", "rejected", "withdrawn"]


def standings(leaves: Iterable[tuple[int, Mapping[str, object]]]) -> dict[int, Standing]:
    """Return how each contribution stands, by its leaf; give (index, parsed body), ascending.

    >>> said = {"kind": "admission", "leaf": 3, "verdict": "quarantined", "why": "norm"}
    >>> standings([(3, {"kind": "contribution"}), (4, said)])
    {3: 'quarantined'}

    Raises VerificationFailed ``bad-field``: a leaf speaks of a contribution that is not there, or
    changes what is for good.
    """
    found: dict[int, Standing] = {}
    for index, body in leaves:
        match body["kind"]:
            case "contribution":
                found[index] = "accepted"
            case "admission":
                verdict = cast("str", body["verdict"])
                said = "accepted" if verdict == "approved" else cast("Standing", verdict)
                _change(found, index, body["leaf"], said)
            case "withdrawal":
                doc = cast("dict[str, dict[str, object]]", body["doc"])
                _change(found, index, doc["body"].get("leaf"), "withdrawn")
            case _:
                pass
    return found


def _change(found: dict[int, Standing], index: int, leaf: object, said: Standing) -> None:
    before = found.get(leaf, "withdrawn") if isinstance(leaf, int) else "withdrawn"
    if before == "withdrawn" or (before == "rejected" and said != "withdrawn"):
        raise bad_field(f"leaf {index} speaks of a contribution that is not there, or out for good")
    found[cast("int", leaf)] = said
