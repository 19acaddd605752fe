"""What one concept does to another one's trigger, in the layers that read text features.

    v_i = A_i B_i^T x_i    d_ij = A_j B_j^T x_i    c_ij = <v_i, d_ij> / max(<v_i, v_i>, floor)

x_i are the probes of concept i: its trigger's text features in four prompts. Both products are
summed over all layers whose input is text features (cross-attention's k and v), and over the four
prompts. -1 means that j cancels what i learnt, on i's own trigger; 1 that it does the same thing
there; orthogonal weights say nothing of it (method.md 6.5, T14). Laws: what is measured is the
function, whatever A and slot express it; c is linear in j, so those of several add up to what they
do together. The floor is what a concept a tenth as strong as usual does: one that is all but silent
would make everybody who comes after it look loud. Numpy only: the probes stand for the text
encoders. Source: method.md 6, security.md 8. Cost: O(layers (m + n) r) a pair. Not here: the
probes' truth (admission/), thresholds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from .layer import Layer
from .spec import FederationSpec
from .spec_blocks import block

_READS = (".attn2.to_k", ".attn2.to_v")
_FAINT = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What the text-reading layers hold of one contribution, and its probes.

    ``a``: layer path -> A (n x r). ``probes``: each trigger's features, one row a prompt.
    """

    slot: int
    a: Mapping[str, Float32[np.ndarray, "n r"]]
    probes: Float32[np.ndarray, "t p m"]


def text_readers(spec: FederationSpec) -> tuple[Layer, ...]:
    """Return the layers whose input is text features; none in a spec of other layers."""
    width = sum(encoder.width for encoder in spec.encoders)
    return tuple(x for x in spec.layers if x.width == width and x.path.endswith(_READS))


def response(
    spec: FederationSpec, heard: Heard, x: Float32[np.ndarray, "t p m"]
) -> Float64[np.ndarray, "t n"]:
    """Return A B^T x of every text-reading layer in every prompt, in a row for each trigger."""
    prompts = x.reshape(-1, x.shape[-1])
    parts = [
        heard.a[layer.path].astype(np.float64) @ (block(spec, layer, heard.slot).T @ prompts.T)
        for layer in text_readers(spec)
    ]
    answers = np.vstack(parts) if parts else np.zeros((0, len(prompts)))
    return answers.T.reshape(len(x), -1)


def floor_of(owns: Sequence[Float64[np.ndarray, "t n"]]) -> float:
    """Return the least that a share is taken of, given what each concept does on its own triggers.

    It is the square of a tenth of the median length, so half of all concepts have to be silent
    before it says nothing; 0 for none.

    >>> usual, faint, strong = np.array([[3.0, 4.0]]), np.array([[0.01, 0.0]]), np.array([[9.0, 0]])
    >>> round(floor_of([usual, faint, strong]), 9)
    0.25
    """
    lengths = [float(length) for own in owns for length in np.linalg.norm(own, axis=1)]
    return (_FAINT * float(np.median(lengths))) ** 2 if lengths else 0.0


def share(
    own: Float64[np.ndarray, "t n"], other: Float64[np.ndarray, "t n"], *, floor: float = 0.0
) -> Float64[np.ndarray, " t"]:
    """Return c for each trigger; 0 where the concept does nothing, which nobody can spoil.

    ``floor``: of `floor_of`; the share is of that where the concept does less.

    >>> own = np.array([[2.0, 0.0]])
    >>> share(own, -own).tolist(), share(own, np.array([[0.0, 5.0]])).tolist()
    ([-1.0], [0.0])
    """
    size = np.maximum(np.einsum("tn,tn->t", own, own), floor)
    both = np.einsum("tn,tn->t", own, other)
    return np.divide(both, size, out=np.zeros_like(both), where=size > 0)
