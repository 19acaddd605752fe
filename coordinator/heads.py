"""The public files that follow the ledger: tiles, ``checkpoint``, ``head.json``, and the mark.

Laws: they are written after COMMIT from the database and never before, so they can be behind and
never ahead; a start writes them again (reliability.md 2.4, 2.5). Tiles come first, so whoever sees
a checkpoint finds what proves it; ``head.json`` comes last but for the high-water mark: it alone
names the newest release. Many appends in a row cost one write: a thread writes the newest state
only, then rests three times as long as that took, since its ten fsyncs delay those of commits, and
tries again when the disk would not take it.
"""

import logging
import sqlite3
import threading
import time

from ..core.errors import OrthoFedError, Refused
from .clock import Clock
from .folder import DataFolder
from .fs import Fs
from .ledger import Head, Ledger, head
from .mark import Mark
from .meta_rows import keyrings
from .publications import newest
from .store import Store
from .tiles import Tiles

_LOG = logging.getLogger("orthofed.coordinator")
_RESIGN_S = 3_600.0
_RETRY_S = 10.0
_MANY = 4_096
"""Leaves without tiles that a start does not wait for: a folder of an older version, a fork."""
_REST = 3
_MOST_REST_S = 0.25


class Heads:
    """Writes the public files whenever the ledger has grown, and once an hour."""

    def __init__(
        self, store: Store, ledger: Ledger, folder: DataFolder, *, fs: Fs, clock: Clock
    ) -> None:
        """Prepare; the mark was checked (mark.py), or this would raise it unseen."""
        self._store = store
        self._tiles = Tiles(store, folder.public, fs=fs, ledger_key=ledger.key, log=ledger.log)
        self._writing = threading.Lock()
        self._ledger = ledger
        self._folder = folder
        self._fs = fs
        self._clock = clock
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._mark_file = folder.mark_file()
        self._thread = threading.Thread(target=self._serve, name="heads", daemon=True)

    def start(self) -> None:
        """Write the files now and keep them fresh until ``close``."""
        if self._store.run(head).size - self._tiles.size > _MANY:
            self.poke()
        else:
            self.write_soon()  # a start on a full disk serves what there is; the thread goes on
        self._thread.start()

    def poke(self) -> None:
        """Tell that the ledger has grown."""
        self._wake.set()

    def write_soon(self) -> None:
        """Write the files now, or leave it to the thread where the disk is full."""
        try:
            self.write()
        except Refused as error:
            if error.code != "no-room":
                raise
            self.poke()

    def close(self) -> None:
        """Write what is left and stop."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def write(self) -> None:
        """Write tiles, checkpoint, head and mark of the newest state."""
        with self._writing:
            self._write()

    def _write(self) -> None:
        now_s = self._clock.wall_s()

        def look(db: sqlite3.Connection) -> tuple[Head, bytes, tuple[bytes, ...]]:
            # The head is signed in here, where no keyring can change hands meanwhile.
            state, release = head(db), newest(db)
            n, manifest = (0, "") if release is None else (release.n, release.manifest_id)
            document = self._ledger.head_document(state, n=n, manifest=manifest, now_s=now_s)
            return state, document, keyrings(db)

        state, document, rings = self._store.run(look)
        for n, ring in enumerate(rings, start=1):
            path = self._folder.public / "keyring" / f"{n}.json"
            if not path.is_file():
                self._fs.write_whole(path, ring)
        self._tiles.grow(state.size)
        self._fs.write_whole(self._folder.public / "checkpoint", state.checkpoint)
        self._fs.write_whole(self._folder.public / "head.json", document)
        mark = Mark(state.size, state.root.hex())
        self._fs.write_whole(self._mark_file, mark.to_bytes())

    def _serve(self) -> None:
        wait_s = _RESIGN_S
        while True:
            self._wake.wait(wait_s)
            self._wake.clear()
            began_s = time.monotonic()
            try:
                self.write()
                wait_s = _RESIGN_S
            except (OrthoFedError, OSError) as error:  # no room, no volume: they are tried again
                what = error.what if isinstance(error, OrthoFedError) else error.strerror
                _LOG.warning("the public files are behind: %s", what)
                wait_s = _RETRY_S
            rest_s = min(_MOST_REST_S, _REST * (time.monotonic() - began_s))
            if self._stop.wait(rest_s) and not self._wake.is_set():
                return
