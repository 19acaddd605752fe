"""What chance decides in a DP training: who is drawn, and the noise. Nobody can repeat it.

    drawn     each of n images alone, with probability q exactly to 2^-64
    normal    Box-Muller from pairs of 53-bit uniforms: |z| <= 8.6

Law: every bit comes from the operating system's generator, never from the run's seed, which is
published with the settings in logs and reports: whoever knew the draws could subtract them. So a
resumed run draws anew, and two runs with one seed differ. Noise is added to sums in floating point
and what leaves is A after all steps in 16 bits; attacks on the last bits of a released sum (Mironov
2012) meet nothing here. Cost: 16 bytes of entropy for two numbers, .1 s a million.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

_WORD = 1 << 64
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class DpDraws:
    """Draws from ``entropy``: so many bytes on each call."""

    entropy: Callable[[int], bytes] = os.urandom

    def drawn(self, count: int, q_ppm: int) -> Int64[np.ndarray, " chosen"]:
        """Return which of ``count`` images a step takes: perhaps none, perhaps all, ascending."""
        if q_ppm >= _MILLION:
            return np.arange(count)
        return np.flatnonzero(self._words(count) < np.uint64(q_ppm * _WORD // _MILLION))

    def normal(self, count: int) -> Float64[np.ndarray, " count"]:
        """Return ``count`` numbers of the standard normal distribution."""
        half = -(-count // 2)
        # (0, 1]: a logarithm of 0 would be no noise but an infinity.
        first, second = (
            ((self._words(half) >> np.uint64(11)).astype(np.float64) + 1) * 2.0**-53,
            ((self._words(half) >> np.uint64(11)).astype(np.float64) * 2.0**-53),
        )
        radius, angle = np.sqrt(-2 * np.log(first)), 2 * np.pi * second
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]

    def seed(self) -> int:
        """Return a seed for one step's timesteps and image noise, which need not be secret."""
        return int.from_bytes(self.entropy(7), "little")

    def _words(self, count: int) -> "np.ndarray":
        return np.frombuffer(self.entropy(8 * count), "<u8")
