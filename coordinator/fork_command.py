"""``orthofed coordinator fork``: goes on from a database that is not the newest, and says so.

What is newer is lost, so it asks for ``--yes``. Not here: what is declared in public (mark.py).
"""

import os
from typing import Annotated, Final

import typer

from .command_line import Folder, Json, show

EXAMPLE: Final = "Example: orthofed coordinator fork fed --yes"


def fork(
    directory: Folder,
    yes: Annotated[bool, typer.Option("--yes", help="Do it: what is newer is lost.")] = False,
    as_json: Json = False,
) -> None:
    """Go on from a database that is not the newest, and say in public what is lost."""
    from ..core.errors import InputError
    from .audit_log import AuditLog
    from .caller import who_runs
    from .clock import SystemClock
    from .closing import forget_sum
    from .folder import DataFolder
    from .fs import Fs
    from .mark import declare, read_forks
    from .store import Store

    folder = DataFolder.open(directory)
    fs = Fs(reserve_bytes=folder.settings().reserve_mib << 20)
    if not yes:
        raise InputError(
            "--yes is missing",
            why="every receipt that is newer than this database loses its contribution for good",
            fix="look for a newer backup first; if there is none, add --yes",
            code="option-missing",
        )
    clock = SystemClock()
    with folder.locked():
        read_forks(folder)  # it cannot be gone on with: told before anything is touched
        log = AuditLog(folder.audit_log, fs=fs, clock=clock)
        act = log.begun(who_runs(os.getpid(), os.getuid()), "fork", {})
        forget_sum(folder, fs=fs)
        store = Store(folder.database, fs=fs)
        try:
            before, now = store.run(lambda db: declare(db, folder, fs=fs, clock=clock))
        finally:
            store.close()
        log.ended(act, "ok")
        log.close()
    lost = 0 if before is None else max(0, before.size - now.size)
    value = {
        "schema": "orthofed.coordinator.fork/1",
        "kept": now.size,
        "lost": lost,
        "mark": str(folder.mark_file()),
    }
    text = f"the ledger goes on from {now.size} leaves; {lost} that the mark knew are lost"
    show(value, f"{text}\nsaid in public/forks.json", as_json)
