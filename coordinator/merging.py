"""The contributions of one release as terms of the merge, one layer at a time.

Law (method.md 3.2): integers in, one rounding out; the order of contributions, threads and machine
changes no byte. Blobs are content-addressed and were checked at Commit; their hash is checked once
more before a release is built from them. Cost: one layer's A and blocks in memory, and one open
file a contribution.
"""

import base64
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ..core.basis import slot_block
from ..core.contribution import ContributionManifest
from ..core.document import parse
from ..core.errors import VerificationFailed
from ..core.layout import ContributionLayout
from ..core.lorafile import ConceptEntry
from ..core.merge import Term
from ..core.quantise import dequantise
from ..core.spec import FederationSpec, Layer
from . import admission
from .blobs import sha256_of
from .folder import DataFolder
from .publications import Included


@dataclass(frozen=True, slots=True)
class Part:
    """One contribution of a release, its blob open for reading."""

    item: Included
    manifest: ContributionManifest
    layout: ContributionLayout
    file: BinaryIO
    exponents: dict[str, int]

    @property
    def entry(self) -> ConceptEntry:
        """What file headers say of it."""
        return ConceptEntry(
            slot=self.manifest.slot,
            concept=self.manifest.concept,
            triggers=self.manifest.triggers,
            blob=self.manifest.blob,
            lambda_1024=self.item.lambda_1024,
            licence=self.manifest.licence,
        )

    def term(self, spec: FederationSpec, layer: Layer) -> Term:
        """Return this contribution's part of one layer."""
        name = f"a.{layer.path}"
        tensor = admission.read(self.file, self.layout, name, self.exponents[name])
        block = slot_block(
            spec.basis,
            seed=spec.seed,
            layer=layer.path,
            width=layer.width,
            rank=spec.layer_rank(layer),
            slot=self.manifest.slot,
        )
        return Term(tensor.q, tensor.exponent, self.item.lambda_1024, block)

    def embedding(self, encoder: str, k: int) -> np.ndarray[Any, Any]:
        """Return the learned vectors of trigger ``k``, float32, which holds them exactly.

        Shape: (v, width), with layer-wise tokens (layers x v, width).
        """
        name = f"embed.{encoder}.{k}"
        return dequantise(admission.read(self.file, self.layout, name, self.exponents[name]))


@dataclass(frozen=True, slots=True)
class Merge:
    """Everything that a release is made of, in slot order."""

    spec: FederationSpec
    parts: tuple[Part, ...]

    def terms(self, layer: Layer) -> tuple[Term, ...]:
        """Return one layer's terms in slot order."""
        return tuple(part.term(self.spec, layer) for part in self.parts)

    def token_rows(self, encoder: str) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
        """Give each learned token of an encoder with its row, in slot order (formats.md 5.6)."""
        for part in self.parts:
            for k, trigger in enumerate(part.manifest.triggers):
                for v, row in enumerate(part.embedding(encoder, k)):
                    yield (f"{trigger}_{v}" if v else trigger), row


@contextmanager
def open_merge(
    spec: FederationSpec, included: Sequence[Included], folder: DataFolder
) -> Iterator[Merge]:
    """Open the blobs of a release; raises VerificationFailed for one that is damaged."""
    with ExitStack() as stack:
        parts = [_open(spec, item, folder, stack) for item in included]
        yield Merge(spec, tuple(sorted(parts, key=lambda part: part.manifest.slot)))


def _open(spec: FederationSpec, item: Included, folder: DataFolder, stack: ExitStack) -> Part:
    signed = parse(base64.b64decode(item.document), kind="contribution")
    manifest = ContributionManifest.from_document(signed)  # T4: the client's signature
    path = folder.blob(manifest.blob)
    if not path.is_file() or sha256_of(path) != manifest.blob:
        raise VerificationFailed(
            f"the blob of contribution {item.leaf} ({manifest.concept}) is missing or damaged",
            why="its bytes are not those that the client signed",
            fix="restore it from the backup",
            code="blob-damaged",
        )
    layout = ContributionLayout(spec, item.vectors)
    file = stack.enter_context(path.open("rb"))
    return Part(item, manifest, layout, file, admission.read_exponents(file, layout))
