"""Sends what an owner measured of its concept in a release: seven numbers and the concept's name.

Law: losses leave as whole millionths, the counts they are means of beside them, and nothing else;
a loss that is not finite or beyond the contract's bound stays at home. Source: security.md 9.1.
"""

import math

from ..core.errors import InputError
from ..core.keys import SigningKey
from ..proto import methods, wire
from .channel import Channel
from .release_score import ReleaseScore


def figures(
    concept: str, n: int, *, base: float, single: float, merged: float, pictures: int, draws: int
) -> wire.ScoreRequest:
    """Return what would leave: the losses of ``concept`` in release ``n`` as it was merged.

    Raises InputError: a loss cannot be sent.
    """
    losses = [_millionths(loss) for loss in (base, single, merged)]
    return wire.ScoreRequest(concept, n, *losses, num_pictures=pictures, num_draws=draws)


def figures_of(found: ReleaseScore) -> wire.ScoreRequest:
    """Return what would leave of a score that was measured with ``as_merged``; raises as above."""
    score = found.score
    if score.loss_released is None:
        raise AssertionError("measured as merged")
    return figures(
        found.session.concept,
        found.n,
        base=score.loss_base,
        single=score.loss_single,
        merged=score.loss_released,
        pictures=score.num_images,
        draws=score.num_draws,
    )


def send_score(channel: Channel, member: SigningKey, said: wire.ScoreRequest) -> None:
    """Bring the figures to the coordinator; a resend is safe, newer ones replace older ones.

    Raises Refused: the release does not hold the concept, or the member key was revoked or rotated.
    Raises Unreachable.
    """
    channel.call(methods.SCORE, said, wire.ScoreReply, key=member)


def _millionths(loss: float) -> int:
    if not math.isfinite(loss) or not 0 <= loss * 1e6 <= methods.MOST_LOSS:
        raise InputError(
            f"a loss of {loss:g}",
            why=f"a loss that is sent is a number from 0 to {methods.MOST_LOSS // 1_000_000}",
            fix="look at the release with orthofed sample; the training or the merge diverged",
            code="bad-loss",
        )
    return round(loss * 1e6)
