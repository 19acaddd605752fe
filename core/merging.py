"""The contributions of one release as terms of the merge, one layer at a time.

Law (method.md 3.2): integers in, one rounding out; the order of contributions, threads and machine
changes no byte. A contribution is believed after its client's signature (T4), its length, its
SHA-256 and its one legal header are right. Both the coordinator, which builds a release, and a
consumer, who rebuilds it, start here. Cost: one hash of the blob; then one layer's A and blocks.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float32, Float64

from . import layout as layouts
from .contribution import ContributionManifest
from .document import parse
from .errors import OrthoFedError, VerificationFailed
from .layout import ContributionLayout
from .lorafile import ConceptEntry
from .merge import Term
from .owners import WHOLE, average, check_split, owner_weights, together
from .quantise import Quantised, dequantise
from .spec import FederationSpec, Layer
from .spec_blocks import slot_block

ReadBlob = Callable[[int, int], bytes]
"""Gives a blob's bytes by offset and length, on any thread; fewer only where it ends."""
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """One concept of a release, the blob of its contribution open for reading.

    ``owners``: where it has several, the part of each, by leaf (owners.py); the rest is then the
    first one's, but for what all of them say together: weight, licence, a yes to pictures.
    """

    leaf: int
    lambda_1024: int
    manifest: ContributionManifest
    layout: ContributionLayout
    exponents: dict[str, int]
    read: ReadBlob = field(repr=False)
    owners: tuple["Part", ...] = ()

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
            slot=self.manifest.block,
            concept=self.manifest.concept,
            triggers=self.manifest.triggers,
            blob=self.content,
            lambda_1024=self.lambda_1024,
            licence=self.manifest.licence,
        )

    @property
    def content(self) -> str:
        """SHA-256 of the blob; of several owners, that of the lines "<blob> <lambda>" by leaf."""
        if not self.owners:
            return self.manifest.blob
        lines = [f"{each.manifest.blob} {each.lambda_1024}\n" for each in self.owners]
        return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()

    @classmethod
    def together(cls, parts: Sequence["Part"]) -> "Part":
        """Return the parts of one concept as one, given in any order; one alone as it is.

        Raises VerificationFailed: they are of different concepts, or their weights do not follow
        from the images that their owners signed.
        """
        owners = tuple(sorted(parts, key=lambda part: part.leaf))
        first, said = owners[0], [part.manifest for part in owners]
        if len(owners) == 1:
            return first
        if len({(each.concept, each.triggers, each.basis) for each in said}) > 1:
            raise VerificationFailed(
                f"{len(owners)} contributions of different concepts in block {said[0].block}",
                why="a block belongs to one concept",
                fix="do not use this release; tell the operator",
                code="not-apart",
            )
        check_split([part.lambda_1024 for part in owners], [each.count for each in said])
        manifest = replace(
            first.manifest,
            licence=" AND ".join(sorted({each.licence for each in said})),
            pictures=all(each.pictures for each in said),
        )
        total = sum(part.lambda_1024 for part in owners)
        return replace(first, manifest=manifest, lambda_1024=total, owners=owners)

    def tensor(self, name: str) -> Quantised:
        """Return one tensor of the blob, checked."""
        info = self.layout.by_name[name]
        raw = self.read(len(self.layout.header) + info.offset, info.size)
        return layouts.read_tensor(self.layout, name, raw, self.exponents[name])

    def term(self, spec: FederationSpec, layer: Layer) -> Term:
        """Return the concept's part of one layer."""
        if len(self.owners) > 1:
            return together([each.term(spec, layer) for each in self.owners])
        tensor = self.tensor(f"a.{layer.path}")
        block = slot_block(spec, layer, self.manifest.block)
        return Term(tensor.q, tensor.exponent, self.lambda_1024, block)

    def sent(self, layer: Layer) -> Float64[np.ndarray, "n r"]:
        """Return A of one layer as it was sent; of several owners, their average by weight."""
        if len(self.owners) < 2:  # noqa: PLR2004  # one owner's is its own
            tensor = self.tensor(f"a.{layer.path}")
            return np.ldexp(tensor.q.astype(np.float64), tensor.exponent)
        parts = [each.sent(layer) * each.lambda_1024 for each in self.owners]
        return np.sum(parts, axis=0) / max(self.lambda_1024, 1)

    def embedding(self, encoder: str, k: int) -> Float32[np.ndarray, "v w"]:
        """Return the learned vectors of trigger ``k``, float32, which holds them exactly.

        Shape: (v, width), with layer-wise tokens (layers x v, width).
        """
        if len(self.owners) > 1:
            rows = [each.embedding(encoder, k) for each in self.owners]
            images = [each.manifest.count for each in self.owners]
            return average(rows, owner_weights(images, WHOLE))
        return dequantise(self.tensor(f"embed.{encoder}.{k}"))


@dataclass(frozen=True, slots=True)
class Merge:
    """Everything that a release is made of, in slot order."""

    spec: FederationSpec
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, spec: FederationSpec, parts: Sequence[Part]) -> "Merge":
        """Return the merge of ``parts``, given in any order; those of one block become one."""
        by_block: dict[int, list[Part]] = {}
        for part in parts:
            by_block.setdefault(part.manifest.block, []).append(part)
        return cls(spec, tuple(Part.together(by_block[block]) for block in sorted(by_block)))

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
        fix="get it again: the operator from a backup, or go on without it by orthofed coordinator"
        " reject; anyone else by orthofed pull",
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
