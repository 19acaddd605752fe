"""Which methods of a study are held against which, cell by cell.

Ours, and what it is compared with: the paper's setting, the product's, what a refit adds. A pair is
compared by every figure that both have on the same concepts, sets and training seeds.
"""

from collections.abc import Mapping, Sequence

from .drawn import Drawn
from .figures import SEEN, difference, losses, retentions, seen
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
_REFIT_RIVALS = (
    "hadamard_null",
    "equal_null_refit",
    "lora_null_refit",
    "lora_fusion",
    "lora_refit",
)
PAIRS = (
    *(("hadamard", rival) for rival in _RIVALS),
    *((ours, "haar_draw") for ours in ("haar", "gaussian")),
    *(("hadamard_null", rival) for rival in ("equal_null", "lora_null", "hadamard")),
    *(("hadamard_null_refit", rival) for rival in _REFIT_RIVALS),
)


def differences(
    base: Mapping[str, float], outcomes: Sequence[Outcome], drawn: Sequence[Drawn]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return every difference by "OURS - RIVAL CELL" and figure."""
    trials = [each.trial for each in (*outcomes, *drawn)]
    pairs = {(len(trial.names), -trial.lambda_, trial.cell) for trial in trials}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for ours, rival in PAIRS:
        for _, _, cell in sorted(pairs):
            both = (ours, rival)
            gaps = {
                "loss": difference(*(losses(outcomes, m, cell) for m in both)),
                "retention": difference(*(retentions(base, outcomes, m, cell) for m in both)),
                **{f: difference(*(seen(drawn, m, cell, f) for m in both)) for f in SEEN},
            }
            if kept := {name: gap for name, gap in gaps.items() if gap}:
                found[f"{ours} - {rival} {cell}"] = kept
    return found
