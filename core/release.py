"""The release manifest: every file of a release, and every contribution in it or left out.

Law: each contribution leaf below ``size`` stands in exactly one of ``contributions`` and
``left_out``, so nothing is dropped in silence; each file has its length, its SHA-256 and that of
each 16 MiB, so a reader knows what to expect before it fetches (T16). File names never leave the
release's own folder, on no system (T10).
Source: security.md 4.8 and 7. Not here: whose signature it carries (core/document.py), which leaves
the ledger has (``check_complete`` is given them).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, cast, get_args

from .document import Document
from .fields import NO_ID, Fields, bad_field, is_hex
from .names import DEVICES

_T = TypeVar("_T", int, str)
Why = Literal["pending", "quarantined", "rejected", "superseded", "withdrawn", "private"]
CHUNK_BYTES: Final = 16 << 20
"""The length of each hashed part of a file but the last."""
_WHYS: Final = cast("tuple[Why, ...]", get_args(Why))
_MERGE_RULE: Final = 1
_LARGEST_LAMBDA: Final = 2_048
_MOST_FILES: Final = 4_096
_MOST_LEAVES: Final = 65_536
_NAME_PARTS: Final = 3
_NAME_PART = re.compile(r"[a-z0-9_][a-z0-9._-]{0,79}")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file: name, length, SHA-256 of the whole and of each 16 MiB (hex)."""

    name: str
    bytes: int
    sha256: str
    chunks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseManifest:
    """The signed description of release ``n``.

    ``contributions``: (ledger leaf, lambda in 1/1024). ``left_out``: (ledger leaf, why).
    ``prev``: id of the release before, 64 zeros for the first. ``size``: of the ledger that it was
    built from. ``t``: Unix seconds. Each list is sorted by its first member.
    """

    contributions: tuple[tuple[int, int], ...]
    fed: str
    files: tuple[FileEntry, ...]
    left_out: tuple[tuple[int, Why], ...]
    log: str
    n: int
    prev: str
    size: int
    t: int
    merge: int = _MERGE_RULE

    def body(self) -> dict[str, object]:
        """Return the body that is signed."""
        return {
            "contributions": [
                {"lambda": share, "leaf": leaf} for leaf, share in self.contributions
            ],
            "fed": self.fed,
            "files": [_file_body(entry) for entry in self.files],
            "left_out": [{"leaf": leaf, "why": why} for leaf, why in self.left_out],
            "log": self.log,
            "merge": self.merge,
            "n": self.n,
            "prev": self.prev,
            "size": self.size,
            "t": self.t,
            "v": 1,
        }

    @classmethod
    def from_document(cls, signed: Document) -> "ReleaseManifest":
        """Return the manifest of a document whose signature was checked against a keyring.

        Raises VerificationFailed ``bad-field``.
        """
        if signed.kind != "release":
            raise bad_field("a release manifest is a document of kind `release`")
        return cls.from_body(signed.body)

    @classmethod
    def from_body(cls, body: object) -> "ReleaseManifest":
        """Return the manifest of a body. Raises VerificationFailed ``bad-field``."""
        names = [
            "contributions",
            "fed",
            "files",
            "left_out",
            "log",
            "merge",
            "n",
            "prev",
            "size",
            "t",
            "v",
        ]
        fields = Fields(body, "a release manifest", need=names)
        fields.version()
        manifest = cls(
            contributions=tuple(
                _contribution(item) for item in fields.items("contributions", most=_MOST_LEAVES)
            ),
            fed=fields.hex("fed"),
            files=tuple(_file(item) for item in fields.items("files", most=_MOST_FILES)),
            left_out=tuple(_left_out(item) for item in fields.items("left_out", most=_MOST_LEAVES)),
            log=fields.hex("log"),
            merge=fields.integer("merge", _MERGE_RULE, _MERGE_RULE),
            n=fields.integer("n", 1),
            prev=fields.hex("prev"),
            size=fields.integer("size"),
            t=fields.integer("t"),
        )
        _check_lists(manifest)
        return manifest


def check_release_name(name: str) -> None:
    """Check that a file name of a release is safe on every system.

    At most 3 parts of ``[a-z0-9_][a-z0-9._-]{0,79}``, no ``..``, no final dot, no device name.
    Lower case makes names that differ also differ after case-folding.

    Raises VerificationFailed ``bad-field``.
    """
    parts = name.split("/")
    fits = len(parts) <= _NAME_PARTS and all(_is_name_part(part) for part in parts)
    if not fits:
        raise bad_field(f"a release file with a name of {len(name)} characters that is not allowed")


def check_complete(manifest: ReleaseManifest, leaves: Iterable[int]) -> None:
    """Check that the two lists hold exactly ``leaves``: the contribution leaves below ``size``.

    Raises VerificationFailed ``bad-field``.
    """
    listed = {leaf for leaf, _ in (*manifest.contributions, *manifest.left_out)}
    if listed != {leaf for leaf in leaves if leaf < manifest.size}:
        raise bad_field("the two lists of a release manifest are not the ledger's contributions")


def _is_name_part(part: str) -> bool:
    return bool(
        _NAME_PART.fullmatch(part)
        and ".." not in part
        and not part.endswith(".")
        and part.split(".", maxsplit=1)[0] not in DEVICES
    )


def _check_lists(manifest: ReleaseManifest) -> None:
    names = [entry.name for entry in manifest.files]
    folders = {name[: cut.start()] for name in names for cut in re.finditer("/", name)}
    if not _ascends(names) or folders & set(names):
        raise bad_field("`files` of a release manifest is not sorted by name, each name once")
    inside = [leaf for leaf, _ in manifest.contributions]
    outside = [leaf for leaf, _ in manifest.left_out]
    if not _ascends(inside) or not _ascends(outside) or set(inside) & set(outside):
        raise bad_field("the leaves of a release manifest are not sorted, each once")
    if any(leaf >= manifest.size for leaf in (*inside, *outside)):
        raise bad_field("a release manifest names a leaf that its ledger does not have")
    if (manifest.n == 1) != (manifest.prev == NO_ID):
        raise bad_field("`prev` of a release manifest is 64 zeros exactly for the first one")


def _ascends(values: Sequence[_T]) -> bool:
    return list(values) == sorted(set(values))


def _file_body(entry: FileEntry) -> dict[str, object]:
    return {
        "bytes": entry.bytes,
        "chunks": list(entry.chunks),
        "name": entry.name,
        "sha256": entry.sha256,
    }


def _file(value: object) -> FileEntry:
    fields = Fields(value, "a file entry", need=("bytes", "chunks", "name", "sha256"))
    size, name = fields.integer("bytes"), fields.text("name")
    check_release_name(name)
    wanted = -(-size // CHUNK_BYTES)
    chunks = fields.items("chunks", least=wanted, most=wanted)
    if not all(is_hex(chunk) for chunk in chunks):
        raise bad_field("`chunks` of a file entry holds something else than hashes")
    return FileEntry(name, size, fields.hex("sha256"), tuple(cast("list[str]", chunks)))


def _contribution(value: object) -> tuple[int, int]:
    fields = Fields(value, "a contribution entry", need=("lambda", "leaf"))
    return fields.integer("leaf"), fields.integer("lambda", 0, _LARGEST_LAMBDA)


def _left_out(value: object) -> tuple[int, Why]:
    fields = Fields(value, "a left-out entry", need=("leaf", "why"))
    return fields.integer("leaf"), cast("Why", fields.one_of("why", _WHYS))
