"""The public files that follow the ledger: ``checkpoint``, ``head.json``, and the high-water mark.

Laws: they are written after COMMIT from the database and never before, so they can be behind and
never ahead; a start writes them again (reliability.md 2.4, 2.5). The mark (size and root, outside
the database) only rises; a database behind it is an old backup and is refused, since going on would
fork the ledger (T28). Many appends in a row cost one write: a thread writes the newest state only.
"""

import json
import logging
import threading
from pathlib import Path

from ..core.errors import OrthoFedError, VerificationFailed
from .clock import Clock
from .folder import DataFolder
from .fs import Fs
from .ledger import Ledger, head
from .publications import newest
from .store import Store

_LOG = logging.getLogger("orthofed.coordinator")
_RESIGN_S = 3_600.0
_RETRY_S = 10.0


class Heads:
    """Writes the public files whenever the ledger has grown, and once an hour."""

    def __init__(
        self, store: Store, ledger: Ledger, folder: DataFolder, *, fs: Fs, clock: Clock
    ) -> None:
        """Check the mark; raises VerificationFailed when the database is behind it."""
        self._store = store
        self._ledger = ledger
        self._folder = folder
        self._fs = fs
        self._clock = clock
        self._wake = threading.Event()
        self._stop = False
        self._check_mark()
        self._thread = threading.Thread(target=self._serve, name="heads", daemon=True)

    def start(self) -> None:
        """Write the files now and keep them fresh until ``close``."""
        self.write()
        self._thread.start()

    def poke(self) -> None:
        """Tell that the ledger has grown."""
        self._wake.set()

    def close(self) -> None:
        """Write what is left and stop."""
        self._stop = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def write(self) -> None:
        """Write checkpoint, head and mark of the newest state."""
        state, release = self._store.run(lambda db: (head(db), newest(db)))
        n, manifest = (0, "") if release is None else (release.n, release.manifest_id)
        document = self._ledger.head_document(
            state, n=n, manifest=manifest, now_s=self._clock.wall_s()
        )
        self._fs.write_whole(self._folder.public / "checkpoint", state.checkpoint)
        self._fs.write_whole(self._folder.public / "head.json", document)
        mark = {"root": state.root.hex(), "size": state.size}
        self._fs.write_whole(self._folder.high_water, json.dumps(mark).encode() + b"\n")

    def _serve(self) -> None:
        wait_s = _RESIGN_S
        while not self._stop:
            self._wake.wait(wait_s)
            self._wake.clear()
            try:
                self.write()
                wait_s = _RESIGN_S
            except OrthoFedError as error:  # no room: the files stay behind, and are tried again
                _LOG.warning("the public files are behind: %s", error.what)
                wait_s = _RETRY_S

    def _check_mark(self) -> None:
        mark = _read_mark(self._folder.high_water)
        if mark is None:
            return
        size, root = mark
        state = self._store.run(head)
        if state.size < size or (state.size == size and state.root.hex() != root):
            raise VerificationFailed(
                f"the database has {state.size} ledger leaves, the high-water mark says {size}",
                why="it is an older copy, and to go on from it would fork the ledger",
                fix="put the newest database back; the mark lies in the file high-water",
                code="database-behind",
            )


def _read_mark(path: Path) -> tuple[int, str] | None:
    try:
        value = json.loads(path.read_bytes())
        return int(value["size"]), str(value["root"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise VerificationFailed(
            "the high-water mark cannot be read",
            why="without it an old backup would not be noticed",
            fix="restore the file high-water, or remove it if the database is known to be newest",
            code="bad-high-water",
        ) from error
