"""The checks of `orthofed doctor FILE` that any tensor file gets: limits, values, metadata.

Everything quoted from the file is escaped and cut. Law: a line says what was measured and what is
allowed; what `--fix` can put right names it as the fix. Cost: linear in the header.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from .file_check import FileCheck
from .file_values import FileValues
from .metadata_rules import false_hashes, forbidden_keys, hash_injections, strange_values
from .shown import shown
from .tensorfile import STRICT, Header

FIX: Final = "write a clean copy with --fix OUT"
_FIRST: Final = 3
_KEYS_SHOWN: Final = 8
_NAME: Final = 90


def header_checks(header: Header, values: FileValues) -> Iterator[FileCheck]:
    """Give the checks of header and numbers."""
    yield _limits(header)
    yield _values(values)
    yield from _metadata(header.metadata, values)


def named(names: Sequence[str], most: int = _FIRST) -> str:
    """Return the first few names for a line, and how many more there are."""
    told = ", ".join(shown(name, _NAME) for name in names[:most])
    return told if len(names) <= most else f"{told} and {len(names) - most} more"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _limits(header: Header) -> FileCheck:
    beyond: list[str] = []
    length = header.data_start - 8
    if length > STRICT.header_bytes:
        beyond.append(f"a header of {length:,} bytes (limit {STRICT.header_bytes:,})")
    if len(header.metadata) > STRICT.metadata_keys:
        beyond.append(f"{len(header.metadata)} keys of metadata (limit {STRICT.metadata_keys})")
    axes = max((len(info.shape) for info in header.tensors), default=0)
    if axes > STRICT.dimensions:
        beyond.append(f"a tensor of {axes} dimensions (limit {STRICT.dimensions})")
    types = sorted({info.dtype for info in header.tensors} - set(STRICT.sizes))
    if types:
        beyond.append(f"{', '.join(types)} (read: {', '.join(STRICT.sizes)})")
    if not beyond:
        return FileCheck("ok", "limits", "within those of strict readers, OrthoFed's too")
    what = f"{'; '.join(beyond)}: OrthoFed's strict reader refuses the file, though others take it"
    return FileCheck("warn", "limits", what, FIX)


def _values(values: FileValues) -> FileCheck:
    if not values.not_finite:
        return FileCheck("ok", "values", "every number is finite")
    count = sum(values.not_finite.values())
    return FileCheck(
        "fail",
        "values",
        f"{count:,} NaN or infinite in {counted(len(values.not_finite), 'tensor')}:"
        f" {named(list(values.not_finite))}; pictures come out black",
        "ask for an earlier save of this training; nothing can repair it",
    )


def _metadata(metadata: Mapping[str, str], values: FileValues) -> Iterator[FileCheck]:
    forbidden = forbidden_keys(metadata)
    if forbidden:
        largest = sorted(forbidden, key=lambda key: (-len(metadata[key]), key))
        told = ", ".join(
            f"{shown(key, _NAME)} ({len(metadata[key].encode('utf-8', 'replace')):,} bytes)"
            for key in largest[:_KEYS_SHOWN]
        )
        more = f" and {len(forbidden) - _KEYS_SHOWN} more" if len(forbidden) > _KEYS_SHOWN else ""
        what = "that may tell of the training, its pictures or its author"
        said = f"{counted(len(forbidden), 'key')} {what}: {told}{more}"
        yield FileCheck("warn", "metadata", said, FIX)
    else:
        yield FileCheck(
            "ok", "metadata", f"{counted(len(metadata), 'key')}, none that tells of the training"
        )
    injections = hash_injections(metadata)
    strange = [key for key in strange_values(metadata) if key not in injections]
    if injections:
        what = f"markup in {named(injections)}, which A1111 puts into its page as it is"
        yield FileCheck("fail", "characters", what, FIX)
    if strange:
        what = f"other characters than plain text, or more than 4 KiB: {named(strange)}"
        yield FileCheck("warn", "characters", what, FIX)
    false = false_hashes(metadata, values.tensor_hash)
    if false:
        what = f"{named(false)} is not {values.tensor_hash[:12]}, the hash of these tensors"
        fix = "get the file again from its source, or write a copy with --fix OUT"
        yield FileCheck("warn", "hash", what, fix)
