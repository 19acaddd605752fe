"""What diffusers, ComfyUI, A1111, Forge and kohya's merge scripts make of a LoRA file's names.

Rules as their sources have them, for an attention of Stable Diffusion 1, 2 and XL and what stands
around it. A key that finds no layer is passed over without a word by most of them, so it is named
here. What takes a whole file down:

    diffusers  a name without "lora"; in a kohya file anything that is no plain pair with alpha, or
               a component of which no layer is found
    ComfyUI    an up without its down            A1111   a found layer of which it can make nothing
    Forge      more than 12 keys left over       kohya   a down without its up

Not judged: norms, control networks, other base models. Sources: formats.md 11 to 13; diffusers
loaders/lora_pipeline.py, ComfyUI comfy/lora.py, networks.py of A1111's and Forge's Lora extension,
kohya sd-scripts networks/merge_lora.py, sdxl_merge_lora.py. Cost: linear in the names.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from .module_spelling import Family, Named, module_spellings
from .shown import shown
from .tensor_part import TensorPart, tensor_part

Program = Literal["diffusers", "ComfyUI", "A1111", "Forge", "kohya"]
PROGRAMS: tuple[Program, ...] = get_args(Program)
Outcome = Literal["all", "part", "nothing"]
FORGE_MOST: Final = 12
"""Keys left over above which Forge drops the whole file."""

_BUNDLED: Final = "bundle_emb."
_KOHYA: Final = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_")
_PAIR: Final = frozenset({"up", "down"})
_ALIKE: Final = ("te", "te1", "te2")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one program does with a file: ``left`` are its tensors that change nothing there."""

    program: Program
    outcome: Outcome
    left: tuple[str, ...]
    why: str = ""


def verdicts(family: Family, names: Collection[str]) -> tuple[Verdict, ...]:
    """Return what each program does with a LoRA file of these tensors on a base of ``family``."""
    file = _Names.read(family, names)
    return tuple(_JUDGES[program](file) for program in PROGRAMS)


@dataclass(frozen=True, slots=True)
class _Names:
    """A file's names, taken apart; ``roles`` of each module as the file spells it."""

    family: Family
    all: tuple[str, ...]
    parts: Mapping[str, TensorPart]
    known: Mapping[str, Named]
    roles: Mapping[str, frozenset[str]]

    @classmethod
    def read(cls, family: Family, names: Collection[str]) -> "_Names":
        parts = {name: part for name in sorted(names) if (part := tensor_part(name)) is not None}
        roles: dict[str, set[str]] = defaultdict(set)
        for part in parts.values():
            roles[part.module].add(part.role)
        return cls(
            family,
            tuple(sorted(names)),
            parts,
            module_spellings(family),
            {module: frozenset(found) for module, found in roles.items()},
        )

    def left(self, takes: Callable[[Named, TensorPart], bool]) -> tuple[str, ...]:
        """Return the names of which ``takes`` says no, or which are no part of a known layer."""
        found: list[str] = []
        for name in self.all:
            part = self.parts.get(name)
            named = None if part is None else self.known.get(part.module)
            if part is None or named is None or not takes(named, part):
                found.append(name)
        return tuple(found)


def _said(program: Program, file: _Names, left: Sequence[str], why: str = "") -> Verdict:
    outcome: Outcome = "all" if not left else "part" if len(left) < len(file.all) else "nothing"
    if outcome == "nothing" and not why:
        why = "it knows none of these names, and does not say so"
    return Verdict(program, outcome, tuple(left), why)


def _fails(program: Program, file: _Names, why: str) -> Verdict:
    return Verdict(program, "nothing", file.all, why)


def _comfyui_left(file: _Names) -> tuple[str, ...]:
    """Return what is left over in ComfyUI, whose code Forge has, too."""

    def takes(named: Named, part: TensorPart) -> bool:
        if named.spelling in ("peft", "flat"):
            return False
        if named.spelling == "diffusers" and named.component == "unet" and ".attn" in named.path:
            return False  # it asks for `.processor.to_q` there
        roles = file.roles[part.module]
        if part.algorithm == "LoRA" and "w1_a" not in roles and "w1" not in roles:
            return "up" in roles or part.role == "alpha"
        return True

    return file.left(takes)


def _comfyui(file: _Names) -> Verdict:
    left = _comfyui_left(file)
    return _stops("ComfyUI", file, left) or _said("ComfyUI", file, left)


def _forge(file: _Names) -> Verdict:
    left = _comfyui_left(file)
    if len(left) > FORGE_MOST and not _stops("Forge", file, left):
        why = f"it drops a file with more than {FORGE_MOST} keys left over; this has {len(left)}"
        return Verdict("Forge", "nothing", left, why)
    return _stops("Forge", file, left) or _said("Forge", file, left)


def _stops(program: Program, file: _Names, left: Collection[str]) -> Verdict | None:
    """Return the verdict where a layer that is found has up alone, which ends the loading."""
    gone = frozenset(left)
    for name, part in file.parts.items():
        if part.role == "up" and name not in gone and "down" not in file.roles[part.module]:
            return _fails(program, file, f"it stops at {shown(part.module)}, which has no down")
    return None


def _a1111(file: _Names) -> Verdict:
    def takes(named: Named, part: TensorPart) -> bool:
        # It cuts a key at its first dot, so a spelling with dots in it finds nothing.
        return part.style != "old diffusers" and _a1111_finds(named, file.family)

    left = [name for name in file.left(takes) if not _is_vectors(name)]
    gone = set(left)
    for name, part in file.parts.items():
        roles = file.roles[part.module]
        if name not in gone and roles & _PAIR and not roles >= _PAIR:
            missing = "down" if "up" in roles else "up"
            return _fails("A1111", file, f"it stops at {shown(part.module)}, with no {missing}")
    return _said("A1111", file, sorted(gone.union(_unfused(file))))


def _is_vectors(name: str) -> bool:
    return name.startswith(_BUNDLED) and "." in name[len(_BUNDLED) :]


def _a1111_finds(named: Named, family: Family) -> bool:
    if named.spelling == "kohya":
        if family == "sdxl" and named.path == "unet.up_blocks.0.upsamplers.0.conv":
            return False  # it counts as if no attention stood before it
        return ".add_embedding" not in named.path
    texts = {"sd1": ("te", "te1"), "sd2": ("te",), "sdxl": ("te1", "te2")}
    return named.spelling == "original" or named.spelling in texts[family]


def _unfused(file: _Names) -> list[str]:
    """Return the keys of OpenCLIP attentions of which q, k, v and out are not all in the file.

    There the four are one module, which A1111 changes with all of them or not at all.
    """
    spelling = {"sd1": None, "sd2": "te", "sdxl": "te2"}[file.family]
    found: dict[str, list[str]] = defaultdict(list)
    modules: dict[str, set[str]] = defaultdict(set)
    for name, part in file.parts.items():
        named = file.known.get(part.module)
        place, inside, _ = part.module.partition("_self_attn_")
        if named is not None and named.spelling == spelling and inside:
            found[place].append(name)
            modules[place].add(part.module)
    return [name for place in found if len(modules[place]) != len("qkvo") for name in found[place]]


def _kohya(file: _Names) -> Verdict:
    wanted = ("original", "te1", "te2") if file.family == "sdxl" else ("kohya", "te")

    def takes(named: Named, part: TensorPart) -> bool:
        if named.layer is None or named.spelling not in wanted or part.style != "kohya":
            return False
        return part.algorithm == "LoRA" and "down" in file.roles[part.module]

    for part in file.parts.values():
        named = file.known.get(part.module)
        roles = file.roles[part.module]
        if named is not None and takes(named, part) and "up" not in roles:
            return _fails("kohya", file, f"it stops at {shown(part.module)}, which has no up")
    left = file.left(takes)
    return _said("kohya", file, left)


def _diffusers(file: _Names) -> Verdict:
    names = [name for name in file.all if "dora_scale" not in name]
    if names and all(name.startswith(_KOHYA) for name in names):
        return _diffusers_kohya(file, names)
    nameless = next((name for name in names if "lora" not in name), None)
    if nameless is not None:
        return _fails("diffusers", file, f"it refuses a file with {shown(nameless)}")

    def takes(named: Named, part: TensorPart) -> bool:
        if part.style == "kohya" or part.algorithm != "LoRA":
            return False
        return named.spelling in ("diffusers", "flat", "processor")

    left = file.left(takes)
    why = "it looks for unet. and text_encoder., finds none, and does not say so"
    return _said("diffusers", file, left, why if len(left) == len(file.all) else "")


def _diffusers_kohya(file: _Names, names: Sequence[str]) -> Verdict:
    for name in names:
        part = file.parts.get(name)
        roles = frozenset[str]() if part is None else file.roles[part.module]
        if part is None or part.role not in {"up", "down", "alpha"} or not roles >= _PAIR:
            return _fails("diffusers", file, f"it refuses a file with {shown(name)}")
    is_sdxl = file.family == "sdxl"
    spelt = {file.known[p.module].spelling for p in file.parts.values() if p.module in file.known}
    both = "kohya" in spelt and "original" in spelt  # then it drops the original ones

    def takes(named: Named, part: TensorPart) -> bool:
        if named.spelling == "original":
            return is_sdxl and not both and part.algorithm == "LoRA"
        return named.spelling in ("kohya", *_ALIKE) and part.algorithm == "LoRA"

    left = file.left(takes)
    gone = set(left)
    for prefix in ("lora_unet_", "lora_te"):
        own = [name for name in names if name.startswith(prefix) and not _unheard(name, is_sdxl)]
        if own and gone.issuperset(own):
            return _fails("diffusers", file, f"it finds no layer for {shown(own[0])} and stops")
    return _said("diffusers", file, left)


def _unheard(name: str, is_sdxl: bool) -> bool:  # noqa: FBT001  # two kinds of pipeline
    """Return whether the pipeline has no component of that name, so passes it over."""
    return name.startswith("lora_te2_") and not is_sdxl


_JUDGES: Final[Mapping[Program, Callable[[_Names], Verdict]]] = {
    "diffusers": _diffusers,
    "ComfyUI": _comfyui,
    "A1111": _a1111,
    "Forge": _forge,
    "kohya": _kohya,
}
