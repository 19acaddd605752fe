# pyright: basic, reportPrivateImportUsage=false
# diffusers, peft and safetensors publish partial types.
"""What a merge costs: concepts to a stacked LoRA, to a full fp16 checkpoint, one more, one less.

    python benchmarks/merge.py --json                          # SD1.5, about 4 minutes and 9 GB
    python benchmarks/merge.py --json --models sdxl --rounds 3  # 28 GB of disk, 12 GB of memory

Aim, for SD1.5: a full checkpoint in at most 2.5 times what copying its files takes (`copy_ratio`)
and 600 MB (`rss_mb`); one more or one less in time that does not grow with the number merged; one
hash for any number of threads and any order. What came out is in docs/log.md.

The base has the published model's names, shapes and size, and random weights. The code is the
coordinator's own: ``publisher.build``, and of it ``write_checkpoint`` and ``write_loras``. Concepts
are random A, rank 20, lambda 614/1024, in every attention layer.

    copy_s         shutil.copyfile of the checkpoint's weight files, each synced
    checkpoint_s   checkpoint/ of a release, hashed and synced, by number of concepts
    add_s          the checkpoint with one concept more; remove_s: with one less
    growth         the checkpoint of the most concepts over that of one
    lora_s         the stacked LoRA alone
    release_s      the whole release: base checked, LoRAs, checkpoint, every hash, signed
    *_cpu_s        the same in seconds of processor time, threads and kernel included
    rss_mb         peak memory (MiB) of a process that writes the checkpoint and does nothing else
    peft           add_weighted_adapter(combination_type="cat"), merge_and_unload, save_file + sync

They take turns; a ratio is the median of the turns' ratios. Wall times. Each stage is a process of
its own, so that no stage's memory is another's peak.
"""

import argparse
import base64
import datetime as dt
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from circumstances import commit, hardware

from orthofed.coordinator import publisher
from orthofed.coordinator.base import BaseFolder
from orthofed.coordinator.carried import Carried
from orthofed.coordinator.folder import DataFolder
from orthofed.coordinator.fs import Fs
from orthofed.coordinator.house import basis_fingerprint
from orthofed.coordinator.loras import write_loras
from orthofed.coordinator.merging import Merge, open_merge
from orthofed.coordinator.pipeline import write_checkpoint
from orthofed.coordinator.publications import Included, Plan
from orthofed.core.contribution import ContributionManifest
from orthofed.core.document import sign
from orthofed.core.keys import SigningKey
from orthofed.core.layout import ContributionLayout, pack
from orthofed.core.lorafile import FileOrigin
from orthofed.core.merge import LayerSum
from orthofed.core.quantise import TOKEN_WINDOW, dequantise, quantise
from orthofed.core.spec import BaseModel, FederationSpec, plan_spec
from orthofed.core.targets import tensor_names

RANKS = {"tiny": 2, "sd15": 20, "sdxl": 20}
CONCEPTS = 12
LAMBDA = 614
KEY = SigningKey.from_seed(bytes(range(32)))
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_NO_ID = "0" * 64


def main() -> None:
    options = _options()
    if options.stage:
        print(json.dumps(STAGES[options.stage](options)))
        return
    results = [measured(name, options) for name in options.models]
    told = {**_circumstances(), "results": results}
    print(json.dumps(told, indent=2) if options.json else "\n".join(map(json.dumps, results)))


def measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one model; its files are deleted afterwards."""
    with tempfile.TemporaryDirectory(dir=options.work, prefix="merge-") as scratch:

        def stage(stage: str, *more: str, threads: int = 0) -> dict[str, Any]:
            print(f"{name}: {stage} {' '.join(more)}", file=sys.stderr)
            words = ["--stage", stage, "--scratch", scratch, "--models", name]
            words += ["--rounds", str(options.rounds), *more]
            env = {**os.environ, **(dict.fromkeys(THREADS, str(threads)) if threads else {})}
            done = subprocess.run(
                [sys.executable, __file__, *words], env=env, check=True, stdout=subprocess.PIPE
            )
            return json.loads(done.stdout.splitlines()[-1])

        made = stage("base")
        made |= stage("concepts")
        made |= stage("turns")
        made["hashes"] = {
            "1 thread": stage("once", threads=1)["hash"],
            "2 threads": stage("once", threads=2)["hash"],
            "2 threads, last first": stage("once", "--backwards", threads=2)["hash"],
        }
        made["rss_mb"] = stage("once")["rss_mb"]
        made |= stage("sums")
        if not options.no_peft:
            made["peft"] = stage("peft")
    return {"model": name, "rank": RANKS[name], "concepts": CONCEPTS, **made}


def make_base(options: argparse.Namespace) -> dict[str, Any]:
    """Write the base folder; torch is loaded in this stage and in PEFT's alone."""
    import published_bases  # noqa: PLC0415  # see above

    folder = Path(options.scratch) / "base"
    published_bases.write_base(folder, options.models[0])
    paths = list(folder.rglob("*.safetensors"))
    return {"weights_bytes": sum(path.stat().st_size for path in paths)}


def make_concepts(options: argparse.Namespace) -> dict[str, Any]:
    """Make the spec and contributions for every slot that is used, as blobs of a folder."""
    base = BaseFolder(Path(options.scratch) / "base")
    spec = plan_spec(
        name="bench",
        base=BaseModel("other", "random", "local", base.fingerprint(), "CC0-1.0"),
        layers=base.layers(),
        encoders=base.encoders(),
        seed=bytes(range(32)),
        rank=RANKS[options.models[0]],
    )
    folder = _folder(options)
    for path in (folder.blobs, folder.releases):
        path.mkdir(parents=True)
    (folder.public / "spec.json").write_bytes(spec.to_bytes())
    included = [_contribution(spec, slot, folder) for slot in range(min(16, spec.capacity))]
    plan = Plan(1, 0, len(included), _NO_ID, spec.id, _NO_ID, tuple(included), ())
    (folder.root / "plan.json").write_bytes(plan.to_bytes())
    adapted = sum(layer.out * layer.width for layer in spec.layers)
    return {"layers": len(spec.layers), "adapted_weights": adapted, "capacity": spec.capacity}


def _contribution(spec: FederationSpec, slot: int, folder: DataFolder) -> Included:
    """Store one random contribution; each has another size, so that exponents differ."""
    random = np.random.default_rng(slot)
    layout = ContributionLayout(spec, (2,))
    tensors = {}
    for info in layout.content:
        values = random.normal(scale=0.002 * 1.2**slot, size=info.shape).astype(np.float32)
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
        client=KEY.public_hex,
        concept=f"concept{slot}",
        fed=spec.id,
        fence=1,
        licence="CC0-1.0",
        log=_NO_ID,
        slot=slot,
        t=0,
        triggers=(f"word-{slot}",),
    )
    document = sign("contribution", manifest.body(), (KEY,)).to_bytes()
    return Included(slot, slot, 1, LAMBDA, (2,), base64.b64encode(document).decode())


def take_turns(options: argparse.Namespace) -> dict[str, Any]:
    """Time everything of ours in turns, after one turn that does not count."""
    case = _Case(options)
    numbers = sorted({1, CONCEPTS - 1, CONCEPTS, CONCEPTS + 1, len(case.plan.included)})
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for turn in range(options.rounds + 1):
        for number in numbers:
            with case.out() as out, case.merge(number) as merge:
                times[f"checkpoint {number}"] += [timed(lambda: case.checkpoint(out, merge))]
                if number == CONCEPTS:
                    times["copy"] += [timed(lambda: _copy(out / "checkpoint", out / "copy"))]
                    times["lora"] += [timed(lambda: case.lora(out, merge))]
        with case.out() as out:
            times["release"] += [timed(lambda: case.release(out))]
        now = {key: round(found[-1][0], 2) for key, found in times.items()}
        print(f"turn {turn}: {now}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    kept = {key: found[1:] for key, found in times.items()}
    wall = {key: statistics.median(s for s, _ in found) for key, found in kept.items()}
    cpu = {key: round(statistics.median(s for _, s in found), 3) for key, found in kept.items()}
    ours = f"checkpoint {CONCEPTS}"
    pairs = list(zip(kept[ours], kept["copy"], strict=True))
    ratios = [a / b for (a, _), (b, _) in pairs]
    return {
        "rounds": options.rounds,
        "copy_ratio": round(statistics.median(ratios), 3),
        "copy_ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "cpu_ratio": round(statistics.median(a / b for (_, a), (_, b) in pairs), 3),
        "copy_s": round(wall["copy"], 3),
        "copy_cpu_s": cpu["copy"],
        "checkpoint_s": {str(n): round(wall[f"checkpoint {n}"], 3) for n in numbers},
        "checkpoint_cpu_s": {str(n): cpu[f"checkpoint {n}"] for n in numbers},
        "add_s": round(wall[f"checkpoint {CONCEPTS + 1}"], 3),
        "remove_s": round(wall[f"checkpoint {CONCEPTS - 1}"], 3),
        "growth": round(wall[f"checkpoint {numbers[-1]}"] / wall["checkpoint 1"], 3),
        "growth_cpu": round(cpu[f"checkpoint {numbers[-1]}"] / cpu["checkpoint 1"], 3),
        "lora_s": round(wall["lora"], 3),
        "release_s": round(wall["release"], 3),
        "release_cpu_s": cpu["release"],
        "load": round(os.getloadavg()[0], 2),
    }


def write_once(options: argparse.Namespace) -> dict[str, Any]:
    """Write the checkpoint once; return its hash and what this process's memory reached."""
    case = _Case(options)
    with case.out() as out, case.merge(CONCEPTS, backwards=options.backwards) as merge:
        made = case.checkpoint(out, merge)
    digest = hashlib.sha256("".join(file.tensors for file in made).encode()).hexdigest()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB; bytes on macOS
    return {"hash": digest, "rss_mb": round(peak / (1 << (20 if sys.platform == "darwin" else 10)))}


def add_and_remove(options: argparse.Namespace) -> dict[str, Any]:
    """Time the exact sum alone: every layer, one concept added to 1 and to 12, and removed."""
    case = _Case(options)
    add, remove = {1: 0.0, CONCEPTS: 0.0}, {1: 0.0, CONCEPTS: 0.0}
    with case.merge(CONCEPTS + 1) as merge:
        for layer in case.spec.layers:
            *terms, one = merge.terms(layer)
            for number in add:
                total = LayerSum(layer.out, layer.width, case.spec.basis)
                total.add(*terms[:number])
                before = total.residual().tobytes()
                add[number] += timed(lambda total=total, one=one: total.add(one))[1]
                remove[number] += timed(lambda total=total, one=one: total.remove(one))[1]
                assert total.residual().tobytes() == before
    return {
        "sum_add_cpu_s": {str(number): round(value, 3) for number, value in add.items()},
        "sum_remove_cpu_s": {str(number): round(value, 3) for number, value in remove.items()},
    }


def with_peft(options: argparse.Namespace) -> dict[str, Any]:
    """Do the same with PEFT on the same A and B; return its times and how far the weights differ.

    Making the models and loading the twelve adapters does not count.
    """
    case = _Case(options)
    seconds = {"cat": 0.0, "merge": 0.0, "save": 0.0}
    apart, scale = 0.0, 0.0
    with case.out() as out, case.merge(CONCEPTS) as merge:
        case.checkpoint(out, merge)
        for component in {layer.path.partition(".")[0] for layer in case.spec.layers}:
            times, differs, size = _peft_component(component, case, merge, out)
            seconds = {key: seconds[key] + times[key] for key in seconds}
            apart, scale = max(apart, differs), max(scale, size)
    return {
        "cat_s": round(seconds["cat"], 3),
        "merge_s": round(seconds["merge"], 3),
        "save_s": round(seconds["save"], 3),
        "all_s": round(sum(seconds.values()), 3),
        "largest_difference": apart,
        "largest_residual": scale,
    }


def _peft_component(
    component: str, case: "_Case", merge: Merge, out: Path
) -> tuple[dict[str, float], float, float]:
    import published_bases  # noqa: PLC0415  # torch, in this stage alone
    import torch  # noqa: PLC0415  # see above
    from peft import LoraConfig, PeftModel  # noqa: PLC0415  # see above
    from safetensors.torch import load_file, save_file  # noqa: PLC0415  # see above

    module = published_bases.networks(case.name)[component]
    path = next((case.base / component).glob("*.safetensors"))
    keys = {published_bases.on_disk(component, key): key for key in module.state_dict()}
    stored = {keys[name]: value for name, value in load_file(path).items()}
    module.load_state_dict(stored, assign=True)
    rank = RANKS[case.name]
    layers = {
        next(
            keys[name].removesuffix(".weight") for name in tensor_names(layer.path) if name in keys
        ): layer
        for layer in case.spec.layers
        if layer.path.startswith(f"{component}.")
    }
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(layers))
    model = PeftModel(module, config, adapter_name="0")
    for number in range(1, CONCEPTS):
        model.add_adapter(str(number), config)
    for name, layer in layers.items():
        target: Any = module.get_submodule(name)
        for number, term in enumerate(merge.terms(layer)):
            a = dequantise(_quantised(term))
            b = term.integers.astype(np.float64) / np.sqrt(layer.width)
            target.lora_B[str(number)].weight.data.copy_(torch.from_numpy(a))
            target.lora_A[str(number)].weight.data.copy_(torch.from_numpy(b.T.copy()))
    names = [str(number) for number in range(CONCEPTS)]

    def cat() -> None:
        model.add_weighted_adapter(names, [LAMBDA / 1024] * CONCEPTS, "all", combination_type="cat")
        model.set_adapter("all")

    merged: list[Any] = []
    target_path = out / f"{component}.safetensors"

    def save() -> None:
        save_file(merged[0].state_dict(), target_path)
        _sync(target_path)

    seconds = {
        "cat": timed(cat)[0],
        "merge": timed(lambda: merged.append(model.merge_and_unload(adapter_names=["all"])))[0],
        "save": timed(save)[0],
    }
    theirs, apart, scale = merged[0].state_dict(), 0.0, 0.0
    ours = load_file(out / "checkpoint" / path.relative_to(case.base))
    base = load_file(path)
    for name in layers:
        key = published_bases.on_disk(component, f"{name}.weight")
        mine = ours[key].double()
        apart = max(apart, float((theirs[f"{name}.weight"].double() - mine).abs().max()))
        scale = max(scale, float((mine - base[key].double()).abs().max()))
    return seconds, apart, scale


def _quantised(term: Any) -> Any:
    from orthofed.core.quantise import Quantised  # noqa: PLC0415  # one use

    return Quantised(term.q, term.exponent)


class _Case:
    """One base, its contributions, and the coordinator's ways to merge them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.name: str = options.models[0]
        self.scratch = Path(options.scratch)
        self.base = self.scratch / "base"
        self.folder = _folder(options)
        self.spec = FederationSpec.from_bytes((self.folder.public / "spec.json").read_bytes())
        self.plan = Plan.from_bytes((self.folder.root / "plan.json").read_bytes())
        self.fs = Fs()

    @contextmanager
    def out(self) -> Iterator[Path]:
        """Give an empty folder that is gone afterwards."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            yield Path(folder)

    @contextmanager
    def merge(self, number: int, *, backwards: bool = False) -> Iterator[Merge]:
        items = self.plan.included[:number]
        with open_merge(self.spec, items[::-1] if backwards else items, self.folder) as merge:
            yield merge

    def lora(self, out: Path, merge: Merge) -> None:
        (out / "lora").mkdir()
        origin = FileOrigin(self.spec, basis_fingerprint(self.spec, 0), "epsilon")
        next(write_loras(out, merge, origin, n=1, carried=Carried(out, {}), fs=self.fs))

    def checkpoint(self, out: Path, merge: Merge) -> list[Any]:
        (out / "checkpoint").mkdir()
        return list(write_checkpoint(out, BaseFolder(self.base), merge, fs=self.fs))

    def release(self, out: Path) -> None:
        folder = DataFolder(out)
        folder.blobs = self.folder.blobs
        folder.releases.mkdir(parents=True)
        plan = replace(self.plan, included=self.plan.included[:CONCEPTS])
        publisher.build(
            folder,
            self.spec,
            plan,
            KEY,
            base=BaseFolder(self.base),
            fs=self.fs,
            say=lambda _: None,
        )


def _folder(options: argparse.Namespace) -> DataFolder:
    return DataFolder(Path(options.scratch) / "fed")


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that ``work`` takes, on the clock and of processor time."""
    started_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started_s, time.process_time() - cpu_s


def _copy(source: Path, target: Path) -> None:
    """Copy the weight files as the standard library does, then sync each."""
    for path in sorted(source.rglob("*.safetensors")):
        to = target / path.relative_to(source)
        to.parent.mkdir(parents=True)
        shutil.copyfile(path, to)
        _sync(to)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _circumstances() -> dict[str, object]:
    return {
        "schema": "orthofed.merge/1",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/merge.py", *sys.argv[1:]]),
        "commit": commit(),
        "hardware": hardware(),
        "cpus": os.cpu_count(),
        "versions": {name: version(name) for name in ("numpy", "torch", "peft")},
    }


STAGES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "base": make_base,
    "concepts": make_concepts,
    "turns": take_turns,
    "once": write_once,
    "sums": add_and_remove,
    "peft": with_peft,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="a merge, beside a copy and beside PEFT")
    parser.add_argument("--models", nargs="+", choices=list(RANKS), default=["sd15"])
    parser.add_argument("--rounds", type=int, default=5, help="timed turns, after one more")
    parser.add_argument("--work", type=Path, help="a folder on the disk to measure; default: temp")
    parser.add_argument("--no-peft", action="store_true", help="leave PEFT out")
    parser.add_argument("--json", action="store_true", help="one JSON object, with the hardware")
    parser.add_argument("--stage", choices=list(STAGES), help=argparse.SUPPRESS)
    parser.add_argument("--scratch", help=argparse.SUPPRESS)
    parser.add_argument("--backwards", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
