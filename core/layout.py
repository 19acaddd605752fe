"""The bytes of a contribution: fixed by the spec and the lease before anything arrives.

A safetensors file of I16 tensors, in name order: ``a.<layer>`` [n, r]; ``embed.<encoder>.<k>``
[vectors, width] and ``probe.<k>`` [4, text width] for each trigger k = 0, 1, ...; ``exp`` [T], one
exponent for each other tensor in name order. With layer-wise tokens ``embed`` has all vectors of
the spec's first token layer, then those of the second, and so on: [layers x vectors, width]. Law
(T5): the one legal header is built here and compared; nothing that a contributor wrote is parsed.
What is stored is in normal form (T7).
Source: security.md 6. Cost: one copy of the blob. Not here: hashes and signatures.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from jaxtyping import Int16

from .errors import ContributionRejected, InputError
from .quantise import TOKEN_WINDOW, Quantised, check_normal, check_peak
from .spec import FederationSpec
from .tensorfile import TensorInfo, header_bytes, header_length, layout_of, parse_header

PROBE_TEMPLATES = 4
_EXPONENTS = "exp"
_LENGTH_BYTES = 8
_RUN_BYTES = 1 << 20


class ContributionLayout:
    """Where each tensor of a contribution lies; ``vectors`` has one count for each trigger.

    ``tensors`` are all of them in name order, ``content`` those without ``exp`` in the order in
    which ``exp`` counts them, ``runs`` the same with neighbours of one shape and kind together,
    up to 1 MiB; ``header`` is the one legal header, ``size`` the whole blob's bytes.
    """

    __slots__ = (
        *("by_name", "content", "exponents", "header", "runs", "size", "spec", "tensors"),
        "vectors",
    )

    def __init__(self, spec: FederationSpec, vectors: tuple[int, ...]) -> None:
        """Lay out the tensors of one lease.

        Raises InputError: no trigger, too many, or a number of vectors out of bounds.
        """
        limits = spec.limits
        if not 1 <= len(vectors) <= limits.max_triggers:
            raise InputError(
                f"{len(vectors)} triggers",
                why=f"this federation takes 1 to {limits.max_triggers} a concept",
                fix="lease with a number of triggers within these bounds",
                code="too-many-triggers",
            )
        if not all(1 <= count <= limits.max_vectors for count in vectors):
            raise InputError(
                f"{max(vectors)} vectors for a trigger" if min(vectors) else "0 vectors",
                why=f"this federation takes 1 to {limits.max_vectors} a trigger",
                fix="lease with a number of vectors within these bounds",
                code="too-many-vectors",
            )
        shapes = _shapes(spec, vectors)
        shapes[_EXPONENTS] = (len(shapes),)
        entries = [(name, "I16", shape) for name, shape in shapes.items()]
        self.spec: Final = spec
        self.vectors: Final = vectors
        self.tensors: Final = layout_of(entries)
        self.header: Final = header_bytes(entries, {})
        self.size: Final = len(self.header) + sum(info.size for info in self.tensors)
        self.exponents: Final = next(info for info in self.tensors if info.name == _EXPONENTS)
        self.content: Final = tuple(info for info in self.tensors if info.name != _EXPONENTS)
        self.by_name: Final = {info.name: info for info in self.content}
        self.runs: Final = tuple(self._runs())

    def _runs(self) -> Iterator[tuple[TensorInfo, ...]]:
        run: list[TensorInfo] = []
        for info in self.content:
            if run:
                last = run[-1]
                alike = (info.shape, _kind(info)) == (last.shape, _kind(last))
                joined = info.offset == last.offset + last.size
                if not (alike and joined and (len(run) + 1) * info.size <= _RUN_BYTES):
                    yield tuple(run)
                    run = []
            run.append(info)
        yield tuple(run)

    @classmethod
    def of_blob(
        cls,
        spec: FederationSpec,
        num_triggers: int,
        read: Callable[[int, int], bytes],
        *,
        size: int,
    ) -> "ContributionLayout":
        """Return the layout of a blob whose hash was signed, for who does not know its lease.

        ``read`` gives bytes by offset and length. Only the number of vectors is taken from the
        header, and then the one legal header for it is compared as ever.

        Raises InputError: a header that the strict reader refuses. Raises ContributionRejected:
        one that the spec does not make.
        """
        length = header_length(read(0, _LENGTH_BYTES), file_size=size)
        prefix = read(0, _LENGTH_BYTES + length)
        shapes = {info.name: info.shape for info in parse_header(prefix, file_size=size).tensors}
        encoder = spec.encoders[0].name
        found = [shapes.get(f"embed.{encoder}.{k}", ()) for k in range(num_triggers)]
        vectors = tuple(shape[0] // spec.token_sets if shape else 0 for shape in found)
        layout = cls(spec, vectors)
        check_size(layout, size)
        check_header(layout, prefix)
        return layout

    def window(self, name: str) -> tuple[int, int]:
        """Return the lowest and the highest exponent that tensor ``name`` may have."""
        if name.startswith("a."):
            return self.spec.exponent_low, self.spec.exponent_high
        return TOKEN_WINDOW


def _kind(info: TensorInfo) -> str:
    """Return ``a``, ``embed`` or ``probe``."""
    return info.name.partition(".")[0]


def pack(layout: ContributionLayout, tensors: Mapping[str, Quantised]) -> bytes:
    """Return the whole blob.

    Raises InputError: a tensor is missing, too many or of another shape. Raises
    ContributionRejected: one that is not in normal form.
    """
    wanted = {info.name: info.shape for info in layout.content}
    if wanted != {name: tensor.q.shape for name, tensor in tensors.items()}:
        wrong = sorted(set(wanted) ^ set(tensors)) or ["another shape"]
        raise InputError(
            f"{len(tensors)} tensors, {len(wanted)} expected; the first difference: {wrong[0]}",
            why="the spec and the lease fix the names and shapes of a contribution",
            fix="train with the spec and the triggers of this lease",
            code="layout-differs",
        )
    parts = [layout.header]
    for info in layout.tensors:
        if info.name == _EXPONENTS:
            values = [tensors[other.name].exponent for other in layout.content]
            parts.append(np.array(values, dtype="<i2").tobytes())
        else:
            _check(layout, info.name, tensors[info.name])
            parts.append(tensors[info.name].q.astype("<i2").tobytes())
    return b"".join(parts)


def unpack(layout: ContributionLayout, blob: bytes) -> dict[str, Quantised]:
    """Return every tensor but ``exp`` under its name, in name order.

    Raises ContributionRejected: another size, another header, or a tensor not in normal form.
    """
    check_size(layout, len(blob))
    check_header(layout, blob[: len(layout.header)])
    start = len(layout.header)
    data = memoryview(blob)[start:]
    exponents = read_exponents(layout, bytes(_part(data, layout.exponents)))
    return {
        info.name: read_tensor(layout, info.name, bytes(_part(data, info)), exponents[info.name])
        for info in layout.content
    }


def check_size(layout: ContributionLayout, size: int) -> None:
    """Refuse a blob of another size than the layout's. Raises ContributionRejected."""
    if size != layout.size:
        raise _rejected(f"a contribution of {size} bytes", f"this lease's has {layout.size}")


def check_header(layout: ContributionLayout, header: bytes) -> None:
    """Refuse any header but the one legal one (T5: compared, never parsed)."""
    if header != layout.header:
        raise _rejected("a contribution with another header", "spec and lease fix every byte of it")


def read_exponents(layout: ContributionLayout, raw: bytes) -> dict[str, int]:
    """Return the exponent of every other tensor, from the bytes of ``exp``.

    Raises ContributionRejected: another number of bytes.
    """
    if len(raw) != layout.exponents.size:
        raise _rejected(f"{len(raw)} bytes of exponents", f"there are {layout.exponents.size}")
    values = [int(value) for value in np.frombuffer(raw, dtype="<i2")]
    return {info.name: value for info, value in zip(layout.content, values, strict=True)}


def read_tensor(layout: ContributionLayout, name: str, raw: bytes, exponent: int) -> Quantised:
    """Return one tensor from its own bytes, so that a reader needs no more than one in memory.

    Raises ContributionRejected: another number of bytes, or not in normal form.
    """
    info = layout.by_name.get(name)
    if info is None or len(raw) != info.size:
        raise _rejected(f"{len(raw)} bytes of {name[:80]!r}", "the layout has no such tensor")
    tensor = Quantised(
        np.frombuffer(raw, dtype="<i2").reshape(info.shape).astype(np.int16), exponent
    )
    _check(layout, name, tensor)
    return tensor


def read_run(
    layout: ContributionLayout,
    run: Sequence[TensorInfo],
    raw: bytes,
    exponents: Mapping[str, int],
) -> Int16[np.ndarray, "t n r"]:
    """Return the integers of one of the layout's ``runs``, stacked, from its own bytes.

    With many small tensors a look at each of them costs more than their numbers do.
    Raises ContributionRejected, as ``read_tensor``.
    """
    first = run[0]
    if len(raw) != len(run) * first.size:
        raise _rejected(f"{len(raw)} bytes of {first.name[:80]!r}", "the layout has no such tensor")
    q = np.frombuffer(raw, dtype="<i2").astype(np.int16, copy=False).reshape(len(run), *first.shape)
    low, high = layout.window(first.name)
    axes = tuple(range(1, q.ndim))
    lowest, highest = q.min(axis=axes).tolist(), q.max(axis=axes).tolist()
    for info, least, most in zip(run, lowest, highest, strict=True):
        check_peak(max(most, -least, 0), exponents[info.name], low=low, high=high, name=info.name)
    return q


def _shapes(spec: FederationSpec, vectors: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor but ``exp``."""
    shapes: dict[str, tuple[int, ...]] = {
        f"a.{layer.path}": (layer.out, spec.layer_rank(layer)) for layer in spec.layers
    }
    text_width = sum(encoder.width for encoder in spec.encoders)
    for k, count in enumerate(vectors):
        shapes[f"probe.{k}"] = (PROBE_TEMPLATES, text_width)
        for encoder in spec.encoders:
            shapes[f"embed.{encoder.name}.{k}"] = (spec.token_sets * count, encoder.width)
    return shapes


def _part(data: memoryview, info: TensorInfo) -> memoryview:
    return data[info.offset : info.offset + info.size]


def _check(layout: ContributionLayout, name: str, tensor: Quantised) -> None:
    low, high = layout.window(name)
    check_normal(tensor.q, tensor.exponent, low=low, high=high, name=name)


def _rejected(what: str, why: str) -> ContributionRejected:
    return ContributionRejected(
        what,
        why=why,
        fix="pack the contribution again with the spec and the lease it was made for",
        code="layout-differs",
    )
