"""LoRA files of published base models, as trainers write them, small enough to make in a test."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from orthofed.core.layer import Layer
from orthofed.core.lorafile import kohya_key
from orthofed.core.published import PublishedModel, published_layers
from orthofed.core.targets import Targets

FAMILY = {"sd15": "sd1", "sd21": "other", "sdxl": "sdxl"}
KOHYA = ("lora_up.weight", "lora_down.weight", "alpha")


def layers(model: PublishedModel, targets: Targets = "attention") -> tuple[Layer, ...]:
    return published_layers(model, targets)


def kohya_names(model: PublishedModel) -> list[str]:
    return [
        f"{kohya_key(each.path, FAMILY[model])}.{end}" for each in layers(model) for end in KOHYA
    ]


def lora(
    named: Iterable[tuple[str, Layer]],
    *,
    rank: int = 1,
    ends: tuple[str, str] = (".lora_up.weight", ".lora_down.weight"),
    alpha: float | None = 1.0,
    dtype: str = "f2",
) -> dict[str, np.ndarray]:
    """Return the tensors of a LoRA over the layers, each under its name."""
    random = np.random.default_rng(7)
    found: dict[str, np.ndarray] = {}
    for name, layer in named:
        found[f"{name}{ends[0]}"] = random.standard_normal((layer.out, rank)).astype(dtype)
        found[f"{name}{ends[1]}"] = random.standard_normal((rank, layer.width)).astype(dtype)
        if alpha is not None:
            found[f"{name}.alpha"] = np.array(alpha, dtype)
    return found


def kohya(model: PublishedModel = "sd15", **said: object) -> dict[str, np.ndarray]:
    """Return a file as kohya's trainer writes it."""
    named = [(kohya_key(each.path, FAMILY[model]), each) for each in layers(model)]
    return lora(named, **said)  # type: ignore[arg-type]  # passed through


def diffusers(model: PublishedModel = "sd15", *, rank: int = 1) -> dict[str, np.ndarray]:
    """Return a file as diffusers writes it: no alpha."""
    named = [(each.path, each) for each in layers(model)]
    return lora(named, rank=rank, ends=(".lora_B.weight", ".lora_A.weight"), alpha=None)


def peft(model: PublishedModel = "sd15") -> dict[str, np.ndarray]:
    """Return PEFT's own file of the UNet."""
    named = [
        (f"base_model.model.{each.path.removeprefix('unet.')}", each)
        for each in layers(model, "unet")
    ]
    return lora(named, ends=(".lora_B.weight", ".lora_A.weight"), alpha=None)


def write(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write them with the reference library."""
    save_file(dict(tensors), path, dict(metadata) if metadata else None)
    return path


def every_key(model: PublishedModel) -> Iterator[str]:
    """Give each name that some program writes for some attention of the model."""
    for each in layers(model):
        component, _, module = each.path.partition(".")
        yield from (each.path, f"base_model.model.{module}")
        for prefix in ("lora_unet", "lora_te", "lora_te1", "lora_te2"):
            yield f"{prefix}_{module.replace('.', '_')}"
        if component == "unet":
            yield kohya_key(each.path, "sdxl")
