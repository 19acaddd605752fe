"""Which methods of a study are held against which, cell by cell.

Ours, and what it is compared with: the paper's setting, the product's, what a refit adds; then the
paper's own order, neighbour by neighbour. A pair is compared by every figure that both have on the
same concepts, sets and training seeds; at a lambda for both, and each at its best.
"""

from collections.abc import Mapping, Sequence

from .drawn import Drawn
from .figures import BEST, SEEN, best_lambdas, difference, losses, retentions, seen
from .trials import Outcome

_RIVALS = (
    "equal",
    "half",
    "haar_draw",
    "haar",
    "hadamard_width",
    "gaussian",
    "epochs",
    "quiet",
    "complement",
    "lora",
)
_NULL_RIVALS = ("equal_null", "epochs_null", "lora_null", "hadamard", "haar_draw", "lora", "tokens")
_STRONG_RIVALS = (
    "lora_null5",
    "lora_null",
    "hadamard_null5",
    "hadamard_null_slow_refit",
    "lora",
    "lora_fusion",
    "haar_draw",
    "tokens",
)
_SLOW_RIVALS = (
    "hadamard_null",
    "hadamard_null5_slow",
    "complement_null_slow",
    "equal_null_slow",
    "epochs_null_slow",
    "lora_null",
    "hadamard_slow",
    "lora",
    "haar_draw",
    "tokens",
)
"""Of the product: `orthofed client train` learns at the rate of the slow methods."""
_REFIT_RIVALS = (
    "hadamard_null",
    "equal_null_refit",
    "epochs_null_refit",
    "lora_null_refit",
    "lora_fusion",
    "lora_refit",
    "tokens",
)
_SLOW_REFIT_RIVALS = (
    "hadamard_null_slow",
    "hadamard_null_refit",
    "lora_null",
    "lora_null_refit",
    "lora_fusion",
    "tokens",
)
_IN_THE_PAPERS_ORDER = (
    ("haar_draw", "lora_fusion"),
    ("haar_draw", "lora"),
    ("lora_fusion", "lora"),
    ("lora", "tokens_layered"),
    ("lora", "dreambooth"),
    ("tokens_layered", "dreambooth"),
)
"""Orthogonal Adaptation, gradient fusion, FedAvg of LoRA, P+, DreamBooth-LoRA: method.md 1.2."""
PAIRS = (
    *(("hadamard", rival) for rival in _RIVALS),
    *((ours, "haar_draw") for ours in ("haar", "gaussian")),
    *(("hadamard", rival) for rival in ("frozen_up", "loudest", "hadamard_tokens_frozen")),
    *(("hadamard_null", rival) for rival in _NULL_RIVALS),
    *(("hadamard_null_refit", rival) for rival in _REFIT_RIVALS),
    *(("hadamard_null_slow", rival) for rival in _SLOW_RIVALS),
    *(("hadamard_null5_slow", rival) for rival in _STRONG_RIVALS),
    *(("hadamard_null_slow_refit", rival) for rival in _SLOW_REFIT_RIVALS),
    *(("lora_null", rival) for rival in ("lora", "lora_null_refit", "lora_fusion", "tokens")),
    *_IN_THE_PAPERS_ORDER,
    ("lora", "lora_same_seed"),
    ("lora_fusion", "tokens"),
)


def differences(
    base: Mapping[str, float], outcomes: Sequence[Outcome], drawn: Sequence[Drawn]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return every difference by "OURS - RIVAL CELL" and figure."""
    trials = [each.trial for each in (*outcomes, *drawn)]
    pairs = {(len(trial.names), -trial.lambda_, trial.cell) for trial in trials}
    pairs |= {(size, 0.0, f"{size}@{BEST}") for size, *_ in pairs if size > 1}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for ours, rival in PAIRS:
        for _, _, cell in sorted(pairs):
            both = (ours, rival)
            if cell.endswith(f"@{BEST}") and _is_one_lambda(outcomes, both, cell):
                continue  # it stands there under its number
            gaps = {
                "loss": difference(*(losses(outcomes, m, cell) for m in both)),
                "retention": difference(*(retentions(base, outcomes, m, cell) for m in both)),
                **{f: difference(*(seen(drawn, m, cell, f) for m in both)) for f in SEEN},
            }
            if kept := {name: gap for name, gap in gaps.items() if gap}:
                found[f"{ours} - {rival} {cell}"] = kept
    return found


def _is_one_lambda(outcomes: Sequence[Outcome], methods: Sequence[str], cell: str) -> bool:
    size = cell.partition("@")[0]
    chosen = {each for method in methods for each in best_lambdas(outcomes, method, size)}
    return len(chosen) == 1
