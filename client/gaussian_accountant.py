# pyright: basic
# dp-accounting publishes no types.
"""Epsilon of one Gaussian mechanism, exactly, and the least noise for an epsilon.

    delta = Phi(1 / 2 sigma - epsilon sigma) - e^epsilon Phi(-1 / 2 sigma - epsilon sigma)

for a sum that one image more or less moves by C at most, with noise sigma C in every entry: no
composition and no bound over orders, so nothing is given away. Source: arXiv:1805.06530, theorem 8,
as dp-accounting computes it, which is an extra.
"""

import math

from .dp_accountant import dp_accounting_package


def gaussian_epsilon(*, sigma_milli: int, delta_e12: int) -> float:
    """Return epsilon at ``delta_e12``. Raises InputError: dp-accounting is not installed."""
    dp = dp_accounting_package()
    return float(dp.get_epsilon_gaussian(sigma_milli / 1e3, delta_e12 / 1e12))


def least_gaussian_sigma_milli(*, delta_e12: int, eps_milli: int) -> int:
    """Return the least noise, in thousandths of C, with which epsilon is at most ``eps_milli``.

    Raises InputError: as `gaussian_epsilon`.
    """
    dp = dp_accounting_package()
    return math.ceil(1e3 * float(dp.get_sigma_gaussian(eps_milli / 1e3, delta_e12 / 1e12)))
