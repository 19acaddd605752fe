"""The paper's basis: one orthogonal matrix a width, QR of integer normals, as an int16 table T.

    T = round(2^15 Q), clipped to +-32767;    O = T / 2^15

LAPACK decides Q's last bits, so the operator's T is the norm: its SHA-256 is in the spec, and a
client whose T differs downloads it. O^T O - I stays below 4e-4, removal by subtraction stays exact.
Source: method.md 2.4. Cost: 32 m^2 stream bytes and one QR, kept for the last widths asked for.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Int16

from .errors import SpecError
from .gaussian import integer_normals
from .stream import Stream

MAX_HAAR_WIDTH = 8192
_ONE = 2**15


@lru_cache(maxsize=4)
def haar_table(width: int, *, seed: bytes) -> Int16[np.ndarray, "m m"]:
    """Return T for layers of ``width`` inputs; read-only, row i is input i.

    Raises SpecError: a width above 8192, whose table would pass 128 MiB.
    """
    if not 1 <= width <= MAX_HAAR_WIDTH:
        raise SpecError(
            f"a haar table of width {width}",
            why=f"it takes 2 m^2 bytes, and widths above {MAX_HAAR_WIDTH} are refused",
            fix="choose the basis family 'hadamard' or 'gaussian'",
            code="width-not-supported",
        )
    normals = integer_normals(Stream("haar", seed, width), width, width)
    q, r = np.linalg.qr(normals.astype(np.float64))
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)[None, :]
    table = np.clip(np.rint(q * _ONE), 1 - _ONE, _ONE - 1).astype(np.int16)
    table.flags.writeable = False
    return table
