"""What a release keeps of a concept before a corrective round of it: a line for its owner.

The losses are those of `orthofed client score`, of the release as it was merged; they stay at home.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.metrics import retention
from ..core.spec import FederationSpec
from .correction import AGAINST, replaced
from .corrective_ground import earlier_tensors
from .session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core.quantise import Quantised
    from .score import Score


def kept_before(
    spec: FederationSpec,
    session: Session,
    run: Path,
    score: "Callable[[Session, dict[str, Quantised], Path], Score]",
) -> dict[str, object]:
    """Return losses and retention of what the round ``session`` in the folder ``run`` goes on from.

    ``score`` measures a contribution beside a release's folder, as it was merged. ``retention`` is
    None where the contribution gained nothing. Raises InputError: files of the round are missing.
    """
    old = replace(session, slot=replaced(run, session)[1].slot)
    found = score(old, earlier_tensors(spec, session, run), run / AGAINST)
    if found.loss_released is None:
        raise AssertionError("measured as merged")
    losses = {"loss_single": found.loss_single, "loss_merged": found.loss_released}
    has_gain = found.loss_base > found.loss_single
    told = (found.loss_base, found.loss_single, found.loss_released)
    kept = retention(*told) if has_gain else None
    return {"release": session.release, **losses, "retention": kept}
