"""What one concept more costs: bytes and retention of the first 1, 2, 4, 8, ... of a release.

The stacked LoRA holds the concepts' columns in the order of their slots, so the first N of them
are the file that a release of N would be, and the curve needs no release of its own. Retention is
the toy's (outcome.py). Seconds are not here: those of each release are measured where it is made.
Cost: a pass over every concept for each N, about twice that of the release itself.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from .plan import Plan
from .toy import Matrix

Told = Mapping[int, Mapping[str, Any]]


def retentions(plan: Plan, told: Told, lora: Path, names: Sequence[str]) -> list[float]:
    """Return (base - merged) / (base - single) of each concept in ``names``.

    ``names`` are the first concepts of the file, in the order of their slots; the model is theirs
    alone.
    """
    tensors, toy = load_file(lora), plan.toy
    columns = len(names) * plan.scenario.rank
    changes = {path: [_change(tensors, path, columns)] for path in toy.weights}
    numbers = {plan.clients[number].concept: number for number in told}
    found: list[float] = []
    for name in names:
        each = told[numbers[name]] if name in numbers else {}
        if "single_loss" not in each:
            continue
        base, single = each["base_loss"], each["single_loss"]
        merged = toy.loss(name, plan.token(numbers[name]), changes)
        found.append((base - merged) / (base - single))
    return found


def costs(plan: Plan, told: Told, lora: Path, names: Sequence[str]) -> list[dict[str, float]]:
    """Return the curve of a release whose concepts are ``names``, in the order of their slots."""
    sent = {plan.clients[n].concept: each.get("upload_bytes", 0) for n, each in told.items()}
    columns = sum(tensor.nbytes for tensor in load_file(lora).values()) / max(1, len(names))
    counts = [1 << k for k in range(len(names).bit_length()) if 1 << k < len(names)]
    return [
        {
            "concepts": count,
            "upload_bytes": sum(sent.get(name, 0) for name in names[:count]),
            "lora_bytes": round(columns * count),
            **spread(retentions(plan, told, lora, names[:count])),
        }
        for count in [*counts, len(names)]
        if count
    ]


def spread(found: Sequence[float]) -> dict[str, float]:
    """Return median, mean and worst retention; nothing of nobody."""
    if not found:
        return {}
    return {
        "median": round(float(np.median(found)), 4),
        "mean": round(float(np.mean(found)), 4),
        "worst": round(min(found), 4),
    }


def _change(tensors: Mapping[str, np.ndarray], path: str, columns: int) -> tuple[Matrix, Matrix]:
    """Return (up, down) of a layer's first columns in a kohya file, its scale in ``up``."""
    name = "lora_te_" + path.removeprefix("text_encoder.").replace(".", "_")
    down = tensors[f"{name}.lora_down.weight"].astype(np.float32)
    scale = np.float32(float(tensors[f"{name}.alpha"]) / len(down))
    up = tensors[f"{name}.lora_up.weight"].astype(np.float32) * scale
    return up[:, :columns], down[:columns]
