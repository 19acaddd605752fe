"""The benchmark beside an ordinary LoRA: its smallest form and what it prints."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "single_concept.py"


def test_a_concept_is_trained_by_both_methods_and_compared(tmp_path: Path) -> None:
    """Two steps of one concept: every contestant has a loss, and a second run trains nothing."""
    small = ["--num", "1", "--tune", "1", "--steps", "2", "--draws", "16", "--work", str(tmp_path)]
    command = [sys.executable, str(BENCHMARK), "--json", *small, "--methods", "orthofed", "lora"]

    first = subprocess.run(command, check=True, capture_output=True)
    again = subprocess.run(command, check=True, capture_output=True)

    said = json.loads(first.stdout)
    (row,) = said["concepts"].values()
    assert said["ratios"]["orthofed_to_lora"]["worst"] == round(row["orthofed"] / row["lora"], 4)
    assert len(set(row.values())) == 3, "base, frozen B and LoRA answer differently"
    assert len(said["tuning"]["lora"]) >= 3
    assert not again.stderr
    assert json.loads(again.stdout)["concepts"] == said["concepts"]
