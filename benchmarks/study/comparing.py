"""Which methods of a study are held against which, cell by cell.

Ours, and what it is compared with: the paper's setting, the product's, what a refit adds; then the
paper's own order, neighbour by neighbour. A pair is compared by every figure that both have on the
same concepts, sets and training seeds; at a lambda for both, and each at its best of those that
both were run with.
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
    "lora_fusion",
    "haar_draw",
    "tokens",
    "tokens_layered",
    "hadamard_layered_null10_slow",
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
    "tokens_layered",
    "hadamard_layered_null50_slow",
)
_LORA_NULL10_RIVALS = ("lora", "lora_null10_refit", "lora_fusion", "tokens", "tokens_layered")
_LAYERED = ("hadamard_layered_null10_slow", "hadamard_layered_null50_slow")
"""The product's, in a federation founded with `--layerwise-tokens`."""
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
    *((f"hadamard_words_{much}", f"equal_words_{much}") for much in ("third", "thrice")),
    *(("hadamard_null10", rival) for rival in _NULL10_RIVALS),
    *(("hadamard_null10_refit", rival) for rival in _NULL10_REFIT_RIVALS),
    *(("hadamard_null10_slow_refit", rival) for rival in _NULL10_SLOW_REFIT_RIVALS),
    *((_PRODUCT, rival) for rival in _PRODUCTS_RIVALS),
    *((_STRONG, rival) for rival in _STRONG_RIVALS),
    *(("lora_null10", rival) for rival in _LORA_NULL10_RIVALS),
    *_IN_THE_PAPERS_ORDER,
    ("lora", "lora_same_seed"),
    ("lora_fusion", "tokens"),
    *((ours, "tokens_layered") for ours in ("lora_fusion", *_LAYERED)),
    ("tokens_layered", "tokens"),
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
            both, some = (ours, rival), outcomes
            if cell.endswith(f"@{BEST}"):
                some = _of_the_same_lambdas(outcomes, both, cell)
                if _is_one_lambda(some, both, cell):
                    continue  # it stands there under its number
            gaps = {
                "loss": difference(*(losses(some, m, cell) for m in both)),
                "retention": difference(*(retentions(base, some, m, cell) for m in both)),
                **{f: difference(*(seen(drawn, m, cell, f) for m in both)) for f in SEEN},
            }
            if kept := {name: gap for name, gap in gaps.items() if gap}:
                found[f"{ours} - {rival} {cell}"] = kept
    return found


def _of_the_same_lambdas(
    outcomes: Sequence[Outcome], methods: Sequence[str], cell: str
) -> list[Outcome]:
    """Leave out the lambdas that one of the two was not run with, so that none has more choice."""
    size = int(cell.partition("@")[0])
    tried = [
        {o.trial.lambda_ for o in outcomes if (o.trial.method, len(o.trial.names)) == (m, size)}
        for m in methods
    ]
    shared = set[float].intersection(*tried)
    return [
        o
        for o in outcomes
        if o.trial.method in methods and (len(o.trial.names) != size or o.trial.lambda_ in shared)
    ]


def _is_one_lambda(outcomes: Sequence[Outcome], methods: Sequence[str], cell: str) -> bool:
    size = cell.partition("@")[0]
    chosen = {each for method in methods for each in best_lambdas(outcomes, method, size)}
    return len(chosen) == 1
