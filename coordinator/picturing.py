"""Sample pictures of a release that is being built: drawn by another process, taken as pixels.

Laws: the coordinator never loads torch, so ``orthofed sample --card`` draws, from the built folder
and nothing else; what comes back is a picture of pixels alone for each concept, or there is no
release (core/sample_picture.py). The operator asks for it at each release, and no concept is drawn
whose owner did not sign that it may be shown (T25). Cost: the model is loaded once and draws one
picture a concept.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..core.sample_picture import MOST_BYTES, check_picture, picture_name
from .own_program import run_own

Draw = Callable[[Path, Sequence[str]], Mapping[str, bytes]]
"""Gives the files of a built folder's pictures by name, for these concepts."""


def drawn(folder: Path, concepts: Sequence[str]) -> dict[str, bytes]:
    """Return the pictures of ``concepts`` by their name in a release: a `Draw`.

    Raises OrthoFedError ``no-pictures``: the process failed, having told why on stderr. Raises
    VerificationFailed: what it left is no such picture.
    """
    with tempfile.TemporaryDirectory() as scratch:
        words = ["sample", "--card", str(folder), "--out", scratch]
        words += [word for concept in concepts for word in ("--concept", concept)]
        run_own(
            words,
            doing="drawing the sample pictures",
            otherwise="release without --samples",
            code="no-pictures",
        )
        found = {}
        for concept in concepts:
            with (Path(scratch) / f"{concept}.png").open("rb") as file:
                data = file.read(MOST_BYTES + 1)
            check_picture(data)
            found[picture_name(concept)] = data
    return found
