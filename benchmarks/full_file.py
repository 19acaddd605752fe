"""What a full file costs at its real size: time, and the most memory of the process.

    python benchmarks/full_file.py --json                    # SD 1.5, 12 concepts: minutes, 7 GB

``make``: written from contributions and base on one thread, as `orthofed pull --as full` does.
``derive``: hashed from a checkpoint that was just written, as a release does; nothing is kept.
Each part is a process of its own; ``start_mib`` is what it has before it begins. Claim: beside
that, one tensor and its merge are in memory, never the model.
"""

import argparse
import datetime as dt
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from circumstances import commit, hardware
from merge_case import CONCEPTS, Case

from orthofed.client.write_file import write_file
from orthofed.coordinator.base import BaseFolder
from orthofed.core.basis_fingerprint import basis_fingerprint
from orthofed.core.derived_file import derive
from orthofed.core.kinds import release_files
from orthofed.core.lorafile import FileOrigin

_MIB = 1 << 10  # ru_maxrss is in KiB


def main() -> None:
    options = _options()
    if options.part:
        print(json.dumps(_part(options.scratch, options.part)))
        return
    with TemporaryDirectory(dir=options.scratch) as folder:
        scratch = Path(folder)
        _run(options.model, scratch, "prepare")
        parts = {part: _run(options.model, scratch, part) for part in ("make", "derive")}
    report = {
        "schema": "orthofed.full-file/1",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": f"python benchmarks/full_file.py --json --model {options.model}",
        "commit": commit(),
        "hardware": hardware(),
        "model": options.model,
        "concepts": CONCEPTS,
        **parts,
    }
    print(json.dumps(report))


def _run(model: str, scratch: Path, part: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--model", model, "--scratch", str(scratch)]
    done = subprocess.run([*command, "--part", part], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _part(scratch: Path, part: str) -> dict[str, float]:
    model = _options().model
    if part == "prepare":
        from published_bases import write_base  # noqa: PLC0415  # torch, in this process alone

        write_base(scratch / "base", model)
        Case.make(scratch, model, "fed", CONCEPTS)
        return {}
    case = Case(scratch)
    base, origin = BaseFolder(case.base), FileOrigin(case.spec, basis_fingerprint(case.spec, 0))
    with case.merge(CONCEPTS) as merge, case.out() as out:
        if part == "derive":
            case.checkpoint(out, merge, threads=1)
        start_mib = _peak_mib()
        began_s = time.perf_counter()
        if part == "make":
            (file,) = release_files(merge, origin, base, n=1, kinds=("full",))
            num_bytes = write_file(out, file)[0].bytes
        else:
            merged = BaseFolder(out / "checkpoint")
            (said,) = derive(merge, origin, base, n=1, kinds=("full",), merged=merged)
            num_bytes = said.bytes
        seconds = time.perf_counter() - began_s
    return {
        "bytes": num_bytes,
        "seconds": round(seconds, 1),
        "start_mib": start_mib,
        "peak_mib": _peak_mib(),
    }


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _MIB


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="sd15", choices=["tiny", "sd15", "sdxl"])
    parser.add_argument("--scratch", type=Path, help="folder on a disk with room")
    parser.add_argument("--json", action="store_true", help="one JSON object, with the hardware")
    parser.add_argument("--part", choices=["prepare", "make", "derive"], help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
