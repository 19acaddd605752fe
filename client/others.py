# pyright: basic
# torch publishes partial types.
"""The other concepts of a release, folded into the base's weights for one training.

    W + sum_{j != i} lambda_j A_j B_j^T,    in the weights' own type, frozen like the base

Inside `folded` the base is the release without the owner's concept; after it every weight has the
very bytes of before, also when the training failed. What is made of such a base (public states,
texts, class images, saves) is not the plain base's: `spec_for` names another base, and all that is
kept by name follows. Cost: one product a layer, and a copy of the adapted weights. Not here:
whether the release is genuine (verify.py comes first).
"""

import contextlib
import hashlib
from collections.abc import Generator
from dataclasses import dataclass, replace

import torch

from ..core.spec import FederationSpec
from .base import Base
from .variant import Variant


@dataclass(frozen=True, slots=True)
class Others:
    """A release without one concept."""

    variant: Variant

    @contextlib.contextmanager
    def folded(self, base: Base) -> Generator[None]:
        """Let the base's weights hold these residuals inside the block."""
        kept: dict[str, torch.Tensor] = {}
        try:
            with torch.no_grad():
                for path, residual in self.variant.residuals.items():
                    weight = base.layer(path).weight
                    kept[path] = weight.detach().clone()
                    up, down = (
                        torch.from_numpy(x).to(weight.device).double()
                        for x in (residual.up, residual.down)
                    )
                    change = (up @ down) * self.variant.lambda_
                    weight.copy_((weight.double() + change.reshape(weight.shape)).to(weight.dtype))
            yield
        finally:
            with torch.no_grad():
                for path, weight in kept.items():
                    base.layer(path).weight.copy_(weight)

    def spec_for(self, spec: FederationSpec, earlier: Variant) -> FederationSpec:
        """Return the spec of a training on this base that goes on from ``earlier``."""
        digest = hashlib.sha256(spec.base.fingerprint.encode())
        for variant in (self.variant, earlier):
            for path, residual in sorted(variant.residuals.items()):
                digest.update(path.encode() + residual.up.tobytes() + residual.down.tobytes())
            for trigger, rows in sorted(variant.vectors.items()):
                digest.update(trigger.encode() + b"".join(rows[n].tobytes() for n in sorted(rows)))
        return replace(spec, base=replace(spec.base, fingerprint=digest.hexdigest()))
