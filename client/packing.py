"""From a trained concept to the tensors of its contribution.

    a.<layer> (n, r)    embed.<encoder>.<k> (sets x v, width)    probe.<k> (4, width)

Each is one integer tensor with one power-of-two exponent (core/quantise.py): A in the spec's window
of exponents, the rest in -40..0. The blob's bytes are core/layout.py's; the way back, from integers
to a model, is variant.py. Source: method.md 3.1, security.md 6.
"""

from collections.abc import Sequence

from ..core.quantise import TOKEN_WINDOW, Quantised, quantise
from ..core.spec import FederationSpec
from .trained import Trained
from .trigger import Trigger


def packed(trained: Trained, spec: FederationSpec) -> dict[str, Quantised]:
    """Return the quantised tensors of ``trained`` under the names that core/layout.py packs.

    Raises InputError: a tensor is not finite or too large, so the training went wrong.
    """
    low, high = spec.exponent_low, spec.exponent_high
    tensors = {f"a.{path}": quantise(a, low=low, high=high) for path, a in trained.a.items()}
    low, high = TOKEN_WINDOW
    for (encoder, k), vectors in trained.embeddings.items():
        tensors[f"embed.{encoder}.{k}"] = quantise(vectors, low=low, high=high)
    for k, features in trained.probes.items():
        tensors[f"probe.{k}"] = quantise(features, low=low, high=high)
    return tensors


def vectors_of(triggers: Sequence[Trigger]) -> tuple[int, ...]:
    """Return how many vectors each trigger has, as core/layout.py's layout asks."""
    return tuple(trigger.vectors for trigger in triggers)


def lora_bytes(spec: FederationSpec) -> int:
    """Return what an fp16 LoRA of the same ranks takes: both factors of every layer, in bytes."""
    return sum(2 * spec.layer_rank(x) * (x.out + x.width) for x in spec.layers)
