"""Writes, or compares, the files of a merge made on this machine: of a subset, or with sealed ones.

Laws (formats.md 1): the core writers are those of a release, so the bytes are what a release of the
same contributions and weights has; a stacked or a full file that is not the release's own has
``-mix-`` and the first 8 digits of ``orthofed.content`` in its name, and the card says that nobody
signed it. Cost: one tensor in memory.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.base_files import BaseFiles
from ..core.basis_fingerprint import basis_fingerprint
from ..core.card import card_text
from ..core.described import info_bytes
from ..core.kinds import PUBLISHED, release_files
from ..core.lorafile import FileOrigin, content_digest
from ..core.loras import release_tag
from ..core.merging import Merge
from ..core.release import FileEntry, check_release_name
from ..core.release_file import MadeFile, PlainFile, ReleaseFile
from .write_file import write_file

OnBytes = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Composer:
    """One merge by release ``n``; with a ``base`` also whole models.

    ``prediction``: the base's; ``withdrawn``: slot and leaf of each; ``mixed``: it is not the
    merge that release ``n`` is; ``kinds``: of core/kinds.py.
    """

    merge: Merge
    n: int
    prediction: str
    withdrawn: Sequence[tuple[int, int]]
    mixed: bool = False
    base: BaseFiles | None = None
    kinds: Collection[str] = PUBLISHED

    def files(self) -> Iterator[ReleaseFile]:
        """Give every file that holds tensors, or is the base's."""
        origin = self._origin()
        for file in release_files(self.merge, origin, self.base, n=self.n, kinds=self.kinds):
            yield replace(file, name=self._name(file.name))

    def texts(self, made: Sequence[MadeFile], entries: Sequence[FileEntry]) -> Iterator[PlainFile]:
        """Give info.json and card.md; ``entries`` has the SHA-256 of every file in ``made``."""
        origin, left = self._origin(), self.withdrawn
        info = info_bytes(self.merge, self.n, made, entries, basis=origin.basis, withdrawn=left)
        card = card_text(self.merge, origin, self.n, made, entries, withdrawn=left)
        if self.mixed:
            title = f"# {self.merge.spec.name}, release {self.n}"
            said = f"# {self.merge.spec.name}, composed from release {self.n}, signed by nobody"
            card = card.replace(f"\n{title}\n", f"\n{said}\n", 1)
        yield PlainFile("info.json", (info,))
        yield PlainFile("card.md", (card.encode(),))

    def write(self, out: Path, on_bytes: OnBytes) -> list[FileEntry]:
        """Write every file anew below ``out``; return their lengths and hashes."""
        told, entries = list[MadeFile](), list[FileEntry]()
        for file in self.files():
            check_release_name(file.name)  # T10
            entry, says = write_file(out, file)
            entries.append(entry)
            told += [] if says is None else [says]
            on_bytes(file.name, len(entries), len(entries))
        for text in list(self.texts(told, entries)):
            entries.append(write_file(out, text)[0])
        return entries

    def _origin(self) -> FileOrigin:
        return FileOrigin(self.merge.spec, basis_fingerprint(self.merge.spec, 0), self.prediction)

    def _name(self, name: str) -> str:
        if not self.mixed or not name.startswith(("lora/", "full/")):
            return name
        content = content_digest([part.entry for part in self.merge.parts])[:8]
        tag = release_tag(self.n)
        return name.replace(f"-{tag}", f"-{tag}-mix-{content}", 1)
