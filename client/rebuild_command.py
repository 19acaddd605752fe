"""``orthofed verify --rebuild``: shows how far a rebuild is; what it decides is rebuild.py's."""

from pathlib import Path

from ..core.errors import InputError
from ..core.release import ReleaseManifest
from ..core.sample_picture import FOLDER
from .base_folder import BaseFolder
from .choice import read_choice
from .contributions import Contributions
from .rebuild import Rebuild
from .transfer_view import TransferView
from .trusted_ledger import TrustedRelease


def rebuild_release(folder: Path, release: TrustedRelease, base: Path) -> int:
    """Rebuild a verified folder on the model at ``base``; return the bytes compared.

    Raises VerificationFailed: a byte does not follow from the contributions. Raises InputError:
    they are not there, or the base is another one.
    """
    contributions = Contributions(folder, release)
    if kinds := read_choice(folder):
        raise InputError(
            f"{folder} was pulled for {', '.join(kinds)} alone",
            why="a rebuild compares every file of a release",
            fix="pull it again with --contributions and without --as",
            code="partial-release",
        )
    contributions.check_present()
    with TransferView("rebuilding") as view:
        return Rebuild(contributions, view.show).run(BaseFolder(base))


def rebuilt_text(manifest: ReleaseManifest) -> str:
    """Return what a person is told of a release that was rebuilt."""
    told = f"rebuilt:  every byte follows from {len(manifest.contributions)} contributions"
    drawn = sum(entry.name.startswith(FOLDER) for entry in manifest.files)
    return f"{told}, but {drawn} sample pictures: those are as signed" if drawn else told
