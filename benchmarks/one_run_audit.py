"""A lower bound on epsilon from one run, by how well somebody can tell who took part.

m canaries take part or not, each by the toss of a coin; an auditor guesses for r of them, v right.
Under (epsilon, delta) per record, add or remove one,

    P[V >= v] <= b(v) + 2 m delta max over i of (b(v - i) - b(v)) / i,    b(v) = P[Bin(r, p) >= v]

with p = e^epsilon / (1 + e^epsilon). The greatest epsilon that this still refutes is the bound.
Source: arXiv:2305.08846 (Steinke, Nasr, Jagielski), theorem 5.2 and appendix D.
"""

import numpy as np
from scipy import stats


def lower_bound(
    num_canaries: int, guesses: int, right: int, *, delta: float, confidence: float = 0.95
) -> float:
    """Return the epsilon that so many right guesses refute at this confidence; 0 if none."""

    def refuted(epsilon: float) -> bool:
        return p_value(num_canaries, guesses, right, epsilon, delta) < 1 - confidence

    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high):
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def p_value(num_canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Return the most that so many right guesses can be expected of an (epsilon, delta) run."""
    accuracy = 1 / (1 + np.exp(-epsilon))
    beyond = stats.binom.sf(right - 1, guesses, accuracy)
    if not delta or not right:
        return float(beyond)
    back = np.arange(1, right + 1)
    between = np.cumsum(stats.binom.pmf(right - back, guesses, accuracy))
    return float(min(1.0, beyond + 2 * num_canaries * delta * (between / back).max()))


def right_guesses(scores: np.ndarray, took_part: np.ndarray, guesses: int) -> int:
    """Return how many are right of: the upper half of ``guesses`` took part, the lower did not."""
    order, half = np.argsort(scores), guesses // 2
    return int(took_part[order[-half:]].sum() + (~took_part[order[:half]]).sum())
