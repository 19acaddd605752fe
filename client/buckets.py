"""The shapes that images are trained in: near their own, near the area the model was made for.

    size of a bucket = (a s, b s),  a b s^2 <= side^2,  1/2 <= a/b <= 2,  s the model's step

An image goes to the bucket whose aspect is nearest on a log scale, the larger one of two; how it is
cut to fit is cut.py's. Units: pixels everywhere.
"""

import math

_WIDEST = 2.0


def bucket_size(width: int, height: int, *, side: int, step: int) -> tuple[int, int]:
    """Return the bucket (width, height) of an image. ``step`` divides ``side``.

    >>> bucket_size(4000, 3000, side=512, step=64)
    (576, 448)
    """
    wanted = min(max(math.log(width / height), -math.log(_WIDEST)), math.log(_WIDEST))
    most = (side // step) ** 2
    sizes = [
        (a, b) for a in range(1, most + 1) for b in (most // a,) if 1 / _WIDEST <= a / b <= _WIDEST
    ]
    a, b = min(sizes, key=lambda s: (abs(math.log(s[0] / s[1]) - wanted), -s[0] * s[1]))
    return a * step, b * step
