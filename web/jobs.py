"""Releases and backups that the operator asks for on the page: the same commands, as children.

Laws: the page never holds the release key and never builds files; the child is our own program with
a fixed command line, in which nothing stands that a browser sent (T10); one runs at a time; who
asked is in the audit log before it starts, what came of it after. At a stop it is ended: a release
goes on at the next start, half a backup says of itself that it is none.
"""

import datetime as dt
import subprocess
import threading
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Final

from ..coordinator.audit_log import AuditLog
from ..coordinator.backup import MANIFEST, BackupManifest
from ..coordinator.clock import Clock
from ..coordinator.own_program import own_command
from ..core.errors import InputError, OrthoFedError, Refused
from .operator_facts import BackupFacts, JobFacts
from .wording import legible

_LINES: Final = 8
_LISTED: Final = 50


class Jobs:
    """Starts one child at a time and keeps what the last one said."""

    def __init__(
        self, folder: Path, backups: Path | None, *, audit: AuditLog, clock: Clock
    ) -> None:
        """Work on a coordinator's folder; ``backups``: where backups go, None for nowhere."""
        self._folder = folder
        self._backups = backups
        self._audit = audit
        self._clock = clock
        self._lock = threading.Lock()
        self._job: JobFacts | None = None
        self._child: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    @property
    def job(self) -> JobFacts | None:
        """The one that runs, or ran last."""
        return self._job

    @property
    def place(self) -> str:
        """The backups' folder, empty for none."""
        return "" if self._backups is None else str(self._backups)

    def release(self, who: str, *, samples: bool) -> None:
        """Publish what is accepted. Raises Refused: something runs already."""
        options = ["--samples"] if samples else []
        self._start("release", who, [str(self._folder), *options])

    def backup(self, who: str) -> None:
        """Take a backup. Raises Refused, or InputError where no folder is set for them."""
        if self._backups is None:
            raise InputError(
                "no folder is set for backups",
                why="the page takes none of a browser's paths",
                fix='set backups = "/mnt/backup" in coordinator.toml, on another disk, and restart',
                code="no-backups",
            )
        now = dt.datetime.fromtimestamp(self._clock.wall_s(), dt.UTC)
        name = now.strftime("%Y-%m-%dT%H-%M-%SZ")
        self._start("backup", who, [str(self._folder), "--out", str(self._backups / name)])

    def close(self) -> None:
        """End what runs."""
        child, thread = self._child, self._thread
        if child is not None and child.poll() is None:
            child.terminate()
        if thread is not None:
            thread.join()

    def _start(self, kind: str, who: str, words: list[str]) -> None:
        with self._lock:
            if self._job is not None and self._job.code is None:
                raise Refused(
                    f"a {self._job.kind} is running",
                    why="one at a time, so that each finds the disk to itself",
                    fix="wait until it has ended",
                    code="busy",
                )
            number = self._audit.begun(who, kind, {})
            command = own_command(["coordinator", kind, *words])
            self._child = subprocess.Popen(  # noqa: S603  # our own program, see above
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            self._job = JobFacts(kind, who, self._clock.wall_s())
            self._thread = threading.Thread(
                target=self._follow, args=(self._child, number), name="job", daemon=True
            )
            self._thread.start()

    def _follow(self, child: "subprocess.Popen[str]", number: int) -> None:
        said: deque[str] = deque(maxlen=_LINES)
        for line in child.stdout or ():
            said.append(legible(line.rstrip("\n"), 400))
            if self._job is not None:
                self._job = replace(self._job, lines=tuple(said))
        code = child.wait()
        if child.stdout is not None:
            child.stdout.close()
        self._audit.ended(number, "ok" if code == 0 else f"exit-{code}")
        if self._job is not None:
            self._job = replace(self._job, lines=tuple(said), code=code)

    def backups(self) -> tuple[BackupFacts, ...]:
        """Return what lies in the backups' folder, the newest first."""
        if self._backups is None or not self._backups.is_dir():
            return ()
        found = [path for path in self._backups.iterdir() if path.is_dir()]
        return tuple(_backup(path) for path in sorted(found, reverse=True)[:_LISTED])


def _backup(path: Path) -> BackupFacts:
    try:
        made = BackupManifest.read(path)
    except (OrthoFedError, OSError):
        return BackupFacts(legible(path.name, 60), 0, None, 0)
    size = sum(file.bytes for file in made.files) + (path / MANIFEST).stat().st_size
    return BackupFacts(legible(path.name, 60), made.t, made.size, size)
