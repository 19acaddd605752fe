"""Writes one release's sums in many ways, in a process of its own, and prints their hashes.

    python -P merging_process.py FOLDER PLAN SEED NUM

``NUM`` times: the contributions of the plan in a random order, a random number of threads, rows in
batches of a random size; all kinds of files; one SHA-256 of all.
"""

import hashlib
import json
import random
import sys
import tempfile
from pathlib import Path

from orthofed.coordinator.base import BaseFolder
from orthofed.coordinator.carried import Carried
from orthofed.coordinator.folder import DataFolder
from orthofed.coordinator.fs import Fs
from orthofed.coordinator.merging import open_merge
from orthofed.coordinator.publications import Plan
from orthofed.coordinator.writing import write_checkpoint, write_files
from orthofed.core import hadamard_product
from orthofed.core.basis_fingerprint import basis_fingerprint
from orthofed.core.kinds import release_files
from orthofed.core.lorafile import FileOrigin
from orthofed.core.spec import FederationSpec


class FastFs(Fs):
    """A disk that syncs nothing."""

    def sync(self, fd: int, what: str) -> None:
        del fd, what

    def sync_folder(self, folder: Path) -> None:
        del folder


def digest_of(root: Path, plan: Plan, draw: random.Random) -> str:
    """Write everything once, in a way that ``draw`` decides, and return the hash of all files."""
    folder = DataFolder(root)
    spec = FederationSpec.from_bytes((folder.public / "spec.json").read_bytes())
    base = BaseFolder(folder.settings().base)
    included = draw.sample(plan.included, len(plan.included))
    hadamard_product._NUMBERS_AT_ONCE = draw.choice([1, 100, 1 << 11, 1 << 15, 1 << 18])
    origin, fs = FileOrigin(spec, basis_fingerprint(spec, 0), base.prediction), FastFs()
    with tempfile.TemporaryDirectory() as scratch, open_merge(spec, included, folder) as merge:
        out = Path(scratch)
        nothing, threads = Carried(out, {}), draw.choice([1, 2, 5])
        files = release_files(merge, origin, None, n=plan.n)
        list(write_files(out, files, carried=nothing, fs=fs))
        list(write_checkpoint(out, base, merge, carried=nothing, fs=fs, threads=threads))
        return digest(out)


def digest(folder: Path) -> str:
    """Return one SHA-256 of the names and contents of the six folders of sums."""
    found = hashlib.sha256()
    for kind in ("lora", "concepts", "embeddings", "diffusers", "peft", "checkpoint"):
        for path in sorted((folder / kind).rglob("*")):
            if path.is_file():
                found.update(f"{path.relative_to(folder)}\n".encode())
                found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def main() -> None:
    root, plan, seed, num = sys.argv[1:]
    draw = random.Random(int(seed))  # noqa: S311  # a replayable draw
    asked = Plan.from_bytes(Path(plan).read_bytes())
    print(json.dumps(sorted({digest_of(Path(root), asked, draw) for _ in range(int(num))})))


if __name__ == "__main__":
    main()
