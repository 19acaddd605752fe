"""Attacks on admission, from the algebra of the probes: an honest blob is made a harmful one.

    cancel    A_j <- A_j + (s V - A_j Y) Y^+         V = what the victim does on x, Y = B_j^T x

x are the victim's features: at its probes, or, for an attacker who knows the gate, at its other
vector or at every position of the prompt, while nothing changes at the probes. Everything else of
the blob stays honest: its own concept, its vectors, its probes. Source: method.md 6.5, security.md
2 (T12 to T14).
"""

from collections.abc import Mapping

import numpy as np

from orthofed.core.basis import block
from orthofed.core.crosstalk import text_readers
from orthofed.core.quantise import Quantised, dequantise, quantise
from orthofed.core.spec import FederationSpec

Tensors = dict[str, Quantised]
A_TOP = 0.499
"""The largest entry that the window of A holds."""


def changed(spec: FederationSpec, tensors: Tensors, values: Mapping[str, np.ndarray]) -> Tensors:
    """Return the blob's tensors with some of them replaced."""
    made = dict(tensors)
    for name, array in values.items():
        low, high = (spec.exponent_low, spec.exponent_high) if name[0] == "a" else (-40, 0)
        bound = A_TOP if name[0] == "a" else 1e4
        made[name] = quantise(array.clip(-bound, bound).astype(np.float32), low=low, high=high)
    return made


def b_of(spec: FederationSpec, layer, slot: int) -> np.ndarray:
    place = {"seed": spec.seed, "layer": layer.path, "width": layer.width}
    return block(spec.basis, rank=spec.layer_rank(layer), slot=slot, **place).astype(np.float64)


def acting(
    spec: FederationSpec,
    own: tuple[int, Tensors],
    victim: tuple[int, Tensors],
    strength: float,
    *,
    on: np.ndarray,
    quiet_on: np.ndarray | None = None,
) -> Tensors:
    """Do ``strength`` times what the victim does on features ``on``, and nothing on ``quiet_on``.

    As well as the slot's few columns can, in least squares; ``quiet_on`` is met first, with its two
    largest directions. Shapes: features (p, m). Else A does what it did.
    """
    slot, tensors = own
    made = {}
    for layer in text_readers(spec):
        name = f"a.{layer.path}"
        theirs, ours = b_of(spec, layer, victim[0]), b_of(spec, layer, slot)
        a = dequantise(tensors[name]).astype(np.float64)
        heard = ours.T @ on.T
        missing = strength * dequantise(victim[1][name]) @ (theirs.T @ on.T) - a @ heard
        free = np.eye(len(heard))
        if quiet_on is not None:
            loud = np.linalg.svd(ours.T @ quiet_on.T, full_matrices=False)[0][:, :2]
            free = free - loud @ loud.T
        made[name] = a + missing @ np.linalg.pinv(free @ heard, rcond=0.1) @ free
    return changed(spec, tensors, made)


def louder(spec: FederationSpec, tensors: Tensors, factor: float, *, kind: str = "a") -> Tensors:
    """Return all A, or all learned vectors, times ``factor``."""
    names = [name for name in tensors if name.split(".")[0] == kind]
    return changed(spec, tensors, {name: factor * dequantise(tensors[name]) for name in names})


def random_a(
    spec: FederationSpec, tensors: Tensors, norms: Mapping[str, float], share: float, seed: int
) -> Tensors:
    """Return random A whose spectral norm is ``share`` of W's in every layer."""
    random = np.random.default_rng(seed)
    made = {}
    for layer in spec.layers:
        a = random.standard_normal((layer.out, spec.layer_rank(layer)))
        made[f"a.{layer.path}"] = a * share * norms[layer.path] / np.linalg.norm(a, 2)
    return changed(spec, tensors, made)


def copied(
    spec: FederationSpec, own: Tensors, other: Tensors, noise: float, seed: int, *, parts: str
) -> Tensors:
    """Return ``own`` with the other's A, or vectors, or both; ``noise``: its norm over theirs."""
    random = np.random.default_rng(seed)
    made = {}
    for name in own:
        if (name[0] == "a" and "a" in parts) or (name[0] == "e" and "e" in parts):
            values = dequantise(other[name]).astype(np.float64)
            grain = random.standard_normal(values.shape)
            size = noise * np.linalg.norm(values) / np.linalg.norm(grain)
            made[name] = values + size * grain
    return changed(spec, own, made)
