"""Several owners of one concept: what each one's part weighs, and the parts as one.

    l_k = l n_k / sum of n, in 1/1024, by largest remainder; their sum is l
    sum_k l_k A_k B^T = (sum_k l_k A_k) B^T        one block, so the average of A is exact
    vector = sum_k s_k v_k / 1024                  s_k as l_k, of l = 1024

n_k is the number of images that the owner signed (core/contribution.py), so whoever reads the
ledger finds the same weights. Law: of equal remainders the lower leaf gets the unit; the sum of A
is made in the integers, the vectors in float64 by leaf, rounded once. One part alone is as it
always was: its bytes do not change. Source: method.md 5, docs/adr/0032. Cost: one pass more over A.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from .errors import VerificationFailed
from .merge import Term

WHOLE = 1024


def owner_weights(images: Sequence[int], total: int) -> tuple[int, ...]:
    """Return ``total`` shared out by ``images``, in order, by largest remainder.

    >>> owner_weights((10, 10, 10), 1024), owner_weights((30, 10), 512)
    ((342, 341, 341), (384, 128))
    """
    whole = sum(images)
    floors = [total * n // whole for n in images]
    by_rest = sorted(range(len(images)), key=lambda k: (-(total * images[k] % whole), k))
    for k in by_rest[: total - sum(floors)]:
        floors[k] += 1
    return tuple(floors)


def concept_weights(owned: Sequence[tuple[int, int]], total: int) -> tuple[int, ...]:
    """Return lambda in 1/1024 of each contribution, given its block and images by ascending leaf.

    ``total``: the lambda of each concept. One owner alone has all of it, whatever it counted.

    Raises VerificationFailed ``not-weighted``: one of several did not sign how many images it has.
    """
    found = [total] * len(owned)
    by_block = sorted(range(len(owned)), key=lambda k: (owned[k][0], k))
    for _, group in groupby(by_block, key=lambda k: owned[k][0]):
        places = list(group)
        if len(places) > 1:
            images = [owned[k][1] for k in places]
            check_counted(images)
            for k, weight in zip(places, owner_weights(images, total), strict=True):
                found[k] = weight
    return tuple(found)


def check_counted(images: Sequence[int]) -> None:
    """Refuse parts of one concept whose weights follow from nothing. Raises VerificationFailed."""
    if not all(images):
        raise _wrong(f"{len(images)} contributions of one block, and not all say their images")


def check_split(lambdas: Sequence[int], images: Sequence[int]) -> None:
    """Refuse weights of one concept's parts, by leaf, that do not follow from their images.

    Raises VerificationFailed ``not-weighted``.
    """
    check_counted(images)
    if tuple(lambdas) != owner_weights(images, sum(lambdas)):
        raise _wrong(f"weights {list(lambdas)} for {list(images)} images")


def together(terms: Sequence[Term]) -> Term:
    """Return the parts of one layer as one term: q is the sum of l_k q_k 2^(e_k - e), an integer.

    |q| < 2^15 2^12 sum of l_k, which is at most 2^38 for l = 2048.
    """
    first = terms[0]
    low = min(term.exponent for term in terms)
    q = np.zeros(first.q.shape, dtype=np.int64)
    for term in terms:
        q += term.q.astype(np.int64) * (term.lambda_1024 << (term.exponent - low))
    largest = sum(term.largest * (term.lambda_1024 << (term.exponent - low)) for term in terms)
    return replace(first, q=q, exponent=low, lambda_1024=1, largest=largest)


def average(rows: Sequence[np.ndarray], weights: Sequence[int]) -> np.ndarray:
    """Return the average of float32 ``rows`` by ``weights`` of 1024, summed in float64 in order."""
    total = np.zeros(rows[0].shape)
    for values, weight in zip(rows, weights, strict=True):
        total += values.astype(np.float64) * weight
    return (total / WHOLE).astype(np.float32)


def _wrong(what: str) -> VerificationFailed:
    return VerificationFailed(
        what,
        why="the parts of one concept weigh as many 1024ths as their owners signed images",
        fix="do not use this release; tell the operator",
        code="not-weighted",
    )
