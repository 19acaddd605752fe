"""What a simulation came to: waits, bytes, refusals, retention, cost, and whether nothing is lost.

Law: an acknowledged contribution that the coordinator does not list, or a bad one that
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


def sha256_of(lora: Path) -> str:
    """Return the hash of a file's tensors, in the order of their names.

    Not of its metadata, which names the release and so its keys.
    """
    found = hashlib.sha256()
    for name, tensor in sorted(load_file(lora).items()):
        found.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode() + tensor.tobytes())
    return found.hexdigest()


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
