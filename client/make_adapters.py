"""Makes the LoRA and vector files of a release from its contributions, instead of fetching them.

Law: the signed manifest decides: a file that is made has its place only with the SHA-256 that
stands there, and whatever comes out otherwise is thrown away and fetched. So an update fetches the
blobs of new concepts and no stacked LoRA. Cost: one merge of the LoRA files.
"""

import contextlib
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from ..core.errors import VerificationFailed
from ..core.release import FileEntry
from .composer import Composer
from .composition import prediction_of
from .contributions import Contributions
from .home import appear
from .open_part import open_shares
from .write_file import write_file

_MADE: Final = "made"


def make_adapters(
    contributions: Contributions,
    like: Path,
    missing: Collection[FileEntry],
    *,
    work: Path,
    arrived: Callable[[FileEntry, Path], None],
) -> None:
    """Make those of ``missing`` that follow from the blobs alone; ``arrived`` gets each.

    ``like``: a published file of vectors, whose header says what the base predicts.
    """
    wanted = {entry.name: entry for entry in missing}
    made = work / _MADE
    shutil.rmtree(made, ignore_errors=True)
    manifest = contributions.release.manifest
    # A release that does not follow from its contributions is for verify --rebuild to name.
    with (
        contextlib.suppress(VerificationFailed, KeyError),
        open_shares(contributions, manifest.contributions) as merge,
    ):
        withdrawn = contributions.withdrawn_slots()
        for file in Composer(merge, manifest.n, prediction_of(like), withdrawn).files():
            entry = wanted.get(file.name)
            if entry is None:
                continue
            found, _ = write_file(made, file)
            if (found.bytes, found.sha256) == (entry.bytes, entry.sha256):
                part = work / entry.sha256
                appear(made / file.name, part)
                arrived(entry, part)
    shutil.rmtree(made, ignore_errors=True)
