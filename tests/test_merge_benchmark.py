"""The benchmark of the merge: its smallest form, what it prints and what must not move."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "merge.py"


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    # A script finds its neighbours beside it, which PYTHONSAFEPATH would forbid.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    words = ["--json", "--models", "tiny", "--rounds", "1"]
    words += ["--parts", "turns", "growth", "threads", "kept"]
    words += ["--work", str(tmp_path_factory.mktemp("merge"))]
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *words], check=True, capture_output=True, env=env
    )
    return json.loads(done.stdout)


def test_a_result_says_where_and_when_it_was_measured(printed: dict[str, Any]) -> None:
    """A figure without hardware, date, commit and command is no result."""
    assert printed["schema"] == "orthofed.merge/2"
    for key in ("date", "command", "commit", "hardware", "cpus", "versions"):
        assert printed[key], key


def test_threads_and_order_change_no_byte_of_the_checkpoint(printed: dict[str, Any]) -> None:
    """Three processes: one thread, two, and two with the concepts in reverse."""
    (result,) = printed["results"]

    assert len(result["hashes"]) == 3
    assert len(set(result["hashes"].values())) == 1
    assert all(len(digest) == 64 for digest in result["hashes"].values())


def test_every_figure_of_the_aim_is_there(printed: dict[str, Any]) -> None:
    """Times are not judged here."""
    (result,) = printed["results"]

    assert (result["model"], result["turns"]["concepts"], result["rounds"]) == ("tiny", 12, 1)
    assert result["rss_mb"] > 10
    assert [found["concepts"] for found in result["growth"]["numbers"]] == [2, 6]
    for found in (result["turns"], *result["growth"]["numbers"]):
        for key in ("copy_ratio", "copy_s", "checkpoint_s", "lora_s", "release_s"):
            assert found[key] > 0, key
        assert min(found["add_s"], found["remove_s"]) > 0
    assert result["kept"]["kept_sum_bytes"] == 8 * result["adapted_weights"]
