"""The benchmark of a training step: its smallest form, what it prints and what must not move."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "train_step.py"


@pytest.fixture(scope="module")
def printed() -> dict[str, Any]:
    options = ["--json", "--shapes", "tiny", "--steps", "2", "--threads", "1", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *options, "--dtype", "float32"],
        check=True,
        capture_output=True,
    )
    return json.loads(done.stdout)


def test_a_result_says_where_and_when_it_was_measured(printed: dict[str, Any]) -> None:
    """A figure without hardware, date, commit and command is no result."""
    assert printed["schema"] == "orthofed.train-step/1"
    for key in ("date", "command", "commit", "hardware", "device", "dtype", "threads", "versions"):
        assert printed[key], key
    (result,) = printed["results"]
    assert result["steps"] == 2
    assert 0 < result["time_ratio"] < 100  # a time is not judged here
    assert set(result["step_s"]) == {"orthofed", "peft_lora", "peft_a_frozen"}


def test_a_frozen_b_needs_half_the_numbers_and_keeps_less(printed: dict[str, Any]) -> None:
    """What does not hang on the machine: trainable numbers, optimiser state, saved activations."""
    (result,) = printed["results"]

    assert result["trainable_ratio"] <= 0.55
    assert result["optimizer_bytes_ratio"] <= 0.55
    assert result["saved_activation_ratio"] <= 0.95


def test_the_steps_are_those_of_peft_with_its_input_side_frozen(printed: dict[str, Any]) -> None:
    """Same B, same A from zero, same batch: the losses agree, so the work compared is the same."""
    (result,) = printed["results"]

    assert result["loss_difference"] < 1e-5
