"""A small run of benchmarks/load.py, so that it keeps working; speeds are not judged here."""

import json
import os
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "load.py"


def test_every_client_of_a_small_run_has_its_receipt(tmp_path):
    """Eight clients of half a MiB, two renewers, a file of 2 MiB."""
    words = ["--clients", "8", "--layers", "16", "--renewers", "2", "--file-mib", "2"]
    words += ["--processes", "1", "--folder", str(tmp_path), "--json"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}

    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment,  # the benchmark imports the files beside it
    )

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["errors"], told["receipts"], told["clients"]) == (0, 8, 8)
    assert told["mib_each"] > 0.5
    assert told["rss_mb"] < 300
    assert told["renewals"] >= 1
    assert told["upload_ratio"] > 0
    assert told["sink_ratio"] > 0
    assert told["clients_cpu_s"] > 0
