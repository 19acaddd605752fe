"""New keys for a federation: keyring n + 1, from its proposal to its leaf in the ledger.

Laws (security.md 3, T25): keyring n + 1 carries the id of n and needs the roots of both; its ledger
leaf is the hand-over, and that very leaf is the first that the new ledger key signs for. The key
file is written before, the keyring row and the leaf are one transaction, and the running process
takes the key over in the moment of its COMMIT: so a kill anywhere leaves the old keyring with the
old key, or the new one with the new. Old key files stay; the keyring decides which one signs.
Not here: the files (keyfile.py), whose signature counts for what (client/trust.py).
"""

import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.canonical import decode, encode
from ..core.document import Document, from_value, parse, sign
from ..core.errors import InputError, OrthoFedError, VerificationFailed
from ..core.fields import is_hex
from ..core.keyring import Keyring
from ..core.keys import SigningKey
from ..core.leaf import document_leaf
from . import keyring_proofs, meta_rows
from .audit_log import AuditLog
from .clock import Clock
from .closing import opening, write_sum
from .folder import DataFolder
from .fs import Fs
from .house import House
from .keyfile import Role, find_key, save_next_key
from .ledger import Ledger
from .mark import check_mark
from .store import Store

_MOST_KEYRINGS = 64
_DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What the next keyring has anew. ``root``: public keys, empty for those of before."""

    ledger: bool = False
    release: bool = False
    keep_release: bool = False
    root: tuple[str, ...] = ()
    need: int | None = None
    days: int = 365


def propose(keys: Path, newest: Keyring, change: Change, *, now_s: int, fs: Fs) -> Keyring:
    """Return the next keyring, nobody's signature on it; new private keys are written to ``keys``.

    ``keep_release``: the release keys of before stay good beside the new one, so that two operators
    can change over. Raises InputError: nothing would change, or it is out of bounds.
    """
    if not (change.ledger or change.release or change.root or change.need):
        raise _bad_change("nothing is to change", "say --ledger, --release or --root")
    if newest.n >= _MOST_KEYRINGS:
        raise _bad_change(f"keyring {newest.n} is the last of {_MOST_KEYRINGS}", "found anew")
    if not all(is_hex(key) for key in change.root):
        raise _bad_change("a root that is not 64 hex digits", "give what `keyring root` printed")
    ledger, release = newest.ledger, newest.release
    if change.ledger:
        ledger = _made(keys, "ledger", fs)
    if change.release:
        kept = newest.release[:3] if change.keep_release else ()
        release = (_made(keys, "release", fs), *kept)
    root = change.root or newest.root
    body = replace(
        newest,
        n=newest.n + 1,
        prev=newest.id,
        ledger=ledger,
        release=release,
        root=root,
        need=min(newest.need, len(root)) if change.need is None else change.need,
        t=max(now_s, newest.t),
        until=max(now_s, newest.t) + change.days * _DAY_S,
    ).to_body()
    try:
        return Keyring.from_body(body)
    except VerificationFailed as error:
        raise _bad_change(error.what, "correct the roots or their number") from error


def proposal_bytes(ring: Keyring) -> bytes:
    """Return a proposal as it travels to the machines with the root keys."""
    return encode({"body": ring.to_body(), "kind": "keyring", "sigs": []})


def countersign(data: bytes, key: SigningKey) -> tuple[Keyring, bytes]:
    """Return the keyring of a proposal, and the proposal with this key's signature too.

    Raises VerificationFailed: it is no proposal. Raises InputError: the key has no say in it.
    """
    body, sigs = _proposal(data)
    ring = Keyring.from_body(body)
    mine = sign("keyring", body, (key,))
    others = [each for each in sigs if each["key"] != key.public_hex]
    value = {**mine.value, "sigs": sorted([*others, *_sigs(mine)], key=lambda each: each["key"])}
    return ring, encode(value)


def install(house: House, data: bytes) -> int:
    """Make a signed keyring the newest; return its number. Once more changes nothing.

    Raises VerificationFailed: it does not follow, or too few roots signed. Raises InputError: its
    ledger key is not here.
    """
    if data == house.facts.keyrings[-1]:
        return house.facts.ring.n
    ring, key = _checked(data, house.facts.ring, house.folder, house.clock)

    def take_over(rows: tuple[tuple[bytes, ...], tuple[bytes, ...]]) -> None:
        keyrings, proofs = rows
        house.ledger.take_over(key)
        house.facts = replace(house.facts, keyrings=keyrings, keyring_proofs=proofs)

    def write(db: sqlite3.Connection) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        _write(db, house.ledger, data, house.facts.keyrings[-1], key)
        return meta_rows.keyrings(db), keyring_proofs.stored(db)

    house.store.run(write, after=take_over, alone=True)
    house.heads.write_soon()
    return ring.n


def install_stopped(folder: DataFolder, data: bytes, *, who: str, clock: Clock, fs: Fs) -> int:
    """Do the same in a folder whose coordinator cannot start: its ledger key is lost.

    ``who`` asked for it is in the audit log, as where the desk does it (audited_desk.py). Raises as
    ``install``, Refused: another process owns the folder, and VerificationFailed: the database was
    changed since it was closed.
    """
    with folder.locked():
        log = AuditLog(folder.audit_log, fs=fs, clock=clock)
        number = log.begun(who, "keyring-install", {"document": data.decode(errors="replace")})
        said = "failed"
        try:
            with opening(folder, fs=fs):
                n = _install_stopped(folder, data, clock, fs)
            write_sum(folder, fs=fs)
            said = "ok"
        except OrthoFedError as error:
            said = error.code
            raise
        finally:
            log.ended(number, said)
            log.close()
    return n


def _install_stopped(folder: DataFolder, data: bytes, clock: Clock, fs: Fs) -> int:
    store = Store(folder.database, fs=fs)
    try:
        store.run(lambda db: check_mark(db, folder.mark_file()))
        newest = store.run(meta_rows.keyrings)[-1]
        log = store.run(lambda db: meta_rows.value(db, "log")).decode()
        before = Keyring.from_body(parse(newest, kind="keyring").body)
        ring, key = _checked(data, before, folder, clock)
        store.run(lambda db: _write(db, Ledger(key, log), data, newest, key))
    finally:
        store.close()
    return ring.n


def _checked(
    data: bytes, newest: Keyring, folder: DataFolder, clock: Clock
) -> tuple[Keyring, SigningKey]:
    """Return the keyring that ``data`` signs, and its ledger key, which is here."""
    signed = parse(data, kind="keyring")
    check_follows(signed, newest)
    ring = Keyring.from_body(signed.body)
    ring.check_time(clock.wall_s())
    return ring, find_key(folder.keys, "ledger", (ring.ledger,))


def _write(
    db: sqlite3.Connection, ledger: Ledger, data: bytes, newest: bytes, key: SigningKey
) -> None:
    """Write leaf and row of a keyring, and where all of them lie, in one transaction."""
    signed = parse(data, kind="keyring")
    n = Keyring.from_body(signed.body).n
    if meta_rows.keyrings(db)[-1] != newest:
        raise _does_not_follow(n, "another keyring was installed meanwhile")
    ledger.append(db, document_leaf(signed), key=key)
    meta_rows.add_keyring(db, n, data)
    keyring_proofs.renew(db)


def newest_public(folder: DataFolder) -> Keyring:
    """Return the newest keyring as it is published, which needs no running coordinator."""
    paths = folder.keyrings()
    if not paths:
        raise VerificationFailed(
            f"{folder.public / 'keyring'} holds no keyring",
            why="the newest one says who signs what",
            fix=f"run orthofed coordinator status {folder.root}, which writes it again",
            code="no-keyring",
        )
    return Keyring.from_body(parse(paths[-1].read_bytes(), kind="keyring").body)


def check_follows(signed: Document, newest: Keyring) -> None:
    """Check that a signed keyring is the next one, by the word of the old roots and its own.

    Raises VerificationFailed.
    """
    ring = Keyring.from_body(signed.body)
    if (ring.n, ring.prev, ring.fed) != (newest.n + 1, newest.id, newest.fed):
        raise _does_not_follow(ring.n, f"the newest is keyring {newest.n}, and it names another")
    signed.verify(newest.root, need=newest.need)
    signed.verify(ring.root, need=ring.need)


def _made(keys: Path, role: Role, fs: Fs) -> str:
    key = SigningKey.from_seed(secrets.token_bytes(32))
    save_next_key(keys, role, key, fs=fs)
    return key.public_hex


def _proposal(data: bytes) -> tuple[dict[str, object], Sequence[dict[str, str]]]:
    """Return body and signatures of a proposal, which may have none yet."""
    value = decode(data)
    if isinstance(value, dict) and value.get("sigs") == [] and value.get("kind") == "keyring":
        body = value.get("body")
        return Keyring.from_body(body).to_body(), ()
    found = from_value(value, kind="keyring")
    return found.body, _sigs(found)


def _sigs(signed: Document) -> list[dict[str, str]]:
    return [{"key": each.key, "sig": each.sig} for each in signed.sigs]


def _does_not_follow(n: int, why: str) -> VerificationFailed:
    return VerificationFailed(
        f"keyring {n} does not follow",
        why=why,
        fix="propose it again from the newest keyring",
        code="keyring-does-not-follow",
    )


def _bad_change(what: str, fix: str) -> InputError:
    return InputError(
        what,
        why="a keyring changes keys, roots or their number, within the bounds of its format",
        fix=fix,
        code="bad-keyring-change",
    )
