"""One line of JSON from the bridge, as a checked value.

Law: size before structure (T5); a closed schema: every field that a call has and no other, each of
its type and within its bounds, no name twice; whoever breaks it gets InputError with a code and
changes nothing. The bridge is code that was pushed over Flower's open control port, so what it says
is a stranger's word (flower.md 5). Not here: what comes of it (bridge_desk.py).
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from ..core.errors import InputError
from ..core.fields import is_hex
from ..core.node_key import node_key

LINE_BYTES: Final = 64 << 10
_MOST_NODE: Final = (1 << 64) - 1
_MOST_NODES: Final = 4_096
_RECEIPT: Final = 32 << 10
_MOST_STEP: Final = (1 << 53) - 1
_CODE: Final = re.compile(r"[a-z0-9-]{0,64}")
_CONCEPT: Final = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,30}")
Heard = Literal["queued", "running", "waiting", "done", "refused"]
_HEARD: Final = get_args(Heard)


@dataclass(frozen=True, slots=True)
class Seen:
    """These nodes are there now."""

    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AskDue:
    """A question: what is to be told to these nodes, which are free."""

    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AskRound:
    """A question: how far the round of this shared concept is, by the ledger."""

    concept: str


@dataclass(frozen=True, slots=True)
class AskRounds:
    """A question: which shared concepts have owners that are still to answer a round."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A node answered so, or somebody who says so; ``receipt`` is not verified here."""

    order: bytes
    state: Heard
    code: str
    step: int
    receipt: bytes


@dataclass(frozen=True, slots=True)
class AskKeys:
    """A question: which node keys Flower is to know, and which nodes are to go."""


@dataclass(frozen=True, slots=True)
class Registered:
    """Flower knows this key as this node."""

    public_key: str
    node: int


@dataclass(frozen=True, slots=True)
class Unregistered:
    """Flower does not know this node any more."""

    node: int


Request = Seen | AskDue | AskRound | AskRounds | Hint | AskKeys | Registered | Unregistered


def parse_line(line: bytes) -> Request:  # noqa: C901, PLR0911  # one case a call
    """Return the request of one line; raises InputError, ``too-large`` or ``malformed``."""
    if len(line) > LINE_BYTES:
        raise _bad(f"a line of {len(line)} bytes", "too-large")
    try:
        value = json.loads(line, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:  # UTF-8's and long numbers' are ValueErrors
        raise _bad("a line that is no JSON") from error
    fields = _object(value)
    match fields.get("call"):
        case "seen":
            return Seen(_nodes(_all_of(fields, "nodes")["nodes"]))
        case "due":
            return AskDue(_nodes(_all_of(fields, "nodes")["nodes"]))
        case "round":
            return AskRound(_concept(_all_of(fields, "concept")["concept"]))
        case "rounds":
            _all_of(fields)
            return AskRounds()
        case "hint":
            return _hint(_all_of(fields, "answer")["answer"])
        case "keys":
            _all_of(fields)
            return AskKeys()
        case "registered":
            said = _all_of(fields, "node", "public_key")
            return Registered(_public_key(said["public_key"]), _node(said["node"]))
        case "unregistered":
            return Unregistered(_node(_all_of(fields, "node")["node"]))
        case _:
            raise _bad("a call that there is not")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _bad("a line that is no object")
    fields = cast("dict[str, object]", value)
    version = fields.get("v")
    if type(version) is not int or version != 1:
        raise _bad("a line of another version than 1")
    return fields


def _all_of(fields: dict[str, object], *names: str) -> dict[str, object]:
    if fields.keys() != {"v", "call", *names}:
        raise _bad("a call with missing or unknown fields")
    return fields


def _nodes(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(cast("list[object]", value)) > _MOST_NODES:
        raise _bad(f"nodes that are no list of at most {_MOST_NODES}")
    return tuple(map(_node, cast("list[object]", value)))


def _node(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MOST_NODE:
        raise _bad("a node that is no number of 64 bits")
    return value


def _concept(value: object) -> str:
    if not isinstance(value, str) or not _CONCEPT.fullmatch(value):
        raise _bad("a concept that is no slug")
    return value


def _public_key(value: object) -> str:
    if not isinstance(value, str) or node_key(value) != value:
        raise _bad("a public key in another spelling than its own")
    return value


def _hint(value: object) -> Hint:
    said = _object(value)
    if said.keys() != {"v", "order", "state", "code", "step", "receipt"}:
        raise _bad("an answer with missing or unknown fields")
    order, state, code, step = (said[name] for name in ("order", "state", "code", "step"))
    if not is_hex(order, 32) or state not in _HEARD:
        raise _bad("an answer about no order, or of no state")
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise _bad("an answer whose code is none")
    if type(step) is not int or not 0 <= step <= _MOST_STEP:
        raise _bad("an answer whose step is no number")
    return Hint(
        order=bytes.fromhex(cast("str", order)),
        state=cast("Heard", state),
        code=code,
        step=step,
        receipt=_receipt(said["receipt"]),
    )


def _receipt(value: object) -> bytes:
    try:
        found = base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except (binascii.Error, ValueError):
        found = None
    if found is None or len(found) > _RECEIPT:
        raise _bad("an answer whose receipt is no base64 of at most 32 KiB")
    return found


def _bad(what: str, code: str = "malformed") -> InputError:
    return InputError(
        what,
        why="the bridge's lines have a closed form, and it runs code that others may have pushed",
        fix="use an orthofed of the same version for coordinator and fleet",
        code=code,
    )
