"""What a release keeps of the owner's own concept, measured at home.

The release folder is verified first, against the log id that this home joined; the packed
contribution is read back and scored beside it, on the held-out images, with the same draws. The
images stay at home, and so do the figures unless their owner sends them (send_score.py). Law:
captions and shapes of the held-out images are those of the training, as its log keeps them.
Source: design.md decision 8; score.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import InputError
from ..core.layout import ContributionLayout, unpack
from ..core.spec import FederationSpec
from .correction import standing
from .home import Home
from .session import Session
from .state import BLOB, LOG
from .training_log import Logged
from .verify import verify_folder
from .workbench import Workbench

if TYPE_CHECKING:
    from .score import Score


@dataclass(frozen=True, slots=True)
class ReleaseScore:
    """The figures of one concept in release ``n``."""

    session: Session
    score: "Score"
    n: int


def score_release(  # noqa: PLR0913  # what a person chooses
    home: Home,
    concept: str,
    *,
    images: Path,
    base: Path,
    release: Path,
    lambdas: tuple[float, ...],
    device: str | None = None,
    as_merged: bool = False,
    fused: Path | None = None,
) -> ReleaseScore:
    """Return the concept's losses, one merged loss for each of ``lambdas``.

    ``as_merged``: one of the release as it is too, which is what the operator may be sent.
    ``fused``: one of this LoRA too, which orthofed fuse made of the release.

    Raises InputError: the concept was not packed here, or base or images are bad. Raises
    VerificationFailed: the release is not what this federation signed.
    """
    verified = verify_folder(release, log=home.membership().log)
    return score_trusted(
        home,
        concept,
        verified.release.manifest.n,
        images=images,
        base=base,
        release=release,
        lambdas=lambdas,
        device=device,
        as_merged=as_merged,
        fused=fused,
    )


def score_trusted(  # noqa: PLR0913  # as above
    home: Home,
    concept: str,
    n: int,
    *,
    images: Path,
    base: Path,
    release: Path,
    lambdas: tuple[float, ...],
    device: str | None = None,
    as_merged: bool = False,
    fused: Path | None = None,
) -> ReleaseScore:
    """Return the same of files of release ``n`` that the caller trusts, whatever else is missing.

    Raises InputError: as above.
    """
    folder, session = standing(home.run(concept))
    if session is None or not session.blob:
        raise InputError(
            f"{concept} was not taught from this home"
            if session is None
            else f"{concept} is not packed yet",
            why="the score compares a release with the contribution itself",
            fix="run orthofed client train first, or give the right --home and --concept",
            code="nothing-to-score",
        )
    spec = FederationSpec.from_bytes((home.folder / "spec.json").read_bytes())
    layout = ContributionLayout(spec, session.vectors)
    tensors = unpack(layout, (folder / BLOB).read_bytes())
    logged = Logged.read(home.run(concept) / LOG / str(session.fence))
    seen = logged.header["settings"] if logged is not None else {}
    bench = Workbench(spec, base, images, session.noun, device=device, seen=seen)
    found = bench.score(
        session, tensors, release=release, lambdas=lambdas, as_merged=as_merged, fused=fused
    )
    return ReleaseScore(session, found, n)
