"""What every operator's command shares: its folder, ``--json``, and the way to the desk.

Law: while serve runs it owns the folder and the other commands reach it over the control socket;
else they open the folder themselves (reliability.md 2.2). Results go to stdout, all else to stderr.
"""

import json
import os
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .control import Desk
    from .folder import DataFolder

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The coordinator's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def say(text: str) -> None:
    """Tell the operator how far it is."""
    print(text, file=sys.stderr, flush=True)


def show(value: dict[str, Any], text: str, as_json: bool) -> None:
    """Print the result."""
    print(json.dumps(value) if as_json else text, flush=True)


@contextmanager
def desk_of(directory: Path) -> "Iterator[tuple[DataFolder, Desk]]":
    """Give the desk: the running coordinator's, or our own while nobody owns the folder."""
    from ..core.errors import Refused
    from .audit_log import AuditLog
    from .audited_desk import AuditedDesk
    from .caller import who_runs
    from .clock import SystemClock
    from .control import ControlClient
    from .desk import Desk as OwnDesk
    from .folder import DataFolder
    from .fs import Fs
    from .house import House

    folder = DataFolder.open(directory)
    with ExitStack() as stack:
        try:
            stack.enter_context(folder.locked())
        except Refused:
            desk = ControlClient(folder.control)
        else:
            fs = Fs(reserve_bytes=folder.settings().reserve_mib << 20)
            clock = SystemClock()
            house = stack.enter_context(House(folder, fs=fs, clock=clock))
            log = AuditLog(folder.audit_log, fs=fs, clock=clock)
            stack.callback(log.close)
            desk = AuditedDesk(OwnDesk(house), log, who_runs(os.getpid(), os.getuid()))
        yield folder, desk
