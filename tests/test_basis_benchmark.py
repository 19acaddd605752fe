"""The benchmark of the blocks: its smallest form, and that nothing of it is width x width."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "basis.py"


@pytest.fixture(scope="module")
def printed() -> dict[str, Any]:
    # A script finds its neighbours beside it, which PYTHONSAFEPATH would forbid.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    words = [sys.executable, str(BENCHMARK), "--json", "--models", "sd15", "--rounds", "1"]
    done = subprocess.run(words, check=True, capture_output=True, env=env)
    return json.loads(done.stdout)


def test_a_result_says_where_and_when_it_was_measured(printed: dict[str, Any]) -> None:
    """A figure without hardware, date, commit and command is no result."""
    assert printed["schema"] == "orthofed.basis/1"
    for key in ("date", "command", "commit", "hardware", "threads", "versions"):
        assert printed[key], key


def test_every_width_of_the_model_is_measured_beside_a_qr(printed: dict[str, Any]) -> None:
    """176 layers of four widths; times are not judged here, allocations are."""
    (result,) = printed["results"]

    assert (result["model"], result["layers"], result["rank"]) == ("sd15", 176, 20)
    assert [found["width"] for found in result["widths"]] == [320, 640, 768, 1280]
    for found in result["widths"]:
        assert found["qr_ratio"] > 0
        assert found["peak_bytes"] < found["square_bytes"]
