"""One file of a release before it is written or compared: its name and how its bytes come to be.

Law: bytes depend on content only (formats.md 1, law 1), and nothing is read or computed before
``data`` is asked for. The tensor hash stands in the header and is known after the last byte of
``data``; a header's length does not depend on it, so a writer puts it right at the end and a
reader compares it then. Writing is coordinator/writing.py, comparing client/rebuild.py.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .tensorfile import header_bytes

Entry = tuple[str, str, tuple[int, ...]]
"""Name, type and shape of one tensor."""
Buffer = bytes | memoryview
"""Bytes of a file, in pieces of any size; a view has one byte an item."""
Work = Callable[[], memoryview]
"""One tensor's bytes, when it is called; safe on any thread."""
Run = Callable[[Iterable[Work]], Iterator[memoryview]]
"""Does pieces of work, perhaps ahead of time, and gives the results in order."""
NO_HASH = "0" * 64


@dataclass(frozen=True, slots=True, eq=False)
class TensorFile:
    """A safetensors file: ``data`` gives the tensors' bytes in file order, once.

    ``metadata`` makes the header's metadata from the tensor hash in hex; ``kind`` and ``dtype`` are
    info.json's words; ``keep_order``: the tensors stand as in a base model, else by name.
    """

    name: str
    kind: str
    dtype: str
    entries: tuple[Entry, ...]
    data: Iterable[Buffer]
    metadata: Callable[[str], dict[str, str]]
    keep_order: bool = False

    def header(self, digest: str = NO_HASH) -> bytes:
        """Return everything before the data, for the tensor hash ``digest``."""
        return header_bytes(self.entries, self.metadata(digest), keep_order=self.keep_order)

    def made(self, digest: str) -> "MadeFile":
        """Return what info.json says of the file, once its tensor hash is known."""
        return MadeFile(self.name, self.kind, self.dtype, digest)


@dataclass(frozen=True, slots=True, eq=False)
class PlainFile:
    """Any other file; ``data`` gives its bytes, once. ``copied``: byte for byte the base's."""

    name: str
    data: Iterable[Buffer]
    copied: bool = False


ReleaseFile = TensorFile | PlainFile


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A file of tensors that is there: its name in the release, kind, type and tensor hash."""

    name: str
    kind: str
    dtype: str
    tensors: str


def in_turn(work: Iterable[Work]) -> Iterator[memoryview]:
    """Do each piece of work when its result is asked for: a `Run` without threads."""
    for piece in work:
        yield piece()
