"""What a training starts from: the base and nothing, or a release and what was sent before.

    first contribution   base,                      A = 0,    vectors at the class noun
    corrective round     base + the other concepts, A = A_i,  vectors as they were sent
    of several owners    the same,                  A, vectors: their average in that release

Law: the release's files were checked when they were fetched (owner_scores.py), the earlier blob is
what was sent, by the hash that its session keeps. The base's weights are put back when the block
ends (others.py).
"""
# ruff: noqa: PLC0415  # torch costs seconds to import

import contextlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import InputError
from ..core.layout import ContributionLayout, unpack
from ..core.quantise import Quantised
from ..core.spec import FederationSpec
from .correction import AGAINST, replaced
from .session import Session
from .state import BLOB

if TYPE_CHECKING:
    from torch import Tensor

    from .base import Base
    from .residuals import Residuals
    from .trigger import Trigger


@dataclass(frozen=True, slots=True)
class Ground:
    """The spec that names the base of the training, what is trained in it, and where vectors start.

    ``vectors``: by encoder; None: at the class noun.
    """

    spec: FederationSpec
    residuals: "Callable[[Base, FederationSpec, int], Residuals]"
    vectors: "Mapping[str, Tensor] | None" = None


def earlier_tensors(spec: FederationSpec, session: Session, run: Path) -> dict[str, Quantised]:
    """Return the integers of what the round ``session`` in the folder ``run`` goes on from."""
    aside, old = replaced(run, session)
    return unpack(ContributionLayout(spec, old.vectors), (aside / BLOB).read_bytes())


@contextlib.contextmanager
def ground(
    base: "Base",
    spec: FederationSpec,
    session: Session,
    triggers: "list[Trigger]",
    run: Path,
) -> Generator[Ground]:
    """Yield what the training of ``session`` starts from, in the concept's folder ``run``.

    Raises InputError: the release has no other concept, or files of the round are missing.
    """
    from .adapter import Adapter

    if session.replaces < 0:
        yield Ground(spec, Adapter)
        return
    from .earlier import Earlier
    from .others import Others
    from .shared_start import average_of, has_owners
    from .variant import Variant, weights_of

    folder, weights = run / AGAINST, weights_of(run / AGAINST)
    shared = has_owners(folder, session.concept)
    if not shared and len(weights) < 2:  # noqa: PLR2004  # the owner's and another one
        raise InputError(
            "a release that holds no other concept",
            why="a corrective round trains a concept among others",
            fix="wait for a release with more concepts",
            code="nothing-to-correct",
        )
    others = Others(Variant.of_release(folder, spec, lambda_=None, without=session.concept))
    if shared:
        before = average_of(folder, spec, session.concept, session.block)
    else:
        tensors = earlier_tensors(spec, session, run)
        before = Variant.of_contribution(spec, session.block, triggers, tensors)
    earlier = Earlier(before, weights[session.concept])
    with others.folded(base):
        yield Ground(others.spec_for(spec, before), earlier.adapter, earlier.vectors(base))
