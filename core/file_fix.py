"""What `orthofed doctor FILE --fix OUT` changes in a copy, decided before a byte is written.

    metadata   forbidden keys and strange values go, a stated hash becomes the tensors' own
    names      each layer gets the name that most programs take, kohya's (formats.md 3.2)
    alpha      written where it is missing: the rank, or what diffusers' header asks for
    types      one for all, wide enough to hold every value as it is

Law: alpha / rank * up down of every layer stays what it was, to the bit: a number is copied or goes
to a type that holds it exactly, and what cannot be done so is left and said. Cost: linear.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, cast

import numpy as np

from .adapter_checks import Adapter
from .errors import OrthoFedError, SpecError
from .file_kind import FileKind
from .file_values import FileValues
from .header_checks import counted, named
from .header_scale import ADAPTER_METADATA, header_scales
from .lorafile import kohya_key
from .metadata_rules import false_hashes, forbidden_keys, strange_values
from .module_spelling import Family, Named, module_spellings
from .rounding import DType, exact, round_once
from .tensorfile import Header, TensorInfo

_FAMILY: Final[Mapping[Family, str]] = {"sd1": "sd1", "sd2": "other", "sdxl": "sdxl"}
_EXACT: Final = frozenset({"F16", "BF16", "F32"})
_LEAVES: Final = {"up": "lora_up.weight", "down": "lora_down.weight"}
_KOHYA: Final = "lora_"


@dataclass(frozen=True, slots=True)
class FixedTensor:
    """A tensor of the copy: from ``source``, or without one the number ``alpha``."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    source: TensorInfo | None
    alpha: float = 0.0


@dataclass(frozen=True, slots=True)
class FileFix:
    """``changes`` and ``left`` in words: what is done, what cannot be and why.

    ``dropped``: keys of the metadata that do not hold for the copy.
    """

    tensors: tuple[FixedTensor, ...]
    dropped: frozenset[str]
    changes: tuple[str, ...]
    left: tuple[str, ...]


def file_fix(header: Header, kind: FileKind, values: FileValues) -> FileFix:
    """Return what is to be changed in a copy of a file; nothing in ``changes``: no copy is due."""
    work = _Work(header, kind, values)
    work.metadata()
    if kind.is_lora:
        work.broken()
        work.names()
        work.alphas()
        work.types()
    return FileFix(
        tuple(sorted(work.tensors.values(), key=lambda each: each.name)),
        work.dropped,
        tuple(work.changes),
        tuple(work.left),
    )


class _Work:
    """The copy as it becomes, step by step; ``tensors`` by their names in it."""

    def __init__(self, header: Header, kind: FileKind, values: FileValues) -> None:
        self.header, self.kind, self.values = header, kind, values
        self.adapter = Adapter.of(header, kind)
        self.tensors = {i.name: FixedTensor(i.name, i.dtype, i.shape, i) for i in header.tensors}
        self.bases = {module: module for module in self.adapter.modules}
        self.known: Mapping[str, Named] = {}
        if kind.families:
            self.known = module_spellings(kind.families[0])
        self.dropped: frozenset[str] = frozenset()
        self.changes: list[str] = []
        self.left: list[str] = []

    def metadata(self) -> None:
        said = self.header.metadata
        gone = sorted({*forbidden_keys(said), *strange_values(said)})
        if gone:
            self.changes.append(f"dropped {counted(len(gone), 'key')} of metadata: {named(gone)}")
        elif false_hashes(said, self.values.tensor_hash):
            self.changes.append("wrote the hash that the tensors have")

    def broken(self) -> None:
        """Say what nobody can repair."""
        if self.values.not_finite:
            count = sum(self.values.not_finite.values())
            self.left.append(f"{counted(count, 'value')} NaN or infinite: what they were is lost")
        halves = sum(("up" in r) != ("down" in r) for r in self.adapter.modules.values())
        if halves:
            self.left.append(f"{counted(halves, 'half pair')}: the other half is lost")

    def names(self) -> None:
        """Give each layer kohya's name, or none of them where one has none."""
        wanted = self._wanted()
        if all(wanted.get(m, m) == m and m.startswith(_KOHYA) for m in self.adapter.modules):
            return
        why = next(self._objections(wanted), None)
        if why is not None:
            self.left.append(f"names stay: {why}")
            return
        tensors, renamed = dict[str, FixedTensor](), 0
        for name, tensor in self.tensors.items():
            part = self.adapter.parts[name]
            leaf = _LEAVES.get(part.role, name[len(part.module) + 1 :])
            new = f"{wanted[part.module]}.{leaf}"
            renamed += new != name
            tensors[new] = replace(tensor, name=new)
        self.bases, self.tensors = wanted, tensors
        if ADAPTER_METADATA in self.header.metadata:
            self.dropped = frozenset({ADAPTER_METADATA, "format"})
        self.changes.append(
            f"renamed {counted(renamed, 'tensor')} to kohya's spelling, for all programs"
        )

    def _wanted(self) -> dict[str, str]:
        """Return kohya's name of each module that has one."""
        found: dict[str, str] = {}
        for module in self.adapter.modules:
            named_layer = self.known.get(module)
            if named_layer is not None and named_layer.layer is not None:
                family = _FAMILY[self.kind.families[0]]
                with contextlib.suppress(SpecError):
                    found[module] = kohya_key(named_layer.path, family)
        return found

    def _objections(self, wanted: Mapping[str, str]) -> Iterator[str]:
        """Give the reasons against other names."""
        if not self.kind.families:
            yield "the base model is not known"
        if "PEFT" in self.kind.kind:
            yield "PEFT's scale is in another file, adapter_config.json"
        others = sorted({i.name for i in self.header.tensors} - set(self.adapter.parts))
        if others:
            yield f"{named(others)} is no part of a LoRA"
        for module, roles in self.adapter.modules.items():
            if module not in wanted:
                yield f"{named([module])} has no name in kohya's files"
            if not module.startswith(_KOHYA) and not {"up", "down"} <= set(roles) <= _PLAIN:
                yield f"{named([module])} is no plain pair"
        if len(set(wanted.values())) != len(wanted):
            yield "a layer stands in the file twice"
        if header_scales(self.header.metadata) is None:
            yield f"{ADAPTER_METADATA} scales layers one by one"

    def alphas(self) -> None:
        """Write alpha beside each pair of a kohya name that has none; drop those of no layer."""
        lonely = [m for m, roles in self.adapter.modules.items() if set(roles) == {"alpha"}]
        for module in lonely:
            del self.tensors[f"{self.bases[module]}.alpha"]
        if lonely:
            self.changes.append(f"dropped {counted(len(lonely), 'alpha')} of no layer")
        scales = header_scales(self.header.metadata) or {}
        written, odd = 0, list[str]()
        for module, roles in self.adapter.plain.items():
            base, down = self.bases[module], roles["down"]
            if "alpha" in roles or not base.startswith(_KOHYA) or not down.shape:
                continue
            alpha = float(down.shape[0])
            if base != module and not module.startswith(_KOHYA):  # diffusers' own, as it says
                alpha *= scales.get(self.known[module].component, 1.0)
            if _holds(down.dtype, alpha):
                name = f"{base}.alpha"
                self.tensors[name] = FixedTensor(name, down.dtype, (), None, alpha)
                written += 1
            else:
                odd.append(module)
        if written:
            self.changes.append(
                f"wrote {counted(written, 'alpha')}, at the scale that the file had without"
            )
        if odd:
            self.left.append(
                f"{counted(len(odd), 'alpha')}: the number does not fit the file's type"
            )
        wrong = [m for m, alpha in self.values.alphas.items() if not np.isfinite(alpha)]
        if wrong:
            self.left.append(f"{counted(len(wrong), 'alpha')} that is no number: {named(wrong)}")

    def types(self) -> None:
        """Bring all tensors to one type that holds each of them exactly."""
        there = {tensor.dtype for tensor in self.tensors.values()}
        if len(there) < _TWO:
            return
        if not there <= _EXACT:
            others = ", ".join(sorted(there - _EXACT))
            self.left.append(f"mixed types: {others} has no exact place in F32")
            return
        if self.values.not_finite:
            self.left.append("mixed types: not with NaN or infinity among the values")
            return
        wanted = "F32"
        factors = {t.dtype for n, t in self.tensors.items() if not n.endswith(".alpha")}
        if len(factors) == 1:
            only = factors.copy().pop()
            if all(_holds(only, value) for value in self.values.alphas.values()):
                wanted = only
        changed = sum(tensor.dtype != wanted for tensor in self.tensors.values())
        self.tensors = {n: replace(t, dtype=wanted) for n, t in self.tensors.items()}
        self.changes.append(f"brought {counted(changed, 'tensor')} to {wanted}, without rounding")


_PLAIN: Final = frozenset({"up", "down", "alpha"})
_TWO: Final = 2


def _holds(dtype: str, value: float) -> bool:
    """Return whether a type holds a number as it is."""
    return dtype in _EXACT and next(_stored(dtype, value), None) == value


def _stored(dtype: str, value: float) -> Iterator[float]:
    try:
        stored = round_once(np.array(value, np.float64), cast("DType", dtype))
    except OrthoFedError:
        return
    yield float(exact(stored, cast("DType", dtype)))
