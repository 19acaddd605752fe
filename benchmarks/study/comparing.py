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
_NULL10_RIVALS = ("equal_null10", "lora_null10", "hadamard", "haar_draw", "lora", "tokens")
_NULL10_REFIT_RIVALS = (
    "hadamard_null10",
    "equal_null10_refit",
    "lora_null10_refit",
    "lora_fusion",
    "lora_refit",
    "tokens",
)
_NULL10_SLOW_REFIT_RIVALS = (
    "hadamard_null10_refit",
    "lora_null10",
    "lora_null10_refit",
    "lora_fusion",
    "tokens",
)
_PRODUCT = "hadamard_null10_slow"
"""What `orthofed client train` does: the rates and the weight of its defaults."""
_PRODUCTS_RIVALS = (
    "hadamard_null10",
    "hadamard_null10_slow_refit",
    "complement_null10_slow",
    "equal_null10_slow",
    "epochs_null10_slow",
    "lora_null10",
    "hadamard_slow",
    "lora",
    "haar_draw",
    "tokens",
)
_STRONG = "hadamard_null50_slow"
"""The same with five times the null response."""
_STRONG_RIVALS = (
    "hadamard_null10_slow",
    "hadamard_null100_slow",
    "hadamard_null50_strangers_slow",
    "hadamard_null50",
    "hadamard_null50_slow_refit",
    "hadamard_null10_slow_refit",
    "lora_null50",
    "lora_null10",
    "lora",
    "lora_fusion",
    "haar_draw",
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
    *(("hadamard_null10", rival) for rival in _NULL10_RIVALS),
    *(("hadamard_null10_refit", rival) for rival in _NULL10_REFIT_RIVALS),
    *(("hadamard_null10_slow_refit", rival) for rival in _NULL10_SLOW_REFIT_RIVALS),
    *((_PRODUCT, rival) for rival in _PRODUCTS_RIVALS),
    *((_STRONG, rival) for rival in _STRONG_RIVALS),
    *(("lora_null10", rival) for rival in ("lora", "lora_null10_refit", "lora_fusion", "tokens")),
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
