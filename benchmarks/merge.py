# pyright: basic
# What a stage prints is parsed as it comes.
"""What a merge costs: a stacked LoRA, a full fp16 checkpoint, one concept more, one less.

    python benchmarks/merge.py --json                         # SD1.5: 12 minutes, 9 GB of disk
    python benchmarks/merge.py --json --models sdxl --parts turns threads --rounds 2    # 35 GB

Aim, for SD1.5: a full checkpoint in at most 2.5 times what copying its files takes (`copy_ratio`)
and 600 MB (`rss_mb`); one more or one less in time that does not grow with the number merged; one
hash for any number of threads and any order. What came out is in docs/log.md.

The base has the published model's names, shapes and size, and random weights. The code is the
coordinator's own: ``publisher.build``, and of it ``write_checkpoint`` and ``write_loras``. Concepts
are random A, lambda 614/1024, in every attention layer. Parts, each a process of its own, so that
no part's memory is another's peak:

    turns    twelve concepts at rank 20
    growth   2 to 48 concepts, at the ranks that 49 slots leave
    threads  the hash of the checkpoint by threads and order; peak memory (MiB) of a process that
             writes it and does nothing else (`rss_mb`, most threads)
    kept     what keeping the sum in a file would cost instead
    peft     add_weighted_adapter(combination_type="cat"), merge_and_unload, save_file + sync

Figures of turns and growth, medians of wall times; *_cpu_s in processor time, all threads:

    copy_s        shutil.copyfile of the checkpoint's weight files, each synced
    checkpoint_s  checkpoint/ of a release, hashed and synced
    lora_s        the stacked LoRA alone
    release_s     a first release, whole: base checked, LoRAs, checkpoint, every hash, signed
    add_s         the release after it, whole, with one concept more; remove_s: with one less
"""

import argparse
import datetime as dt
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from circumstances import commit, hardware
from merge_case import CONCEPTS, RANKS, WIDE, Case
from merge_kept_sum import kept_sum
from merge_turns import take_turns

NUMBERS = (2, 6, 12, 24, 48)
PARTS = ("turns", "growth", "threads", "kept", "peft")
_BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main() -> None:
    options = _options()
    if options.stage:
        print(json.dumps(STAGES[options.stage](options)))
        return
    results = [_measured(name, options) for name in options.models]
    told = {**_circumstances(), "results": results}
    if options.add:
        runs = json.loads(options.add.read_text("utf-8")) if options.add.exists() else []
        options.add.write_text(json.dumps([*runs, told], indent=2) + "\n", "utf-8")
    print(json.dumps(told, indent=2) if options.json else "\n".join(map(json.dumps, results)))


def _measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one model."""
    if options.keep:
        scratch = options.keep / name
        scratch.mkdir(parents=True, exist_ok=True)
        return _parts(name, scratch, options)
    with tempfile.TemporaryDirectory(dir=options.work, prefix="merge-") as folder:
        return _parts(name, Path(folder), options)


def _parts(name: str, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    def stage(stage: str, *more: str, threads: int = 0) -> dict[str, Any]:
        print(f"{name}: {stage} {' '.join(more)}", file=sys.stderr)
        words = ["--stage", stage, "--scratch", str(scratch), "--models", name]
        words += ["--rounds", str(options.rounds), *more]
        if threads:
            words += ["--threads", str(threads)]
        env = {**os.environ, **(dict.fromkeys(_BLAS, str(threads)) if threads else {})}
        done = subprocess.run(
            [sys.executable, __file__, *words], env=env, check=True, stdout=subprocess.PIPE
        )
        return json.loads(done.stdout.splitlines()[-1])

    told: dict[str, Any] = {"model": name, "rounds": options.rounds, **stage("make")}
    for part in options.parts:
        if part == "threads":
            told["hashes"] = {
                "1 thread": stage("once", threads=1)["hash"],
                "2 threads": stage("once", threads=2)["hash"],
                "2 threads, last first": stage("once", "--backwards", threads=2)["hash"],
            }
            told["rss_mb"] = stage("once")["rss_mb"]
        else:
            told[part] = stage(part)
    return told


def make(options: argparse.Namespace) -> dict[str, Any]:
    """Make base and federations, if they are not there; torch is loaded here, and for PEFT."""
    import published_bases  # noqa: PLC0415  # see above

    name, scratch = options.models[0], Path(options.scratch)
    if not (scratch / "base").exists():
        published_bases.write_base(scratch / "base", name)
    case = Case.make(scratch, name, "fed", CONCEPTS + 1)
    Case.make(scratch, name, "wide", min(WIDE[name], NUMBERS[-1] + 1))
    paths = list((scratch / "base").rglob("*.safetensors"))
    return {
        "rank": RANKS[name],
        "layers": len(case.spec.layers),
        "adapted_weights": sum(layer.out * layer.width for layer in case.spec.layers),
        "weights_bytes": sum(path.stat().st_size for path in paths),
    }


def turns(options: argparse.Namespace) -> dict[str, Any]:
    """Time everything of ours for twelve concepts of rank 20."""
    return take_turns(_case(options), [CONCEPTS], options.rounds)[0]


def growth(options: argparse.Namespace) -> dict[str, Any]:
    """Time the same by number of concepts, and say how the last compares with the first."""
    case = _case(options, "wide")
    numbers = [number for number in NUMBERS if number < len(case.plan.included)]
    found = take_turns(case, numbers, options.rounds)
    grown = {
        key: round(found[-1][f"{key}_s"] / found[0][f"{key}_s"], 3)
        for key in ("checkpoint", "lora", "release", "add", "remove")
    }
    return {"ranks": dict(case.spec.ranks), "numbers": found, "last_over_first": grown}


def once(options: argparse.Namespace) -> dict[str, Any]:
    """Write the checkpoint once; return its hash and what this process's memory reached."""
    case = _case(options)
    with case.out() as out, case.merge(CONCEPTS, backwards=options.backwards) as merge:
        made = case.checkpoint(out, merge, threads=options.threads)
    tensors = "".join(file.made.tensors for file in made if file.made is not None)
    digest = hashlib.sha256(tensors.encode()).hexdigest()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB; bytes on macOS
    return {"hash": digest, "rss_mb": round(peak / (1 << (20 if sys.platform == "darwin" else 10)))}


def kept(options: argparse.Namespace) -> dict[str, Any]:
    """Time one more concept with the sum in a file."""
    return kept_sum(_case(options))


def peft(options: argparse.Namespace) -> dict[str, Any]:
    """Do the same with PEFT."""
    from merge_peft import with_peft  # noqa: PLC0415  # torch, in this stage alone

    return with_peft(_case(options), options.models[0])


def _case(options: argparse.Namespace, kind: str = "fed") -> Case:
    return Case(Path(options.scratch), kind)


def _circumstances() -> dict[str, object]:
    return {
        "schema": "orthofed.merge/2",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/merge.py", *_public(sys.argv[1:])]),
        "commit": commit(),
        "hardware": hardware(),
        "cpus": os.cpu_count(),
        "versions": {name: version(name) for name in ("numpy", "torch", "peft")},
    }


def _public(words: list[str]) -> list[str]:
    """Return the command's words without folders of this machine."""
    return [Path(word).name if os.sep in word else word for word in words]


STAGES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "make": make,
    "turns": turns,
    "growth": growth,
    "once": once,
    "kept": kept,
    "peft": peft,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="a merge, beside a copy and beside PEFT")
    parser.add_argument("--models", nargs="+", choices=list(RANKS), default=["sd15"])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3, help="timed turns")
    parser.add_argument("--work", type=Path, help="a folder on the disk to measure; default: temp")
    parser.add_argument("--keep", type=Path, help="the same, and base and concepts stay there")
    parser.add_argument("--add", type=Path, help="append the run to this JSON file, a list of runs")
    parser.add_argument("--json", action="store_true", help="one JSON object, with the hardware")
    parser.add_argument("--stage", choices=list(STAGES), help=argparse.SUPPRESS)
    parser.add_argument("--scratch", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--backwards", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
