"""``orthofed verify`` of a composed folder: what it is, and that every byte follows."""

import json
from pathlib import Path

from .base_folder import BaseFolder
from .verify_composed import verify_composed


def tell_composed(
    folder: Path,
    base: Path | None,
    log: str | None,
    *,
    now_s: int,
    max_age_s: int | None,
    as_json: bool,
) -> None:
    """Verify ``folder`` and print what it is; ``base``: for a composed checkpoint or full file.

    Raises VerificationFailed: a byte does not follow from the contributions.
    """
    found = verify_composed(
        folder,
        log=log,
        now_s=now_s,
        max_age_s=max_age_s,
        base=None if base is None else BaseFolder(base),
    )
    manifest, age_s = found.release.manifest, max(0, now_s - found.view.head.t)
    if as_json:
        facts = {
            "schema": "orthofed.verify.composed/1",
            "verified": True,
            "release": manifest.n,
            "fed": manifest.fed,
            "log": manifest.log,
            "files": found.num_files,
            "bytes": found.num_bytes,
            "weights_1024": found.weights,
            "head_age_s": age_s,
        }
        print(json.dumps(facts))
        return
    print(f"composed from release {manifest.n}: signed by nobody, {found.num_files} files,")
    print(f"          {found.num_bytes:,} bytes, each follows from what its contributors signed")
    for name, share in found.weights.items():
        print(f"{name}  weight {share}/1024 = {share / 1024:.4f}")
    print(f"ledger    {found.view.head.size} leaves, head signed {age_s / 86_400:.1f} days before")
    print(f"log id    {manifest.log}")
