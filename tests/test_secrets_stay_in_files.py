"""T27: no secret in the arguments of any process, in any log, or in what commands print."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from orthofed.core.invite import Invite

from .coordinator_process import Coordinator, run
from .running import wide_base


@contextmanager
def watched() -> Iterator[set[str]]:
    """Collect the command lines of every process below this one, every few milliseconds."""
    seen, stop = set[str](), threading.Event()

    def look() -> None:
        me = psutil.Process()
        while not stop.is_set():
            for child in me.children(recursive=True):
                try:
                    seen.add("\0".join(child.cmdline()))
                except psutil.Error:
                    continue
            time.sleep(0.005)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def secrets_of(folder: Path) -> list[str]:
    """Return what must never be seen: the lines of every private key, and the master."""
    found = [path.read_text("ascii").split()[0] for path in folder.rglob("master.key")]
    for path in folder.rglob("*"):
        if path.suffix in (".pem", ".key") and path.name != "master.key" and path.is_file():
            lines = path.read_text("ascii").splitlines()
            starts = [i for i, line in enumerate(lines) if "BEGIN" in line and "PRIVATE" in line]
            found += [lines[i + 1] for i in starts]
    return found


def test_no_secret_is_an_argument_or_is_printed(tmp_path):
    """Found, invite, join, rotate, a recipient's key: all commands, their processes and the log."""
    printed = list[str]()
    with (
        watched() as seen,
        Coordinator.found(
            tmp_path / "fed", wide_base(tmp_path / "base"), "--rank", "16"
        ) as coordinator,
    ):
        text = coordinator.invite()
        file = tmp_path / "invite.txt"
        file.write_text(text)
        for words in (
            ("client", "join", "--invite", str(file), "--home", str(tmp_path / "home")),
            ("coordinator", "rotate", str(tmp_path / "fed"), "--ledger", "--release"),
            ("coordinator", "keyring", "root", str(tmp_path / "root-2.pem")),
            ("recipient", "new", str(tmp_path / "carla.key")),
            ("client", "status", "--home", str(tmp_path / "home")),
            ("doctor", str(tmp_path / "fed")),
        ):
            done = run(*words, check=False)
            printed += [done.stdout, done.stderr]
    printed += [path.read_text() for path in tmp_path.glob("*.log")]

    secret = [*secrets_of(tmp_path), text[10:60], Invite.from_text(text).seed.hex()]
    assert len(secret) > 9
    assert any("serve" in line for line in seen)
    assert not [s for s in secret if any(s in line for line in (*seen, *printed))]


def test_the_watch_sees_a_secret_that_is_an_argument(tmp_path):
    """The guard itself: a child with a secret among its arguments is caught."""
    with watched() as seen:
        run("client", "status", "--home", str(tmp_path / "planted-secret"), check=False)

    assert any("planted-secret" in line for line in seen)
