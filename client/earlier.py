# pyright: basic
# torch publishes partial types.
"""What a concept was taught before, for a training that goes on from it: a corrective round.

    A starts at A_i of the earlier contribution, the vectors at its vectors; B_i is the slot's own.

While it is attached, A counts what the release counts it, lambda_i, so the answer that is trained
is that of the merged model. Law: the integers that were sent are what it starts from, not the
floats behind them. Not here: the other concepts (others.py), the lease.
"""

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..core.spec import FederationSpec
from .adapter import Adapter
from .base import Base
from .tokens import LearnedTokens
from .variant import Variant


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier contribution as a model of its own, and the weight that it has in a release."""

    variant: Variant
    lambda_: float

    def adapter(self, base: Base, spec: FederationSpec, slot: int) -> Adapter:
        """Return the adapter of ``slot`` with the earlier A in it."""
        return _Continued(base, spec, slot, self)

    def vectors(self, base: Base) -> Mapping[str, Tensor]:
        """Return the earlier vectors by encoder, as `LearnedTokens` holds them."""
        layers = self.variant.token_layers
        tokens = LearnedTokens.of(base, self.variant.vectors, layers=layers)
        return {name: rows.detach() for name, rows in tokens.vectors.items()}


class _Continued(Adapter):
    """An adapter that starts somewhere else than at zero, and answers with its release's weight."""

    def __init__(self, base: Base, spec: FederationSpec, slot: int, earlier: Earlier) -> None:
        super().__init__(base, spec, slot)
        self.load({path: each.up for path, each in earlier.variant.residuals.items()})
        self._lambda = earlier.lambda_

    @contextlib.contextmanager
    def attached(self, *, lambda_: float = 1.0) -> Generator[None]:
        with super().attached(lambda_=lambda_ * self._lambda):
            yield
