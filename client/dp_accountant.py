# pyright: basic
# dp-accounting publishes no types.
"""Epsilon of a plan, and the least noise for an epsilon, by Renyi differential privacy.

    T times: each image drawn alone with probability q, sum of norm C at most, noise sigma C

Add or remove one image (arXiv:1607.00133, 1908.10530), computed by dp-accounting, which is an extra
and is imported when a plan is made. Every order gives a bound, and the least of them counts, so
anyone can compute a manifest's figure again, or a lower one with more orders. Its default orders
below 2 are left out: their series seldom converge, take seconds, and gave the least in no row
of security.md 9.3.
"""

import contextlib
import logging
from collections.abc import Generator
from typing import Any, Final

from ..core.errors import InputError

_MOST_SIGMA_MILLI: Final = 10**9
_ORDERS: Final = (*(tenth / 10 for tenth in range(20, 110)), *range(11, 64), 128, 256, 512, 1024)


def epsilon(*, q_ppm: int, sigma_milli: int, steps: int, delta_e12: int) -> float:
    """Return epsilon at ``delta_e12``. Raises InputError: dp-accounting is not installed."""
    dp = dp_accounting_package()
    accountant = dp.rdp.RdpAccountant(
        _ORDERS,
        neighboring_relation=dp.NeighboringRelation.ADD_OR_REMOVE_ONE,  # the unit of DpClaim
    )
    noise = dp.GaussianDpEvent(sigma_milli / 1e3)
    with _quiet():
        accountant.compose(dp.PoissonSampledDpEvent(q_ppm / 1e6, noise), steps)
        return float(accountant.get_epsilon(delta_e12 / 1e12))


def least_sigma_milli(*, q_ppm: int, steps: int, delta_e12: int, eps_milli: int) -> int:
    """Return the least noise, in thousandths of C, with which epsilon is at most ``eps_milli``.

    Raises InputError: as `epsilon`, or no noise is enough.
    """

    def enough(sigma_milli: int) -> bool:
        found = epsilon(q_ppm=q_ppm, sigma_milli=sigma_milli, steps=steps, delta_e12=delta_e12)
        return found <= eps_milli / 1e3

    low, high = 0, 1_000  # low is never enough, high is in the end
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST_SIGMA_MILLI:
            raise InputError(
                f"no noise gives epsilon {eps_milli / 1e3:g} over {steps} steps",
                why="each step tells a little more of every image",
                fix="set fewer steps, or a larger epsilon",
                code="dp-no-noise-is-enough",
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def dp_accounting_package() -> Any:  # noqa: ANN401  # it publishes no types
    """Return the package. Raises InputError: it is not installed."""
    try:
        import dp_accounting  # noqa: PLC0415  # an extra, a second to import
    except ImportError as error:
        raise InputError(
            "the package dp-accounting is not installed",
            why="it computes how much noise an epsilon takes",
            fix='run pip install "orthofed[dp]", or leave --dp away',
            code="dp-accounting-not-installed",
        ) from error
    return dp_accounting


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Keep absl's notes off stderr: an order that does not converge is left out, a looser bound."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
