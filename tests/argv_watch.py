"""The arguments of every process that the tests start, searched for secrets when they are done.

Every user of a machine can read them (T27). An audit hook sees each start in this process, whoever
asks for it; what those processes start in turn is looked at by test_secrets_stay_in_files.py.
Secrets are invites, by their form, and the keys in the files that the tests wrote.
"""

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_INVITE = re.compile(r"ofi1:[A-Za-z0-9_-]{40}")
_PRIVATE_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)-----END", re.DOTALL)
_LONG = 40
_EVENTS = {"subprocess.Popen": 1, "os.posix_spawn": 1, "os.exec": 1}
"""Events of starts, and where their arguments stand."""
GIVEN_ON_PURPOSE = ("tests/test_join.py", "tests/test_argv_watch.py")
"""The first gives commands an invite to be seen refused, the second tries this search."""


@dataclass
class ArgvWatch:
    """What was started, and by which test."""

    seen: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    def begin(self) -> None:
        """Look from now on; a hook stays until the process ends."""

        def hook(event: str, args: tuple[object, ...]) -> None:
            if event in _EVENTS:
                test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
                self.seen.add((test, _line(args[_EVENTS[event]])))

        sys.addaudithook(hook)

    def leaks(
        self, secrets: Iterable[str], *, but: tuple[str, ...] = GIVEN_ON_PURPOSE
    ) -> list[str]:
        """Name each test that gave a process a secret, without the secret."""
        known = [secret for secret in secrets if secret]
        return sorted(
            {
                test
                for test, line in self.seen
                if not test.startswith(but)
                and (_INVITE.search(line) or any(secret in line for secret in known))
            }
        )


def keys_below(folder: Path) -> set[str]:
    """Return every private key in the files below ``folder``: master keys, and lines of PEM.

    The certificate beside a key is public, and so is the last line of a key over a curve: it holds
    the public half. An address carries both in base64, now and then with the same line ends.
    """
    found = set[str]()
    for path in folder.rglob("*"):
        if path.suffix in (".key", ".pem") and path.is_file():
            text = path.read_text("ascii", errors="replace")
            blocks = [text] if path.name == "master.key" else _PRIVATE_BLOCK.findall(text)
            for lines in (block.split() for block in blocks):
                found |= {line for line in lines[:-1] or lines if len(line) >= _LONG}
    return found


def _line(args: object) -> str:
    words = [args] if isinstance(args, str | bytes | os.PathLike) else list(args)  # pyright: ignore[reportArgumentType,reportUnknownVariableType]
    return "\0".join(os.fsdecode(word) for word in words)  # pyright: ignore[reportArgumentType,reportUnknownArgumentType]
