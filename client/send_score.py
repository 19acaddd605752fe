"""Sends what an owner measured of its concept in a release: seven numbers and the concept's name.

Laws: losses leave as whole millionths, the counts they are means of beside them, and nothing else;
a loss that is not finite or beyond the contract's bound stays at home, and so does every figure of
a concept whose manifest claims differential privacy, since the claim is of all that was sent.
Source: security.md 9.1 and 9.2.
"""

from pathlib import Path

from ..core.document import parse
from ..core.errors import InputError
from ..core.keys import SigningKey
from ..proto import methods, wire
from .channel import Channel
from .release_score import ReleaseScore
from .state import MANIFEST


def check_may_leave(folder: Path) -> None:
    """Check that no claim of the concept in ``folder`` speaks against sending its figures.

    Raises InputError (``dp-figures``): its manifest claims differential privacy.
    """
    if "dp" in parse((folder / MANIFEST).read_bytes(), kind="contribution").body:
        raise InputError(
            f"figures of {folder.name}, which was trained with differential privacy",
            why="its claim is of all that was sent, and a mean over images without noise is not in"
            " it",
            fix="keep them at home: run the same command without --send",
            code="dp-figures",
        )


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
    if not 0 <= loss * 1e6 <= methods.MOST_LOSS:  # what is no number is in no bounds
        raise InputError(
            f"a loss of {loss:g}",
            why=f"a loss that is sent is a number from 0 to {methods.MOST_LOSS // 1_000_000}",
            fix="look at the release with orthofed sample; the training or the merge diverged",
            code="bad-loss",
        )
    return round(loss * 1e6)
