"""What a composed folder was made of, kept in it: ``composition.json``, signed by nobody.

    out/composition.json                 release, leaves with their weights, the file named as like
    out/lora/ concepts/ embeddings/ ...  what the contributions give
    out/trust/                           as in a pulled release: the ledger, the blobs; and
    out/trust/manifest.json              the signed manifest of the release that they are taken from
    out/trust/published.safetensors      a small file of it: its header says what the base predicts

Law: nothing in the record is believed: leaves have to be the release's, and every byte of every
file follows from them, or `orthofed verify` ends with exit code 4 (verify_composed.py). Weights are
whole 1024ths from 0 to 2. Source: formats.md 1, 4.2.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Final

from ..core import canonical
from ..core.errors import InputError, VerificationFailed
from ..core.fields import Fields, bad_field
from ..core.kinds import PUBLISHED, WHOLE
from ..core.owners import concept_weights
from ..core.release import FileEntry, ReleaseManifest
from ..core.tensorfile import header_length, parse_header
from .choice import PROGRAMS
from .contributions import Contributions

COMPOSITION: Final = "composition.json"
MANIFEST_OF: Final = "trust/manifest.json"
VECTORS: Final = ("embeddings/", "layerwise/")
LIKE: Final = "trust/published.safetensors"
COMPOSED: Final = frozenset(PUBLISHED) - WHOLE
"""The kinds of files in a composed folder where nobody says for which program: no whole model."""
_LARGEST: Final = 2048
_UNIT: Final = 1024
_NUMBER: Final = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,20})?|\.[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Composition:
    """Release ``n`` of a ledger, and (leaf, lambda in 1/1024) of what was taken, by leaf.

    ``programs``: what it was made for (choice.py), sorted; none for everything but whole models.
    """

    log: str
    n: int
    shares: tuple[tuple[int, int], ...]
    like: str
    programs: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the record."""
        taken = [{"lambda": share, "leaf": leaf} for leaf, share in self.shares]
        value = {"contributions": taken, "like": self.like, "log": self.log, "n": self.n, "v": 1}
        return canonical.encode({**value, "as": list(self.programs)} if self.programs else value)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Composition":
        """Return the record. Raises VerificationFailed."""
        names = ("contributions", "like", "log", "n", "v")
        fields = Fields(canonical.decode(data), "a composition", need=names, may=("as",))
        fields.version()
        shares = list[tuple[int, int]]()
        for item in fields.items("contributions", least=1, most=65_536):
            one = Fields(item, "a contribution entry", need=("lambda", "leaf"))
            shares.append((one.integer("leaf"), one.integer("lambda", 0, _LARGEST)))
        known = sorted(PROGRAMS)
        said = fields.items("as", least=1, most=len(known)) if "as" in fields else []
        programs = tuple(program for program in known if program in said)
        if list(programs) != said:
            raise bad_field("`as` of a composition does not name programs, sorted, each once")
        n, like = fields.integer("n", 1), fields.text("like")
        return cls(fields.hex("log"), n, tuple(shares), like, programs)

    def check_taken_from(self, manifest: ReleaseManifest) -> None:
        """Refuse a record that takes what the release does not hold, or anything twice.

        Raises VerificationFailed.
        """
        inside, leaves = dict(manifest.contributions), [leaf for leaf, _ in self.shares]
        known = set(leaves) <= inside.keys() and leaves == sorted(set(leaves))
        if not known or (self.log, self.n) != (manifest.log, manifest.n):
            raise VerificationFailed(
                f"{COMPOSITION} takes what release {manifest.n} does not hold",
                why="a composition is of contributions of one release, each once",
                fix="compose it again into a new folder",
                code="not-as-signed",
            )

    def is_mixed(self, manifest: ReleaseManifest) -> bool:
        """Return whether it is another merge than the release itself."""
        return self.shares != manifest.contributions


def weight_1024(text: str) -> int:
    """Return a weight in 1/1024, the nearest one, of two equally near the even one.

    >>> weight_1024("0.8"), weight_1024("2")
    (819, 2048)

    Raises InputError: it is no decimal number from 0 to 2.
    """
    value = Decimal(text) if _NUMBER.fullmatch(text) else Decimal(-1)
    if not 0 <= value <= _LARGEST // _UNIT:
        raise InputError(
            f"weight {text[:40]!r}",
            why="weights are decimal numbers from 0 to 2",
            fix="give --weight NAME=0.8",
            code="bad-weight",
        )
    return int((value * _UNIT).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def weights_of(texts: Sequence[str]) -> dict[str, int]:
    """Return the weights of ``NAME=WEIGHT`` lines. Raises InputError."""
    found: dict[str, int] = {}
    for text in texts:
        name, equals, weight = text.partition("=")
        if not equals or not name or name in found:
            raise InputError(
                f"--weight {text[:60]!r}",
                why="each names one concept, once, as NAME=WEIGHT",
                fix="give --weight NAME=0.8",
                code="bad-weight",
            )
        found[name] = weight_1024(weight)
    return found


def chosen(
    contributions: Contributions, concepts: Sequence[str], weights: Mapping[str, int]
) -> dict[str, tuple[tuple[int, int], ...]]:
    """Return (leaf, lambda) of each chosen concept's parts by name; no ``concepts``: all of it.

    A concept of one owner has one part; the weights of several are those of their images, of the
    concept's weight. One that is not given is the release's. Raises InputError: a name that is not
    in it.
    """
    manifest = contributions.release.manifest
    there: dict[str, list[tuple[int, int]]] = {}
    for leaf, share in manifest.contributions:
        there.setdefault(contributions.manifest(leaf).concept, []).append((leaf, share))
    names = list(dict.fromkeys(concepts)) or list(there)
    for name in (*names, *weights):
        if name not in there or name not in names:
            known = ", ".join(sorted(there if name not in there else names))
            raise InputError(
                f"there is no concept {name[:40]!r} to take from release {manifest.n}",
                why=f"it has {known}"[:400],
                fix="take names from that list; a concept may also have been withdrawn",
                code="no-such-concept",
            )
    found: dict[str, tuple[tuple[int, int], ...]] = {}
    for name in names:
        parts = there[name]
        total = weights.get(name, sum(share for _, share in parts))
        owned = [(0, contributions.manifest(leaf).count) for leaf, _ in parts]
        shares = concept_weights(owned, total)
        found[name] = tuple((leaf, x) for (leaf, _), x in zip(parts, shares, strict=True))
    return found


def smallest_vectors(manifest: ReleaseManifest) -> FileEntry:
    """Return the release's smallest file of learned vectors.

    Raises VerificationFailed: it has none.
    """
    found = [entry for entry in manifest.files if entry.name.startswith(VECTORS)]
    if not found:
        raise VerificationFailed(
            f"release {manifest.n} has no learned vectors",
            why="every concept has a trigger",
            fix="take another release, and tell the operator",
            code="not-as-signed",
        )
    return min(found, key=lambda entry: (entry.bytes, entry.name))


def prediction_of(path: Path) -> str:
    """Return what the base predicts, as the header of a published file says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        header = first + file.read(header_length(first, file_size=size))
    return parse_header(header, file_size=size).metadata["modelspec.prediction_type"]
