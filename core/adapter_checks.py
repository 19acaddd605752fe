"""The checks of `orthofed doctor FILE` that a LoRA gets: kind, pairs, shapes, scale, types, names.

Scale is alpha / rank. A LoRA without alpha plays at scale 1 in ComfyUI, A1111, diffusers and kohya
alike, whatever its metadata says of alpha, which none of them reads; so a written alpha of the rank
changes nothing and says it aloud. Sources: formats.md 4.3, 12; ComfyUI weight_adapter/lora.py,
A1111 network.py, diffusers utils/peft_utils.py. Cost: linear in the tensors.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .file_check import FileCheck
from .file_kind import FileKind, module_shape
from .file_values import FileValues
from .header_checks import FIX, counted, named
from .header_scale import ADAPTER_METADATA, header_scales
from .loaders import Verdict
from .module_spelling import Named, module_spellings
from .tensor_part import TensorPart, tensor_part
from .tensorfile import Header, TensorInfo

_LARGEST_SCALE: Final = 4.0
_SCALES_SHOWN: Final = 3
_MATRIX: Final = 2


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA file's tensors by module and role, as the file spells them."""

    header: Header
    kind: FileKind
    modules: Mapping[str, Mapping[str, TensorInfo]]
    parts: Mapping[str, TensorPart]

    @classmethod
    def of(cls, header: Header, kind: FileKind) -> "Adapter":
        """Take the names apart."""
        modules: dict[str, dict[str, TensorInfo]] = defaultdict(dict)
        parts: dict[str, TensorPart] = {}
        for info in header.tensors:
            part = tensor_part(info.name)
            if part is not None:
                parts[info.name] = part
                modules[part.module][part.role] = info
        return cls(header, kind, modules, parts)

    @property
    def plain(self) -> dict[str, Mapping[str, TensorInfo]]:
        """The modules with both factors of a LoRA."""
        return {m: roles for m, roles in self.modules.items() if {"up", "down"} <= set(roles)}


def adapter_checks(
    header: Header, kind: FileKind, loads: Sequence[Verdict], values: FileValues
) -> Iterator[FileCheck]:
    """Give the checks of a LoRA file."""
    adapter = Adapter.of(header, kind)
    yield from _kind(adapter)
    yield _pairs(adapter)
    yield from _shapes(adapter)
    yield from _alpha(adapter, values)
    yield _types(adapter)
    yield from _names(adapter, loads)


def _kind(adapter: Adapter) -> Iterator[FileCheck]:
    others = [name for name in adapter.kind.algorithms if name != "LoRA"]
    if others:
        what = f"{' and '.join(others)}, no plain LoRA: diffusers and kohya's merge do not apply it"
        if others == ["DoRA"]:
            what = "a DoRA: diffusers and kohya's merge leave dora_scale out and change the result"
        fix = "load it in ComfyUI or A1111; OrthoFed cannot import it"
        yield FileCheck("warn", "kind", what, fix)
    if any(part.style == "old diffusers" for part in adapter.parts.values()):
        what = "names as older diffusers wrote them (lora_linear_layer, _lora.up)"
        yield FileCheck("warn", "spelling", what, FIX)


def _pairs(adapter: Adapter) -> FileCheck:
    halves = [
        f"{module} has no {'down' if 'up' in roles else 'up'}"
        for module, roles in adapter.modules.items()
        if ("up" in roles) != ("down" in roles)
    ]
    lonely = [module for module, roles in adapter.modules.items() if set(roles) == {"alpha"}]
    if halves:
        fix = "get the file again, or save it again from the trainer; half of a pair is lost"
        return FileCheck("fail", "pairs", f"{len(halves)} broken: {named(halves)}", fix)
    if lonely:
        what = f"{counted(len(lonely), 'alpha')} without a layer: {named(lonely)}"
        return FileCheck("warn", "pairs", what, FIX)
    return FileCheck("ok", "pairs", "every up has its down")


def _shapes(adapter: Adapter) -> Iterator[FileCheck]:
    torn: list[str] = []
    other: list[str] = []
    pixels: list[str] = []
    known: Mapping[str, Named] = {}
    if adapter.kind.families:
        known = module_spellings(adapter.kind.families[0])
    for module, roles in adapter.plain.items():
        shape = module_shape(roles)
        up, down = roles["up"].shape, roles["down"].shape
        if shape is None or math.prod(up[1:]) != down[0] or not down[0]:
            torn.append(f"{module}: up {list(up)}, down {list(down)}")
            continue
        layer = known[module].layer if module in known else None
        if layer is not None and shape != (layer.out, layer.width):
            other.append(f"{module}: {shape[0]} x {shape[1]}, not {layer.out} x {layer.width}")
        if layer is not None and not layer.kernel and len(down) > _MATRIX:
            pixels.append(module)
    if torn:
        what = f"up and down do not fit each other in {counted(len(torn), 'layer')}: {named(torn)}"
        yield FileCheck("fail", "shapes", what, "get the file again from its source")
    if other:
        what = f"{counted(len(other), 'layer')} of another base model: {named(other)}"
        yield FileCheck("fail", "shapes", what, "load it on the base model that it was made for")
    if pixels and adapter.kind.families[0] == "sdxl":
        what = f"{counted(len(pixels), 'linear layer')} kept as 1 x 1 convolutions"
        told = f"{what}, on which kohya's merge script for SDXL stops: {named(pixels)}"
        yield FileCheck("warn", "shapes", told, "merge it in another program")
    if not torn and not other and known:
        yield FileCheck("ok", "shapes", "each pair fits its layer of the base model")


def _alpha(adapter: Adapter, values: FileValues) -> Iterator[FileCheck]:
    if len(adapter.kind.ranks) > 1:
        what = f"ranks from {min(adapter.kind.ranks)} to {max(adapter.kind.ranks)}"
        told = f"{what}: diffusers gives some layers another's scale (huggingface/diffusers#14409)"
        yield FileCheck("warn", "rank", told, "use it in ComfyUI, A1111 or Forge")
    asked = header_scales(adapter.header.metadata)
    if asked is None or set(asked.values()) - {1.0}:
        told = "scales layers one by one"
        if asked is not None:
            told = f"asks for scale {max(asked.values()):g}"
        what = f"{ADAPTER_METADATA} {told}, which diffusers alone reads"
        yield FileCheck("warn", "alpha", what, FIX if asked else "load it in diffusers")
    elif "PEFT" not in adapter.kind.kind and adapter.plain:
        yield from _scales(adapter, values)


def _scales(adapter: Adapter, values: FileValues) -> Iterator[FileCheck]:
    wrong = [m for m in values.alphas if not math.isfinite(values.alphas[m])]
    if wrong:
        what = f"{len(wrong)} that are no finite number: {named(wrong)}"
        yield FileCheck("fail", "alpha", what, "save the file again from the trainer")
    scales: Counter[float] = Counter()
    for module, roles in adapter.plain.items():
        rank = roles["down"].shape[0] if roles["down"].shape else 0
        if module in values.alphas and rank and module not in wrong:
            scales[values.alphas[module] / rank] += 1
    missing = [module for module in adapter.plain if module not in values.alphas]
    said = adapter.header.metadata.get("ss_network_alpha", "")
    if missing and adapter.kind.kind in _WITHOUT_ALPHA:
        yield FileCheck("ok", "alpha", "none, as diffusers writes it: scale 1")
    elif missing:
        also = f"; the {said[:12]!r} of ss_network_alpha is read by none" if said else ""
        what = f"missing in {counted(len(missing), 'layer')}, so scale 1 in every program{also}"
        yield FileCheck("warn", "alpha", what, FIX)
    odd = sorted(scale for scale in scales if not 0 < scale <= _LARGEST_SCALE)
    if odd:
        what = f"alpha / rank of {', '.join(f'{scale:g}' for scale in odd[:_SCALES_SHOWN])}"
        told = f"{what} in {counted(sum(scales[scale] for scale in odd), 'layer')}"
        yield FileCheck("warn", "alpha", told, "try a smaller strength in the program")
    if len(scales) > 1:
        told = ", ".join(
            f"{s:g} in {counted(n, 'layer')}" for s, n in scales.most_common(_SCALES_SHOWN)
        )
        fix = "make one picture in two programs before you trust its strength"
        yield FileCheck("warn", "alpha", f"several scales: {told}", fix)
    elif scales and not missing and not odd and not wrong:
        yield FileCheck("ok", "alpha", f"alpha / rank is {next(iter(scales)):g} in every layer")


_WITHOUT_ALPHA: Final = frozenset(
    {"LoRA, diffusers' names", "LoRA, older diffusers' names", "LoRA, ComfyUI's own names"}
)


def _types(adapter: Adapter) -> FileCheck:
    count = Counter(info.dtype for info in adapter.header.tensors)
    told = ", ".join(f"{number} {dtype}" for dtype, number in count.most_common())
    if len(count) > 1:
        what = f"mixed ({told}): OrthoFed imports a layer of one type only"
        return FileCheck("warn", "types", what, FIX)
    return FileCheck("ok", "types", told)


def _names(adapter: Adapter, loads: Sequence[Verdict]) -> Iterator[FileCheck]:
    nobody = {info.name for info in adapter.header.tensors}
    for verdict in loads:
        nobody &= set(verdict.left)
    if adapter.kind.families and loads and all(each.outcome == "nothing" for each in loads):
        what = "none of these programs loads it"
        yield FileCheck("warn", "names", what, "see above what each of them says")
    elif nobody and adapter.kind.families:
        what = f"{counted(len(nobody), 'tensor')} that no program knows: {named(sorted(nobody))}"
        yield FileCheck("warn", "names", what, "ask its author what they are for")
