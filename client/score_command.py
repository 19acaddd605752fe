"""Carries out `orthofed client score`: what a release keeps of the owner's own concept.

The release folder is verified first, against the log id that this home joined; the packed
contribution is read back and scored beside it, on the held-out images, with the same draws. Nothing
is sent: the figures and the images stay at home. Law: captions and shapes of the held-out images
are those of the training, as its log keeps them. Source: design.md decision 8; score.py.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import InputError
from ..core.layout import ContributionLayout, unpack
from ..core.spec import FederationSpec
from .home import Home
from .session import Session
from .state import BLOB, LOG, load
from .training_log import Logged
from .verify import verify_folder
from .workbench import Workbench

if TYPE_CHECKING:
    from .score import Score


def score_release(  # what a person chooses
    home: Home,
    concept: str,
    *,
    images: Path,
    base: Path,
    release: Path,
    lambdas: tuple[float, ...],
    device: str | None = None,
) -> tuple[Session, "Score"]:
    """Return the concept's session and its losses, one merged loss for each of ``lambdas``.

    Raises InputError: the concept was not packed here, or base or images are bad. Raises
    VerificationFailed: the release is not what this federation signed.
    """
    verify_folder(release, log=home.membership().log)
    return score_trusted(
        home, concept, images=images, base=base, release=release, lambdas=lambdas, device=device
    )


def score_trusted(
    home: Home,
    concept: str,
    *,
    images: Path,
    base: Path,
    release: Path,
    lambdas: tuple[float, ...],
    device: str | None = None,
) -> tuple[Session, "Score"]:
    """Return the same of files that the caller trusts, whatever else of the release is missing.

    Raises InputError: as above.
    """
    folder = home.run(concept)
    session = load(folder)
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
    logged = Logged.read(folder / LOG / str(session.fence))
    seen = logged.header["settings"] if logged is not None else {}
    bench = Workbench(spec, base, images, session.noun, device=device, seen=seen)
    return session, bench.score(session, tensors, release=release, lambdas=lambdas)
