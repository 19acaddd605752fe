"""Derives every byte of a release from its contributions and compares it with what was published.

    1  the base model is the spec's                                 core/fingerprint.py
    2  each contribution in the ledger: its client's signature; of those in the release also the
       block fingerprint and the SHA-256 of the blob
    3  each file of the release, as its bytes are made              core/kinds.py
    4  what info.json calls derived: made, hashed, let go          core/derived_file.py
    5  info.json and card.md, from what was made; and no file more but pictures of concepts whose
       owners let them be shown, which are as signed (docs/adr/0027)

Law (T25): who holds the release key, or the whole coordinator, can sign anything, and gets nothing
past this that does not follow from what the contributors signed. Lambdas are the manifest's: a
merge weight is the operator's choice, and said openly; so is which kinds of files are published.
The folder itself is verified before (verify.py). Source: security.md 4.8. Cost: one merge and one
read of the release; nothing is written, and one tensor is in memory at a time.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..core.base_files import BaseFiles
from ..core.basis_fingerprint import basis_fingerprint
from ..core.card import card_text
from ..core.derived_file import derive, published_kinds
from ..core.described import info_bytes
from ..core.errors import InputError, VerificationFailed
from ..core.kinds import DERIVABLE, KINDS, release_files
from ..core.lorafile import FileOrigin
from ..core.merging import Merge
from ..core.release import ReleaseManifest
from ..core.release_file import MadeFile, PlainFile, ReleaseFile, TensorFile
from ..core.sample_picture import check_picture, picture_name
from ..core.spec import FederationSpec
from .base_folder import BaseFolder
from .compared import compare_plain, compare_tensors, differs
from .contributions import Contributions
from .derived_files import INFO, derived_of
from .open_part import open_shares
from .trust import check
from .verify import place

OnBytes = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Rebuild:
    """One verified release folder and what it is to be derived from."""

    contributions: Contributions
    on_bytes: OnBytes = lambda *_: None

    @property
    def folder(self) -> Path:
        """The release's folder."""
        return self.contributions.folder

    @property
    def spec(self) -> FederationSpec:
        """The federation's spec."""
        return self.contributions.release.federation.spec

    @property
    def manifest(self) -> ReleaseManifest:
        """The release's manifest."""
        return self.contributions.release.manifest

    def run(self, base: BaseFiles) -> int:
        """Compare every byte and return how many; the first that differs ends it.

        Raises VerificationFailed: something differs, and the text says where. Raises InputError:
        ``base`` is another model, or a contribution is not in the folder.
        """
        self.contributions.check_present()
        self.contributions.check_signatures()
        check_base(base, self.spec)
        with self._merge() as merge, check("rebuild"):
            return self._compare(merge, base)

    @contextmanager
    def _merge(self) -> Iterator[Merge]:
        with ExitStack() as stack:
            with check("contribution"):
                opened = open_shares(self.contributions, self.manifest.contributions)
                merge = stack.enter_context(opened)
            yield merge

    def _compare(self, merge: Merge, base: BaseFiles) -> int:
        basis, n = basis_fingerprint(self.spec, 0), self.manifest.n
        origin = FileOrigin(self.spec, basis, base.prediction)
        info = place(self.folder, INFO)
        try:
            said = derived_of(info, self.manifest)
            # A release of an earlier version lacks kinds, and says so by listing none of them.
            listed = published_kinds(info.read_bytes())
        except VerificationFailed as error:
            raise differs(f"{INFO} differs: {error.what}") from error
        kinds = KINDS.keys() - (set(DERIVABLE) - listed)
        files = release_files(merge, origin, base, n=n, kinds=kinds)
        tally = _Tally(self)
        made = [each for file in files if (each := tally.compare(file)) is not None]
        withdrawn = self.contributions.withdrawn_slots()
        whole = BaseFolder(self.folder / "checkpoint") if said and "checkpoint" in listed else None
        derived = derive(merge, origin, base, n=n, kinds={file.kind for file in said}, merged=whole)
        if wrong := [file.name for file, it in zip(said, derived, strict=False) if file != it]:
            raise differs(f"{wrong[0]} is derived with other hashes than its contributions give")
        written = info_bytes(
            merge,
            n,
            made,
            self.manifest.files,
            basis=basis,
            withdrawn=withdrawn,
            derived=derived,
        )
        entries = self.manifest.files
        card = card_text(merge, origin, n, made, entries, withdrawn=withdrawn).encode()
        tally.compare(PlainFile(INFO, (written,)))
        manifests = [part.manifest for part in merge.parts]
        tally.take_pictures(each.concept for each in manifests if each.pictures)
        try:
            tally.compare(PlainFile("card.md", (card,)))
        except VerificationFailed as error:
            raise _other_words(error.what) from error
        return tally.finish()


class _Tally:
    """What was compared so far, against the manifest's list of files."""

    def __init__(self, rebuild: Rebuild) -> None:
        self._rebuild = rebuild
        self._waiting = {entry.name: entry.bytes for entry in rebuild.manifest.files}
        self._total = sum(self._waiting.values())
        self._done = 0

    def compare(self, file: ReleaseFile) -> MadeFile | None:
        """Compare one file; return what info.json says of it, if it holds tensors."""
        size = self._waiting.pop(file.name, None)
        if size is None:
            raise differs(f"{file.name} is missing: the contributions give it")
        self._rebuild.on_bytes(file.name, self._done, self._total)
        path = place(self._rebuild.folder, file.name)
        made = None
        if isinstance(file, TensorFile):
            made = compare_tensors(path, file)
        else:
            compare_plain(path, file)
        self._done += size
        return made

    def take_pictures(self, concepts: Iterable[str]) -> None:
        """Take a picture of each concept as it was signed: no contribution gives its bytes.

        Raises VerificationFailed: it holds more than pixels.
        """
        for name in sorted(self._waiting.keys() & {picture_name(each) for each in concepts}):
            check_picture(place(self._rebuild.folder, name).read_bytes())
            self._total -= self._waiting.pop(name)

    def finish(self) -> int:
        """Refuse a file that the contributions do not give; return the bytes compared."""
        if self._waiting:
            raise differs(f"{min(self._waiting)} is in the release and follows from nothing")
        self._rebuild.on_bytes("", self._done, self._total)
        return self._done


def _other_words(what: str) -> VerificationFailed:
    return VerificationFailed(
        f"{what}; every file of numbers and info.json follow from the contributions",
        why="another version of orthofed words the card otherwise, or somebody changed it",
        fix="do not rely on card.md; run the version that made the release to compare it too",
        code="card-differs",
    )


def check_base(base: BaseFiles, spec: FederationSpec) -> None:
    """Refuse a base model that is not the one that the federation adapts.

    Raises InputError.
    """
    found = base.fingerprint()
    if found != spec.base.fingerprint:
        raise InputError(
            f"the base model at {base.where} has fingerprint {found[:16]}",
            why=f"this federation adapts {spec.base.fingerprint[:16]}",
            fix=f"give the folder of {spec.base.name}, revision {spec.base.revision}",
            code="wrong-base",
        )
