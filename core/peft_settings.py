"""What PEFT is told of one component's LoRA, in ``peft/`` and in the header of ``diffusers/``.

Law: the scale is 1 (alpha = R), one rank, no dropout, no bias. ``target_modules`` are suffixes of
module names: full paths with ``text_model.`` raise on transformers 5.6 and later, and a missing
``rank_pattern`` raises in older diffusers (formats.md 5.4). A suffix names no module that is not
adapted, since every preset takes all of a kind (core/targets.py).
"""

from collections.abc import Iterable

from .errors import SpecError
from .spec import FederationSpec, Layer

_SUFFIXES = (
    "conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "fc1", "fc2", "ff.net.0.proj",
    "ff.net.2", "k_proj", "out_proj", "proj_in", "proj_out", "q_proj", "time_emb_proj", "to_k",
    "to_out.0", "to_q", "to_v", "upsamplers.0.conv", "v_proj",
)  # fmt: skip


def component_layers(spec: FederationSpec) -> dict[str, tuple[Layer, ...]]:
    """Return the adapted layers by component, each sorted by path."""
    found: dict[str, list[Layer]] = {}
    for layer in spec.layers:
        found.setdefault(layer.path.partition(".")[0], []).append(layer)
    return {component: tuple(layers) for component, layers in found.items()}


def peft_settings(layers: Iterable[Layer], rank: int) -> dict[str, object]:
    """Return the settings of a LoRA of ``rank`` on ``layers``, which are of one component.

    Raises SpecError: a layer whose kind has no suffix.
    """
    return {
        "alpha_pattern": {},
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {},
        "target_modules": sorted({_suffix(layer.path) for layer in layers}),
        "use_dora": False,
        "use_rslora": False,
    }


def _suffix(path: str) -> str:
    for suffix in _SUFFIXES:
        if path.endswith(f".{suffix}"):
            return suffix
    raise SpecError(
        f"layer {path[:80]!r}",
        why="PEFT finds layers by the end of their name, and this one is not known",
        fix="adapt the layers that `--targets` names",
        code="unknown-component",
    )
