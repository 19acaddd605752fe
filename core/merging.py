"""The contributions of one release as terms of the merge, one layer at a time.

Law (method.md 3.2): integers in, one rounding out; the order of contributions, threads and machine
changes no byte. A contribution is believed after its client's signature (T4), its length, its
SHA-256 and its one legal header are right. Both the coordinator, which builds a release, and a
consumer, who rebuilds it, start here. Cost: one hash of the blob; then one layer's A and blocks.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from . import layout as layouts
from .basis import slot_block
from .contribution import ContributionManifest
from .document import parse
from .errors import OrthoFedError, VerificationFailed
from .layout import ContributionLayout
from .lorafile import ConceptEntry
from .merge import Term
from .quantise import Quantised, dequantise
from .spec import FederationSpec, Layer

ReadBlob = Callable[[int, int], bytes]
"""Gives a blob's bytes by offset and length, on any thread; fewer only where it ends."""
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """One contribution of a release, its blob open for reading."""

    leaf: int
    lambda_1024: int
    manifest: ContributionManifest
    layout: ContributionLayout
    exponents: dict[str, int]
    read: ReadBlob = field(repr=False)

    @classmethod
    def open(
        cls,
        spec: FederationSpec,
        document: bytes,
        *,
        leaf: int,
        lambda_1024: int,
        read: ReadBlob,
    ) -> "Part":
        """Return the contribution that ``document`` signs, its blob checked.

        Raises VerificationFailed: the signature is not its client's, or (``blob-damaged``) the
        bytes are not those that the client signed.
        """
        signed = parse(document, kind="contribution")
        manifest = ContributionManifest.from_document(signed)  # T4: the client's signature
        return cls.of(spec, manifest, leaf=leaf, lambda_1024=lambda_1024, read=read)

    @classmethod
    def of(
        cls,
        spec: FederationSpec,
        manifest: ContributionManifest,
        *,
        leaf: int,
        lambda_1024: int,
        read: ReadBlob,
    ) -> "Part":
        """Return the contribution of a manifest whose signature was checked; else as ``open``."""
        try:
            layout, exponents = _checked(spec, manifest, read)
        except OrthoFedError as error:
            raise blob_damaged(leaf, manifest.concept, error.what) from error
        return cls(leaf, lambda_1024, manifest, layout, exponents, read)

    @property
    def entry(self) -> ConceptEntry:
        """What file headers say of it."""
        return ConceptEntry(
            slot=self.manifest.slot,
            concept=self.manifest.concept,
            triggers=self.manifest.triggers,
            blob=self.manifest.blob,
            lambda_1024=self.lambda_1024,
            licence=self.manifest.licence,
        )

    def tensor(self, name: str) -> Quantised:
        """Return one tensor of the blob, checked."""
        info = self.layout.by_name[name]
        raw = self.read(len(self.layout.header) + info.offset, info.size)
        return layouts.read_tensor(self.layout, name, raw, self.exponents[name])

    def term(self, spec: FederationSpec, layer: Layer) -> Term:
        """Return this contribution's part of one layer."""
        tensor = self.tensor(f"a.{layer.path}")
        block = slot_block(
            spec.basis,
            seed=spec.seed,
            layer=layer.path,
            width=layer.width,
            rank=spec.layer_rank(layer),
            slot=self.manifest.slot,
        )
        return Term(tensor.q, tensor.exponent, self.lambda_1024, block)

    def embedding(self, encoder: str, k: int) -> Float32[np.ndarray, "v w"]:
        """Return the learned vectors of trigger ``k``, float32, which holds them exactly.

        Shape: (v, width), with layer-wise tokens (layers x v, width).
        """
        return dequantise(self.tensor(f"embed.{encoder}.{k}"))


@dataclass(frozen=True, slots=True)
class Merge:
    """Everything that a release is made of, in slot order."""

    spec: FederationSpec
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, spec: FederationSpec, parts: Sequence[Part]) -> "Merge":
        """Return the merge of ``parts``, given in any order."""
        return cls(spec, tuple(sorted(parts, key=lambda part: part.manifest.slot)))

    def terms(self, layer: Layer) -> tuple[Term, ...]:
        """Return one layer's terms in slot order."""
        return tuple(part.term(self.spec, layer) for part in self.parts)

    def token_rows(self, encoder: str) -> Iterator[tuple[str, Float32[np.ndarray, " w"]]]:
        """Give each learned token of an encoder with its row, in slot order (formats.md 5.6)."""
        for part in self.parts:
            for k, trigger in enumerate(part.manifest.triggers):
                for v, row in enumerate(part.embedding(encoder, k)):
                    yield (f"{trigger}_{v}" if v else trigger), row


def blob_damaged(leaf: int, concept: str, what: str) -> VerificationFailed:
    """Return the error for a blob that is not what its client signed, or is not there."""
    return VerificationFailed(
        f"the blob of contribution {leaf} ({concept}) is missing or damaged: {what}",
        why="its bytes are not those that the client signed",
        fix="get it again: the operator from the backup, anyone else by orthofed pull",
        code="blob-damaged",
    )


def _checked(
    spec: FederationSpec, manifest: ContributionManifest, read: ReadBlob
) -> tuple[ContributionLayout, dict[str, int]]:
    """Return layout and exponents, after length, hash and header (T5, T8)."""
    digest, size = hashlib.sha256(), 0
    while piece := read(size, min(_PIECE, manifest.bytes + 1 - size)):
        digest.update(piece)
        size += len(piece)
    if size != manifest.bytes or digest.hexdigest() != manifest.blob:
        raise VerificationFailed(
            f"{min(size, manifest.bytes)} of {manifest.bytes} bytes, SHA-256"
            f" {digest.hexdigest()[:16]}, signed is {manifest.blob[:16]}",
            why="they were changed after the client signed them",
            fix="get the blob again",
            code="blob-differs",
        )
    layout = ContributionLayout.of_blob(spec, len(manifest.triggers), read, size=size)
    start = len(layout.header) + layout.exponents.offset
    return layout, layouts.read_exponents(layout, read(start, layout.exponents.size))
