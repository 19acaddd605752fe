# pyright: basic, reportPrivateImportUsage=false
# diffusers, peft and safetensors publish partial types.
"""The same merge with PEFT: add_weighted_adapter(combination_type="cat"), merge_and_unload, save.

Used by merge.py beside it, in a process of its own: only here and in published_bases.py is torch
loaded. A and B are ours, so the weights that come out can be compared with ours.
"""

from pathlib import Path
from typing import Any

import numpy as np
import published_bases
import torch
from merge_case import CONCEPTS, LAMBDA, RANKS, Case, timed
from merge_turns import sync
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file

from orthofed.core.layer import Layer
from orthofed.core.merging import Merge
from orthofed.core.quantise import Quantised, dequantise
from orthofed.core.targets import tensor_names


def with_peft(case: Case, model: str) -> dict[str, Any]:
    """Return PEFT's times and how far its weights are from ours.

    Making the models and loading the twelve adapters does not count.
    """
    seconds = {"cat": 0.0, "merge": 0.0, "save": 0.0}
    apart, scale = 0.0, 0.0
    with case.out() as out, case.merge(CONCEPTS) as merge:
        case.checkpoint(out, merge)
        for component in sorted({layer.path.partition(".")[0] for layer in case.spec.layers}):
            times, differs, size = _component(component, case, model, merge, out)
            seconds = {key: seconds[key] + times[key] for key in seconds}
            apart, scale = max(apart, differs), max(scale, size)
    return {
        **{f"{key}_s": round(value, 3) for key, value in seconds.items()},
        "all_s": round(sum(seconds.values()), 3),
        "largest_difference": apart,
        "largest_residual": scale,
    }


def _component(
    component: str, case: Case, name: str, merge: Merge, out: Path
) -> tuple[dict[str, float], float, float]:
    module = published_bases.networks(name)[component]
    path = next((case.base / component).glob("*.safetensors"))
    keys = {published_bases.on_disk(component, key): key for key in module.state_dict()}
    stored = {keys[key]: value for key, value in load_file(path).items()}
    module.load_state_dict(stored, assign=True)
    layers = {
        next(
            keys[key].removesuffix(".weight") for key in tensor_names(layer.path) if key in keys
        ): layer
        for layer in case.spec.layers
        if layer.path.startswith(f"{component}.")
    }
    model = _adapted(module, layers, merge, RANKS[name])
    names = [str(number) for number in range(CONCEPTS)]

    def cat() -> None:
        model.add_weighted_adapter(names, [LAMBDA / 1024] * CONCEPTS, "all", combination_type="cat")
        model.set_adapter("all")

    merged: list[Any] = []
    target = out / f"{component}.safetensors"

    def save() -> None:
        save_file(merged[0].state_dict(), target)
        sync(target)

    seconds = {
        "cat": timed(cat)[0],
        "merge": timed(lambda: merged.append(model.merge_and_unload(adapter_names=["all"])))[0],
        "save": timed(save)[0],
    }
    ours = load_file(out / "checkpoint" / path.relative_to(case.base))
    return seconds, *_apart(merged[0].state_dict(), ours, load_file(path), component, layers)


def _adapted(module: Any, layers: dict[str, Layer], merge: Merge, rank: int) -> Any:
    """Return the model with the twelve concepts as adapters; lora_B is A, lora_A is B^T."""
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(layers))
    model: Any = PeftModel(module, config, adapter_name="0")
    for number in range(1, CONCEPTS):
        model.add_adapter(str(number), config)
    for name, layer in layers.items():
        target: Any = module.get_submodule(name)
        for number, term in enumerate(merge.terms(layer)):
            a = dequantise(Quantised(term.q, term.exponent))
            b = term.integers.astype(np.float64) / np.sqrt(layer.width)
            target.lora_B[str(number)].weight.data.copy_(torch.from_numpy(a))
            target.lora_A[str(number)].weight.data.copy_(torch.from_numpy(b.T.copy()))
    return model


def _apart(
    theirs: dict[str, Any],
    ours: dict[str, Any],
    base: dict[str, Any],
    component: str,
    layers: dict[str, Layer],
) -> tuple[float, float]:
    """Return the largest difference between the two, and our largest residual."""
    apart, scale = 0.0, 0.0
    for name in layers:
        key = published_bases.on_disk(component, f"{name}.weight")
        mine = ours[key].double()
        apart = max(apart, float((theirs[f"{name}.weight"].double() - mine).abs().max()))
        scale = max(scale, float((mine - base[key].double()).abs().max()))
    return apart, scale
