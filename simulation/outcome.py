"""What a simulation came to: waits, bytes, refusals, retention, cost, and whether nothing is lost.

Retention is that of the toy: (base - merged) / (base - single) with the LoRA file that was
published. Law: an acknowledged contribution that the coordinator does not list, or a bad one that
it took, is a failure, and so is a finding of `orthofed doctor`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from .bad_client import TAKEN
from .plan import Plan
from .toy import Matrix

Told = Mapping[int, Mapping[str, Any]]


def outcome(
    plan: Plan,
    told: Told,
    releases: list[dict[str, Any]],
    listed: list[dict[str, Any]],
    doctor: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the report without times of the whole run."""
    received = {n: each for n, each in told.items() if "received_s" in each}
    by_concept = {each["concept"]: each for each in listed}
    lost = [n for n in received if plan.clients[n].concept not in by_concept]
    taken = [n for n, each in told.items() if each["code"] == TAKEN]
    waits = [each["leased_s"] - each["arrived_s"] for each in told.values() if "leased_s" in each]
    until = [each["received_s"] - each["arrived_s"] for each in received.values()]
    return {
        "clients": len(told),
        "fates": dict(Counter(each["fate"] for each in told.values())),
        "leased": len(waits),
        "contributions": len(received),
        "states": dict(Counter(each["state"] for each in listed)),
        "refusals": dict(Counter(each["code"] for each in told.values() if each["code"])),
        "refused_by_ill": _by_ill(told.values()),
        "lease_wait_s": _spread(waits),
        "receipt_wait_s": _spread(until),
        "upload_bytes": sum(each.get("upload_bytes", 0) for each in received.values()),
        "releases": releases,
        "ledger_leaves": doctor["leaves"],
        "findings": doctor["findings"],
        "lost": lost,
        "bad_taken": taken,
    }


def retention(plan: Plan, told: Told, lora: Path, included: set[str]) -> dict[str, float]:
    """Return median, worst and mean retention of the concepts in a release."""
    tensors, toy = load_file(lora), plan.toy
    changes = {path: [_change(tensors, path)] for path in toy.weights}
    found = []
    for number, each in told.items():
        concept = plan.clients[number].concept
        if concept not in included or "single_loss" not in each:
            continue
        base, single = each["base_loss"], each["single_loss"]
        merged = toy.loss(concept, plan.token(number), changes)
        found.append((base - merged) / (base - single))
    if not found:
        return {}
    return {
        "concepts": len(found),
        "median": round(float(np.median(found)), 4),
        "mean": round(float(np.mean(found)), 4),
        "worst": round(min(found), 4),
    }


def sha256_of(lora: Path) -> str:
    """Return the hash of a file's tensors, in the order of their names.

    Not of its metadata, which names the release and so its keys.
    """
    found = hashlib.sha256()
    for name, tensor in sorted(load_file(lora).items()):
        found.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode() + tensor.tobytes())
    return found.hexdigest()


def _change(tensors: Mapping[str, np.ndarray], path: str) -> tuple[Matrix, Matrix]:
    """Return (up, down) of a layer of a kohya file, its scale in ``up``."""
    name = "lora_te_" + path.removeprefix("text_encoder.").replace(".", "_")
    down = tensors[f"{name}.lora_down.weight"].astype(np.float32)
    scale = float(tensors[f"{name}.alpha"]) / len(down)
    return tensors[f"{name}.lora_up.weight"].astype(np.float32) * np.float32(scale), down


def _by_ill(told: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for each in told:
        if each["ill"]:
            found.setdefault(each["ill"], Counter())[each["code"]] += 1
    return {ill: dict(codes) for ill, codes in sorted(found.items())}


def _spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    return {
        "median": round(float(np.median(values)), 3),
        "p99": round(float(np.percentile(values, 99)), 3),
        "most": round(max(values), 3),
    }
