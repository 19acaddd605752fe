"""The other way to add one concept: M of every layer kept in a file, as float64.

    read M, add the concept's integers (LayerSum.add), write M, round W + dW

The coordinator does not do it (docs/adr/0016): this measures what it would cost. Used by merge.py.
"""

from typing import Any

import numpy as np
from merge_case import CONCEPTS, Case, timed
from merge_turns import sync

from orthofed.coordinator.base import BaseFolder
from orthofed.core.merge import LayerSum, Term
from orthofed.core.rounding import apply


def kept_sum(case: Case) -> dict[str, Any]:
    """Return the seconds to add one concept to twelve, and the bytes of the kept sum.

    The files that it reads are in the page cache, as those of the other figures are.
    """
    with case.out() as out, case.merge(CONCEPTS + 1) as merge:
        before, after = out / "sum", out / "next-sum"
        low = min(term.exponent for layer in case.spec.layers for term in merge.terms(layer))
        with before.open("wb") as file:
            for layer in case.spec.layers:
                total = LayerSum(layer.out, layer.width, case.spec.basis)
                total.add(*merge.terms(layer)[:-1])
                file.write(total.integers(low).astype(np.float64).data)
        *_, newest = merge.parts
        base = BaseFolder(case.base)

        def add() -> None:
            with before.open("rb") as old, after.open("wb") as new, (out / "w").open("wb") as w:
                for layer in case.spec.layers:
                    raw = old.read(8 * layer.out * layer.width)
                    now = np.frombuffer(raw).reshape(layer.out, layer.width)
                    changed = now + _product(newest.term(case.spec, layer), low)
                    new.write(changed.data)
                    place = base.place(layer)
                    change = changed * (2.0 ** (low - 10) / np.sqrt(layer.width))
                    w.write(apply(place.matrix(), change, place.dtype).data)
            sync(after)
            sync(out / "w")

        wall_s, cpu_s = timed(add)
        return {
            "kept_sum_add_s": round(wall_s, 3),
            "kept_sum_add_cpu_s": round(cpu_s, 3),
            "kept_sum_bytes": before.stat().st_size,
            "blobs_bytes": CONCEPTS * _blob_bytes(case),
        }


def _product(term: Term, low: int) -> np.ndarray[Any, Any]:
    """Return one concept's integers, l 2^(e - low) q b^T."""
    q = term.q * np.float64(term.lambda_1024 << (term.exponent - low))
    return q @ term.integers.astype(np.float64).T


def _blob_bytes(case: Case) -> int:
    blobs = (path for path in case.folder.blobs.rglob("*") if path.is_file())
    return max(path.stat().st_size for path in blobs)
