"""The release that a file is audited against: a pulled folder, or a link.

From a link only ``info.json`` and the newest release's contributions are fetched, into a folder
that goes afterwards; what is believed is what a pull believes (ledger, manifest, both lists).
"""

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ..core.address import FederationAddress
from ..core.errors import InputError
from .contributions import Contributions
from .home import Home
from .transfer_view import TransferView
from .verify import verify_folder

_SCHEME = "orthofed://"
_INFO = "info.json"


@contextmanager
def audit_source(where: str, *, log: str | None, home: Path | None) -> Generator[Contributions]:
    """Give the release at ``where``, trusted, while its files are there.

    Raises VerificationFailed: it is not what was signed, or of another log than ``log``.
    """
    if not where.startswith(_SCHEME):
        with TransferView("verifying") as view:
            found = verify_folder(Path(where), log=log, on_bytes=view.show)
        yield Contributions(Path(where), found.release)
        return
    address = FederationAddress.from_text(where)
    if log not in (None, address.log):
        raise InputError(
            f"log id {log} and a link of {address.log}",
            why="a link names its ledger itself",
            fix="leave --log out, or take the link of that ledger",
            code="bad-option",
        )
    with tempfile.TemporaryDirectory(prefix="orthofed-audit-") as scratch:
        yield _fetched(address, Path(scratch) / "release", Home.at(home))


def _fetched(address: FederationAddress, folder: Path, home: Home) -> Contributions:
    from .channel import Channel  # noqa: PLC0415  # a folder needs no network, so no grpc
    from .origin import WireOrigin  # noqa: PLC0415  # as above
    from .pull import Pull  # noqa: PLC0415  # as above
    from .seen_heads import SeenHeads  # noqa: PLC0415  # as above

    with (
        Channel(address.host_port, ca=address.ca, log=address.log) as channel,
        TransferView("fetching") as view,
    ):
        pull = Pull(WireOrigin(channel), address.log, folder, SeenHeads(home.folder), view.show)
        release = pull.begin().release
        pull.fetch(release, [e for e in release.manifest.files if e.name == _INFO])
        pull.fetch_contributions(release)
    return Contributions(folder, release)
