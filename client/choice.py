"""Which files of a release a folder holds: all, or those for one or more programs.

    trust/choice.json    {"as": [kind, ...], "v": 1}; absent: all files

Law: the record is signed by nobody, as nothing that a consumer chooses is. It makes a removed file
a missing one: what it names has to be there, whole, and nothing else; and who verifies prints how
many files of the release these are. Source: formats.md 2 and 11.
"""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from ..core import canonical
from ..core.derived_file import DerivedFile
from ..core.errors import InputError, VerificationFailed
from ..core.fields import Fields
from ..core.kinds import DERIVABLE, PUBLISHED
from ..core.release import FileEntry, ReleaseManifest
from ..core.sample_picture import FOLDER

CHOICE: Final = "trust/choice.json"
_VECTORS: Final = ("embeddings/", "layerwise/")
_SHOWN: Final = ("card.md", "info.json", FOLDER)
_BUNDLE: Final = "-a1111.safetensors"
"""For AUTOMATIC1111 alone: others refuse such a file or drop it (formats.md 5.3)."""
PROGRAMS: Final = {
    "a1111": ("lora/",),
    "checkpoint": ("checkpoint/",),
    "diffusers": ("diffusers/", *_VECTORS),
    "full": ("full/", *_VECTORS),
    "kohya": ("lora/", *_VECTORS),
    "peft": ("peft/", *_VECTORS),
}
"""What each kind of consumer loads; info.json, card.md and its pictures come with every one."""
_MADE_FOR: Final = {
    "a1111": {"a1111"},
    "checkpoint": {"checkpoint"},
    "diffusers": {"diffusers", "embedding"},
    "full": {"full", "embedding"},
    "kohya": {"lora", "embedding"},
    "peft": {"peft", "embedding"},
}
"""The same by the kinds of core/kinds.py."""
_MOST_BYTES: Final = 1 << 10
_OTHERWISE: Final = (
    "compose it, which needs no signed hash: --as {0} with a --concept for each concept that you"
    " want, and --base FOLDER if it asks for one; or give one of these after --as"
)
"""For a release that an earlier version published: it describes no files that it does not have."""


def chosen_files(
    manifest: ReleaseManifest, kinds: Collection[str], derived: Iterable[DerivedFile] = ()
) -> tuple[FileEntry, ...]:
    """Return the published files of a release that ``kinds`` name; without a kind, all of them.

    ``derived``: what info.json says that a consumer can make.
    Raises InputError: a kind that the release has neither of, or no kind at all.
    """
    can_be_made = {file.kind for file in derived}
    there = {kind for kind in PROGRAMS if kind in can_be_made or _has(manifest, kind)}
    if kinds and not there and not manifest.contributions:
        raise InputError(
            f"release {manifest.n} holds no concept that everybody may read",
            why="its concepts are sealed, or the last one was withdrawn",
            fix="leave --as out, merge what is sealed for you with --key and --base, or pull"
            " another release with --release",
            code="not-published",
        )
    known = ", ".join(sorted(there)) or "none of the known kinds"
    wanted: set[str] = set()
    for kind in kinds:
        if kind not in there:
            raise InputError(
                f"release {manifest.n} has no files for {kind[:20]!r}",
                why=f"it was published with {known}",
                fix=_OTHERWISE.format(kind)
                if kind in DERIVABLE
                else "give one of these after --as, or leave it out to get all",
                code="not-published",
            )
        wanted |= {entry.name for entry in manifest.files if _is_of(entry.name, kind)}
    return tuple(e for e in manifest.files if not wanted or e.name in wanted)


def chosen_derived(derived: Iterable[DerivedFile], kinds: Iterable[str]) -> tuple[DerivedFile, ...]:
    """Return the files that a consumer of ``kinds`` makes; without a kind, none."""
    chosen = set(kinds)
    return tuple(file for file in derived if file.kind in chosen)


def kinds_for(programs: Collection[str], *, default: Collection[str] = PUBLISHED) -> frozenset[str]:
    """Return the kinds of files that are made for ``programs``; without one, ``default``.

    Raises InputError: a program that there is not.
    """
    for program in programs:
        if program not in _MADE_FOR:
            raise InputError(
                f"there are no files for {program[:20]!r}",
                why=f"files are made for {', '.join(sorted(_MADE_FOR))}",
                fix="give one of these after --as",
                code="not-published",
            )
    return frozenset().union(*(_MADE_FOR[each] for each in programs)) or frozenset(default)


def choice_bytes(kinds: Iterable[str]) -> bytes:
    """Return the record of a choice."""
    return canonical.encode({"as": sorted(set(kinds)), "v": 1})


def read_choice(folder: Path) -> tuple[str, ...]:
    """Return the kinds that a folder says it was pulled for, none for all.

    Raises VerificationFailed: the record is damaged.
    """
    try:
        data = (folder / CHOICE).read_bytes()[: _MOST_BYTES + 1]
    except FileNotFoundError:
        return ()
    fields = Fields(canonical.decode(data[:_MOST_BYTES]), "a choice", need=("as", "v"))
    fields.version()
    kinds = [str(kind) for kind in fields.items("as", least=1, most=len(PROGRAMS))]
    if data != choice_bytes(kinds) or not set(kinds) <= PROGRAMS.keys():
        raise VerificationFailed(
            f"{CHOICE} names kinds of files that there are not",
            why="it was changed after the pull",
            fix="pull the release again into a new folder",
            code="not-as-signed",
        )
    return tuple(kinds)


def _has(manifest: ReleaseManifest, kind: str) -> bool:
    folder = PROGRAMS[kind][0]
    return any(e.name.startswith(folder) and _is_of(e.name, kind) for e in manifest.files)


def _is_of(name: str, kind: str) -> bool:
    bundle = name.endswith(_BUNDLE)
    return name.startswith(_SHOWN) or (
        name.startswith(PROGRAMS[kind]) and bundle == (kind == "a1111")
    )
