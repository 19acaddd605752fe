"""A base with random weights, random concepts, and the coordinator's own ways to merge them.

Used by merge.py beside it. A scratch folder holds ``base`` and, in ``fed`` and ``wide``, a
federation each with its blobs and a plan that includes them all: ``fed`` at rank 20, ``wide`` with
room for more concepts at the ranks that leaves. What is there already is kept.
"""

import base64
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from orthofed.coordinator import publisher
from orthofed.coordinator.base import BaseFolder
from orthofed.coordinator.carried import Carried
from orthofed.coordinator.folder import DataFolder
from orthofed.coordinator.fs import Fs
from orthofed.coordinator.merging import open_merge
from orthofed.coordinator.publications import Included, Plan
from orthofed.coordinator.writing import Written, write_checkpoint, write_files
from orthofed.core.basis_fingerprint import basis_fingerprint
from orthofed.core.contribution import ContributionManifest
from orthofed.core.document import parse, sign
from orthofed.core.keys import SigningKey
from orthofed.core.layout import ContributionLayout, pack
from orthofed.core.lorafile import FileOrigin
from orthofed.core.loras import lora_files
from orthofed.core.merging import Merge
from orthofed.core.quantise import TOKEN_WINDOW, quantise
from orthofed.core.spec import BaseModel, FederationSpec, plan_spec

RANKS = {"tiny": 2, "sd15": 20, "sdxl": 20}
WIDE = {"tiny": 8, "sd15": 49, "sdxl": 49}
"""Capacity of the federation in which the number of concepts is varied."""
CONCEPTS = 12
LAMBDA = 614
_KEY = SigningKey.from_seed(bytes(range(32)))
_NO_ID = "0" * 64
_SIZES = 12


class Case:
    """One federation of a scratch folder."""

    def __init__(self, scratch: Path, kind: str = "fed") -> None:
        """Open what ``make`` made."""
        self.scratch = scratch
        self.base = scratch / "base"
        self.folder = DataFolder(scratch / kind)
        self.spec = FederationSpec.from_bytes((self.folder.public / "spec.json").read_bytes())
        self.plan = Plan.from_bytes((self.folder.root / "plan.json").read_bytes())
        self.fs = Fs()

    @classmethod
    def make(cls, scratch: Path, model: str, kind: str, num_concepts: int) -> "Case":
        """Make a federation with that many contributions, if it is not there."""
        folder = DataFolder(scratch / kind)
        if not (folder.root / "plan.json").exists():
            spec = _spec(BaseFolder(scratch / "base"), model, kind)
            for path in (folder.blobs, folder.releases):
                path.mkdir(parents=True, exist_ok=True)
            (folder.public / "spec.json").write_bytes(spec.to_bytes())
            included = tuple(_contribution(spec, slot, folder) for slot in range(num_concepts))
            plan = Plan(1, 0, num_concepts, _NO_ID, spec.id, _NO_ID, included, ())
            (folder.root / "plan.json").write_bytes(plan.to_bytes())
        return cls(scratch, kind)

    @contextmanager
    def out(self) -> Iterator[Path]:
        """Give an empty folder that is gone afterwards."""
        with TemporaryDirectory(dir=self.scratch) as folder:
            yield Path(folder)

    @contextmanager
    def merge(self, number: int, *, backwards: bool = False) -> Iterator[Merge]:
        """Open the first ``number`` contributions."""
        items = self.plan.included[:number]
        with open_merge(self.spec, items[::-1] if backwards else items, self.folder) as merge:
            yield merge

    def lora(self, out: Path, merge: Merge) -> Written:
        """Write the stacked LoRA alone."""
        origin = FileOrigin(self.spec, basis_fingerprint(self.spec, 0), "epsilon")
        nothing = Carried(out, {})
        files = lora_files(merge, origin, n=1)
        return next(write_files(out, files, carried=nothing, fs=self.fs))

    def checkpoint(self, out: Path, merge: Merge, *, threads: int | None = None) -> list[Written]:
        """Write the full checkpoint."""
        base, given = BaseFolder(self.base), {} if threads is None else {"threads": threads}
        nothing = Carried(out, {})
        return list(write_checkpoint(out, base, merge, carried=nothing, fs=self.fs, **given))

    def release(self, out: Path, n: int, number: int) -> Path:
        """Build release ``n`` of the first ``number`` contributions; n - 1 may lie there."""
        folder = DataFolder(out)
        folder.blobs = self.folder.blobs
        folder.releases.mkdir(parents=True, exist_ok=True)
        before = folder.releases / str(n - 1) / "manifest.json"
        prev = parse(before.read_bytes(), kind="release").id if before.exists() else _NO_ID
        plan = replace(self.plan, n=n, prev=prev, included=self.plan.included[:number])
        base = BaseFolder(self.base)
        fs = self.fs
        return publisher.build(
            folder, self.spec, plan, _KEY, base=base, fs=fs, say=lambda _text: None
        )


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that ``work`` takes, on the clock and of processor time."""
    started_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started_s, time.process_time() - cpu_s


def _spec(base: BaseFolder, model: str, kind: str) -> FederationSpec:
    return plan_spec(
        name="bench",
        base=BaseModel("other", "random", "local", base.fingerprint(), "CC0-1.0"),
        layers=base.layers(),
        encoders=base.encoders(),
        seed=bytes(range(32)),
        rank=RANKS[model] if kind == "fed" else None,
        capacity=WIDE[model] if kind == "wide" else None,
    )


def _contribution(spec: FederationSpec, slot: int, folder: DataFolder) -> Included:
    """Store one random contribution; neighbours have other sizes, so that exponents differ."""
    random = np.random.default_rng(slot)
    layout = ContributionLayout(spec, (2,))
    tensors = {}
    for info in layout.content:
        size = 0.002 * 1.2 ** (slot % _SIZES)
        values = random.normal(scale=size, size=info.shape).astype(np.float32)
        low, high = (-28, -16) if info.name.startswith("a.") else TOKEN_WINDOW
        tensors[info.name] = quantise(values, low=low, high=high)
    blob = pack(layout, tensors)
    digest = hashlib.sha256(blob).hexdigest()
    folder.blob(digest).parent.mkdir(exist_ok=True)
    folder.blob(digest).write_bytes(blob)
    manifest = ContributionManifest(
        basis=basis_fingerprint(spec, slot),
        blob=digest,
        bytes=len(blob),
        client=_KEY.public_hex,
        concept=f"concept{slot}",
        fed=spec.id,
        fence=1,
        licence="CC0-1.0",
        log=_NO_ID,
        slot=slot,
        t=0,
        triggers=(f"word-{slot}",),
    )
    document = sign("contribution", manifest.body(), (_KEY,)).to_bytes()
    return Included(slot, slot, 1, LAMBDA, (2,), base64.b64encode(document).decode())
