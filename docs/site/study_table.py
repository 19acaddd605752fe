"""The study's retention as a table of docs/method.md, made while the site is built."""

import json
from pathlib import Path

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "study-cpu-1.json"
MARK = "<!-- generated: study -->"
WORDS = {
    "hadamard_null10_slow": "disjoint blocks, null response (what `orthofed client train` does)",
    "hadamard_null50_slow": "the same, with five times its weight",
    "lora_null10": "LoRA, null response",
    "hadamard": "disjoint blocks, without it",
    "equal": "one block for all, without it",
}


def study_table() -> str:
    """Return the table, and where its numbers come from."""
    result = json.loads(RESULT.read_text("utf-8"))
    methods = result["methods"]
    cells = [cell for cell in methods["hadamard"] if "@" in cell and not cell.startswith("1@")]
    cells.sort(key=lambda cell: (cell.partition("@")[2], int(cell.partition("@")[0])))
    heads = [f"{n} at {weight}" for n, _, weight in (cell.partition("@") for cell in cells)]
    lines = [f"| retention | {' | '.join(heads)} |", f"| --- |{' --- |' * len(cells)}"]
    for method, words in WORDS.items():
        kept = (f"{methods[method][cell]['retention']:.2f}" for cell in cells)
        lines.append(f"| {words} | {' | '.join(kept)} |")
    crosstalk = {method: methods[method][cells[-1]]["weight_crosstalk"] for method in WORDS}
    runs = "; ".join(dict.fromkeys(f"{run['date']}, `{run['hardware']}`" for run in result["runs"]))
    words = (
        f"{len(result['concepts'])} people of one drawing style on the base that ships;"
        f" {runs}. Heads: how many are merged, and at which"
        f" lambda. What two changes have in common, the norm of dW_i dW_j^T over both norms:"
        f" {crosstalk['hadamard']:g} for disjoint blocks, {crosstalk['equal']:.2f} behind"
        " one block."
    )
    lines += ["", words]
    return "\n".join(lines)
