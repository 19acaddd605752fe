"""Fuzz one parser with coverage as the guide, and print one JSON line.

    PYTHONSAFEPATH=1 python tests/fuzz_parser.py NAME RUNS FOLDER

Runs until ``RUNS`` inputs were read, or ends with libFuzzer's exit code and a traceback at the
first one that raises what its parser does not name, is taken and spelt otherwise, or asks for
memory by the gigabyte. The last input stays in ``FOLDER``. Times are processor time, so that other
work on the machine does not count. Needs the extra `faults` (atheris).
"""

import gc
import importlib
import json
import os
import resource
import sys
import time
import types
from pathlib import Path
from typing import Any

atheris: Any = importlib.import_module("atheris")  # of the extra `faults`
HERE = Path(__file__).parent
PACKAGE = "fuzzed"
MORE_BYTES = 2 << 30
TOKENS = (*'{}[]",:-09', "true", "false", "null", "1e999", "\\\\", "\\x00", "9007199254740992")


def main(name: str, runs: int, folder: Path) -> None:
    package = types.ModuleType(PACKAGE)
    package.__path__ = [str(HERE)]
    sys.modules[PACKAGE] = package
    with atheris.instrument_imports(include=["orthofed"]):
        parsers: Any = importlib.import_module(f"{PACKAGE}.parsers")
    parser = next(each for each in parsers.PARSERS if each.name == name)
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    for i, seed in enumerate(parser.seeds):
        (corpus / f"seed-{i}").write_bytes(seed)
    words = folder / "words"
    words.write_text("".join(f'"{token}"\n' for token in TOKENS).replace('"""', '"\\""'))
    gc.freeze()  # a collection of all that was imported takes 30 ms, and is nobody's input
    _cap_memory()
    peak_kib = _peak_kib()
    read = taken = slowest_ns = slowest_bytes = 0

    def once(data: bytes) -> None:
        nonlocal read, taken, slowest_ns, slowest_bytes
        start_ns = time.thread_time_ns()
        taken += parser.run(data)
        spent_ns = time.thread_time_ns() - start_ns
        if spent_ns > slowest_ns:
            slowest_ns, slowest_bytes = spent_ns, len(data)
        read += 1
        if read == runs:
            parsers.SCRATCH.cleanup()
            told = {
                "parser": name,
                "runs": read,
                "taken": taken,
                "slowest_ms": round(slowest_ns / 1e6, 2),
                "slowest_bytes": slowest_bytes,
                "growth_mb": round((_peak_kib() - peak_kib) / 1024, 1),
            }
            print(json.dumps(told), flush=True)
            os._exit(0)  # libFuzzer knows no other end

    options = ["-runs=-1", "-rss_limit_mb=0", f"-max_len={parser.most}", f"-dict={words}"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", str(corpus)], once)
    atheris.Fuzz()


def _cap_memory() -> None:
    """Let an allocation from a declared length fail, rather than the machine."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
