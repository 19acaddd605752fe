"""What `orthofed doctor FILE` finds in one file: what it is, who loads it and what is wrong.

Laws (T8): the file is read and never run, so a pickle is refused by its name and its first bytes;
no part of it is in memory but the header, of at most 8 MiB, and one piece of one tensor; a file
that cannot be read is a report with a failed check, and no error. Cost: one pass over the bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..core.adapter_checks import adapter_checks
from ..core.errors import InputError
from ..core.file_check import FileCheck
from ..core.file_kind import FileKind
from ..core.file_loads import file_loads
from ..core.file_values import FileValues
from ..core.header_checks import header_checks
from ..core.loaders import Verdict
from ..core.shown import shown
from ..core.tensorfile import WIDE, Header
from .adapter_file import read_header
from .read_values import read_values

_CONFIG: Final = "adapter_config.json"
_PICKLES: Final = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
_MAGIC: Final = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True, slots=True)
class ExaminedFile:
    """``header``, ``kind`` and ``values`` are None where the file could not be read."""

    path: Path
    size: int
    header: Header | None
    kind: FileKind | None
    values: FileValues | None
    loads: tuple[Verdict, ...]
    checks: tuple[FileCheck, ...]

    @property
    def failed(self) -> bool:
        """Whether a check failed."""
        return any(check.level == "fail" for check in self.checks)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The types of its tensors."""
        tensors = () if self.header is None else self.header.tensors
        return tuple(sorted({info.dtype for info in tensors}))


def examine_file(path: Path) -> ExaminedFile:
    """Return what is to be said of the file at ``path``. Raises OSError: it cannot be opened."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(9)
    # A header of 1,152 bytes starts as pickles do, but the ninth byte is its brace.
    if path.suffix.lower() in _PICKLES or (first.startswith(_MAGIC) and first[8:] != b"{"):
        return _unread(path, size, _pickle(path))
    try:
        header = read_header(path, WIDE)
    except InputError as error:
        why = f"{shown(error.what, 200)}; {error.why}"
        return _unread(path, size, FileCheck("fail", "readable", why, error.fix))
    kind = FileKind.of(header.tensors)
    loads = file_loads(kind, [info.name for info in header.tensors])
    values = read_values(path, header)
    checks = tuple(_checks(path, header, kind, loads, values))
    return ExaminedFile(path, size, header, kind, values, loads, checks)


def _checks(
    path: Path, header: Header, kind: FileKind, loads: Sequence[Verdict], values: FileValues
) -> Iterator[FileCheck]:
    yield FileCheck("ok", "readable", "safetensors, whole")
    if kind.kind == "LoRA, PEFT's names":
        yield _peft(path)
    if kind.is_lora:
        yield from adapter_checks(header, kind, loads, values)
    yield from header_checks(header, values)


def _peft(path: Path) -> FileCheck:
    """Say that PEFT's folder is one thing; diffusers takes its file and does nothing with it."""
    fix = "give the folder to PeftModel.from_pretrained, never to load_lora_weights"
    if (path.parent / _CONFIG).is_file():
        return FileCheck("warn", "kind", f"PEFT's: its scale is in {_CONFIG} beside it", fix)
    what = f"PEFT's, and the {_CONFIG} with its scale is not beside it"
    return FileCheck("fail", "kind", what, "get the whole folder")


def _unread(path: Path, size: int, check: FileCheck) -> ExaminedFile:
    return ExaminedFile(path, size, None, None, None, (), (check,))


def _pickle(path: Path) -> FileCheck:
    return FileCheck(
        "fail",
        "pickle",
        f"{shown(path.name)} is a pickle, or named like one, and was not opened: loading a pickle"
        " runs whatever its author wrote in it",
        "ask its author for safetensors, or convert it on a machine that holds nothing of yours",
    )
