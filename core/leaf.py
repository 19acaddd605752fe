"""The bodies of ledger leaves: one canonical JSON object for each thing that changes the model.

    spec (index 0), keyring (index 1 and each rotation), lease, contribution, admission, withdrawal,
    release

Law: a leaf that carries a signed document carries all of it, nested; canonical JSON means that the
signed bytes are found again by encoding the nested body. At most 16 KiB. No address, prompt, file
name or time beyond the signed ones gets in, nor a word that the operator typed (T27): an admission
names its reason by a code. What the leaves together say of a contribution: core/standing.py.
Source: security.md 4.6. Not here: hashing and the tree (core/merkle.py).
"""

import re
from collections.abc import Sequence
from typing import Final, Literal, cast, get_args

from .canonical import decode, encode
from .document import Document, from_value
from .fields import Fields, bad_field

LEAF_BYTES: Final = 16 << 10
"""The most bytes of one leaf."""
Verdict = Literal["pending", "accepted", "quarantined", "approved", "rejected"]
"""What admission, and then the operator, says of a contribution."""
_VERDICTS: Final = cast("tuple[Verdict, ...]", get_args(Verdict))
_WHY: Final = re.compile(r"[a-z]{1,20}(?:-[a-z]{1,20})?")
_SHAPES: Final = {
    "admission": ("leaf", "verdict", "why"),
    "spec": ("spec",),
    "keyring": ("doc",),
    "lease": ("client", "fence", "slot", "triggers"),
    "contribution": ("doc",),
    "withdrawal": ("doc",),
    "release": ("manifest", "n"),
}


def spec_leaf(fed: str) -> bytes:
    """Return leaf 0: the federation that this ledger is of."""
    return _leaf({"kind": "spec", "spec": fed})


def document_leaf(signed: Document) -> bytes:
    """Return the leaf of a keyring, a contribution or a withdrawal."""
    return _leaf({"doc": signed.value, "kind": signed.kind})


def lease_leaf(
    *, client: str, fence: int, slot: int, triggers: Sequence[str], block: int = -1
) -> bytes:
    """Return the leaf of a granted lease; ``block``: of a seat, the slot whose block it is of."""
    body: dict[str, object] = {"client": client, "fence": fence, "kind": "lease", "slot": slot}
    if block >= 0:
        body["block"] = block
    return _leaf({**body, "triggers": list(triggers)})


def admission_leaf(*, leaf: int, verdict: Verdict, why: str) -> bytes:
    """Return the leaf that says how the contribution at ``leaf`` stands from now on.

    ``why`` is a code, such as ``norm`` or ``operator``; the sentence is for its contributor alone.
    """
    return _leaf({"kind": "admission", "leaf": leaf, "verdict": verdict, "why": why})


def release_leaf(*, manifest: str, n: int) -> bytes:
    """Return the leaf of release ``n``; ``manifest`` is the id of its manifest."""
    return _leaf({"kind": "release", "manifest": manifest, "n": n})


def parse_leaf(data: bytes) -> dict[str, object]:
    """Return the body of a leaf of a known kind.

    Raises VerificationFailed: ``not-canonical`` or ``bad-field``.
    """
    if len(data) > LEAF_BYTES:  # T5: size before parsing
        raise bad_field(f"a ledger leaf of {len(data)} bytes, allowed are {LEAF_BYTES}")
    value = decode(data)
    if not isinstance(value, dict):
        raise bad_field("a ledger leaf that is no object")
    body = cast("dict[str, object]", value)
    kind = body.get("kind")
    if not isinstance(kind, str) or kind not in _SHAPES:
        raise bad_field("a ledger leaf of no known kind")
    may = ("block",) if kind == "lease" else ()
    fields = Fields(body, "a ledger leaf", need=("kind", "v", *_SHAPES[kind]), may=may)
    fields.version()
    _check_fields(fields, kind)
    return body


def _check_fields(fields: Fields, kind: str) -> None:
    match kind:
        case "spec":
            fields.hex("spec")
        case "lease":
            fields.hex("client")
            fields.integer("fence", 1)
            fields.integer("slot")
            if "block" in fields:
                fields.integer("block")
            for trigger in fields.items("triggers", least=1, most=16):
                if not isinstance(trigger, str):
                    raise bad_field("`triggers` of a ledger leaf holds something else than text")
        case "admission":
            fields.integer("leaf", 2)
            fields.one_of("verdict", _VERDICTS)
            if not _WHY.fullmatch(fields.text("why")):
                raise bad_field("`why` of a ledger leaf is no code")
        case "release":
            fields.hex("manifest")
            fields.integer("n", 1)
        case _:
            from_value(fields.raw("doc"), kind=kind)


def _leaf(body: dict[str, object]) -> bytes:
    data = encode({**body, "v": 1})
    parse_leaf(data)
    return data
