"""What operators' commands share: options, how they print, and the way to the desk.

Law: while serve runs it owns the folder and the other commands reach it over the control socket;
else they open the folder themselves (reliability.md 2.2). Results go to stdout, all else to stderr.
"""

import json
import os
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from ..core.targets import Targets  # typer reads the option's choices off it

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .control import Desk
    from .folder import DataFolder

MOST_NUMBER: Final = (1 << 53) - 1
"""The largest number of a leaf or a release: what every document can say, and a database keep."""
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The coordinator's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Log = Annotated[
    Literal["text", "json"],
    typer.Option(help="How stderr says what happens: a line of text, or one JSON object each."),
]
Adapted = Annotated[
    Targets,
    typer.Option(
        "--targets",
        help="Which layers: attention, of the UNet alone, linear too, or convolutions as well.",
    ),
]
Rank = Annotated[int | None, typer.Option(help="Columns a slot owns in each layer; default 20.")]
QuietColumns = Annotated[
    str,
    typer.Option(
        metavar="PROMPTS",
        help="Lease the columns that hear least while the base draws these: a file, a prompt a"
        " line, or 'shipped'. Needs torch.",
    ),
]
Capacity = Annotated[int | None, typer.Option(help="How many concepts must fit.")]
Overlap = Annotated[
    int,
    typer.Option(
        metavar="BASES",
        help="Lease slots of this many bases, 1 to 16: more concepts, of which those of two bases"
        " overlap.",
    ),
]


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


def lambda_1024(strength: float) -> int:
    """Return a merge weight in 1024ths; raises InputError outside 0 to 2.

    >>> lambda_1024(0.6)
    614
    """
    from ..core.errors import InputError

    if not 0 <= strength <= 2:  # noqa: PLR2004  # method.md 3.2; also refuses NaN
        raise InputError(
            f"lambda {strength}",
            why="a merge weight is 0 to 2",
            fix="give a number from 0 to 2, such as 1 or 0.6",
            code="bad-lambda",
        )
    return round(strength * 1024)
