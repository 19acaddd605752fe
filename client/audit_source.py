"""The release that a file is audited against: a pulled folder, a link, or a web server.

From an address only ``info.json`` and the newest release's contributions are fetched, into a folder
that goes afterwards; what is believed is what a pull believes (ledger, manifest, both lists).
"""

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import InputError
from .contributions import Contributions
from .home import Home
from .open_origin import is_url, log_of_url, open_origin
from .transfer_view import TransferView
from .verify import verify_folder

_INFO = "info.json"
_PATIENCE_S = 120.0


@contextmanager
def audit_source(where: str, *, log: str | None, home: Path | None) -> Generator[Contributions]:
    """Give the release at ``where``, trusted, while its files are there.

    Raises VerificationFailed: it is not what was signed, or of another log than ``log``.
    """
    if not is_url(where):
        with TransferView("verifying") as view:
            found = verify_folder(Path(where), log=log, on_bytes=view.show)
        yield Contributions(Path(where), found.release)
        return
    if log not in (None, log_of_url(where)):
        raise InputError(
            f"log id {log} and an address of {log_of_url(where)}",
            why="a link names its ledger itself",
            fix="leave --log out, or take the link of that ledger",
            code="bad-option",
        )
    with tempfile.TemporaryDirectory(prefix="orthofed-audit-") as scratch:
        yield _fetched(where, Path(scratch) / "release", Home.at(home))


def _fetched(where: str, folder: Path, home: Home) -> Contributions:
    from .pull import Pull  # noqa: PLC0415  # a folder needs no network
    from .seen_heads import SeenHeads  # noqa: PLC0415  # as above

    with open_origin(where, patience_s=_PATIENCE_S) as opened, TransferView("fetching") as view:
        pull = Pull(opened.origin, opened.log, folder, SeenHeads(home.folder), view.show)
        release = pull.begin().release
        pull.fetch(release, [e for e in release.manifest.files if e.name == _INFO])
        pull.fetch_contributions(release)
    return Contributions(folder, release)
