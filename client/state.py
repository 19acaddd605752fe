"""Keeps a session between processes: two generations, each believed only if its hashes match.

    state.json        {"files": {name: SHA-256}, "session": {...}, "v": 1} + newline + SHA-256 of it
    state.old.json    the generation before

Law: after a kill at any instruction `load` returns the session as it was before or after the last
`save`, never a mixture; a damaged newest generation falls back to the older one. ``files`` are
the blob, manifest, receipt and withdrawal that the phase promises: a session whose files are gone
or changed is not believed either (reliability.md 5). Cost: hashing one contribution, a few MB.
"""

import hashlib
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Final, get_args

from ..core import canonical
from ..core.errors import InputError, VerificationFailed
from ..core.fields import Fields, bad_field
from .home import write_whole
from .session import Phase, Session

BLOB: Final = "contribution.safetensors"
ASKED: Final = "asked.json"
"""What was asked of the work that is packed (asked.py)."""
FIDELITY: Final = "fidelity.json"
"""What an import lost of its LoRA."""
LOG: Final = "log"
"""The folder of training logs, one a lease; it stays at home."""
MANIFEST: Final = "manifest.json"
RECEIPT: Final = "receipt"
WITHDRAWAL: Final = "withdrawal.json"
WITHDRAWAL_RECEIPT: Final = "withdrawal-receipt"
RECIPIENTS: Final = "recipients"
"""Who can open a private contribution, a line each; empty for a public one."""
SEALED: Final = "contribution.sealed"
WRAPS: Final = "wraps"
NAMES: Final = ("state.json", "state.old.json")
"""The newest generation and the one before."""
_PROMISED: Final = {
    BLOB: "blob",
    MANIFEST: "document",
    RECEIPT: "receipt",
    WITHDRAWAL: "withdrawal",
    WITHDRAWAL_RECEIPT: "withdrawal_receipt",
}
"""The files that a phase promises, and the field that keeps the SHA-256 of each."""
_LISTS: Final[dict[str, type]] = {"triggers": str, "vectors": int}
_INTEGERS: Final = (
    *("counter", "epoch", "fence", "hold_s", "home", "release", "replaces", "slot", "ttl_s"),
)
_MOST_TRIGGERS: Final = 64
_TEXTS: Final = ("noun", "why")
"""Free text: canonical JSON holds it as base64url."""


def save(folder: Path, session: Session) -> None:
    """Write the session as the newest generation; the one before becomes the older."""
    promised: dict[str, str] = {name: getattr(session, each) for name, each in _PROMISED.items()}
    body = canonical.encode(
        {
            "files": {name: digest for name, digest in promised.items() if digest},
            "session": asdict(session)
            | {name: list(getattr(session, name)) for name in _LISTS}
            | {name: canonical.encode_text(getattr(session, name)) for name in _TEXTS},
            "v": 1,
        }
    )
    newest, older = (folder / name for name in NAMES)
    if _read(newest) is not None:  # a damaged one must not push out a good one
        newest.replace(older)
    whole = body + b"\n" + hashlib.sha256(body).hexdigest().encode() + b"\n"
    write_whole(newest, whole)


def load(folder: Path) -> Session | None:
    """Return the newest session whose hashes match, or None where there is none.

    Raises InputError: there are saves, and none can be believed.
    """
    paths = [folder / name for name in NAMES]
    for path in paths:
        session = _read(path)
        if session is not None:
            return session
    if not any(path.exists() for path in paths):
        return None
    raise InputError(
        f"{folder} holds a state that does not match its hashes",
        why="the disk changed it, or somebody edited it",
        fix=f"move {folder} away and run the command again; a new slot is leased then",
        code="state-damaged",
    )


def _read(path: Path) -> Session | None:
    try:
        body, digest, rest = path.read_bytes().split(b"\n")
        if rest or hashlib.sha256(body).hexdigest().encode() != digest:
            return None
        record = Fields(canonical.decode(body), "a state", need=("files", "session", "v"))
        promised = Fields(record.raw("files"), "the files of a state", need=(), may=_PROMISED)
        hashes = {name: promised.hex(name) for name in _PROMISED if name in promised}
        session = _session(record.raw("session"))
    except (FileNotFoundError, ValueError, VerificationFailed):
        return None
    for name, wanted in hashes.items():
        file = path.parent / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != wanted:
            return None
    return session


def _session(value: object) -> Session:
    """Return the session of a record; raises VerificationFailed for one of another shape."""
    known = {field.name: field.default is MISSING for field in fields(Session)}
    record = Fields(
        value, "a session", need=[n for n, needed in known.items() if needed], may=known
    )
    if "phase" in record:
        record.one_of("phase", get_args(Phase))
    read = {name: _value(record, name) for name in known if name in record}
    return Session(**read)  # pyright: ignore[reportArgumentType]


def _value(record: Fields, name: str) -> object:
    raw = record.raw(name)
    if name in _INTEGERS:
        return record.integer(name, -1)
    if name in _LISTS:
        items = record.items(name, most=_MOST_TRIGGERS)
        if all(type(item) is _LISTS[name] for item in items):
            return tuple(items)
    elif isinstance(raw, str):
        return canonical.decode_text(raw) if name in _TEXTS else raw
    raise bad_field(f"`{name}` of a session is of another type")
