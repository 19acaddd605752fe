"""Links that let the operator in to the page: each for one use and ten minutes.

Laws: of a word only its SHA-256 is kept, in memory, so neither a backup nor a look at the process'
files lets anybody in; a word is spent by its first use, in the same step in which it is looked up;
a restart forgets all. Who may ask for one is decided by the control socket's folder, as for every
command. Not here: sessions (web/sessions.py).
"""

import hashlib
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from ..core.errors import InputError
from .clock import Clock

TTL_S: Final = 600
_MOST: Final = 8
_WORD_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class _Given:
    who: str
    until_s: float


class Logins:
    """The links that were given and not used; ``url`` is where the page is, empty for none."""

    def __init__(self, clock: Clock) -> None:
        """Start with none."""
        self.url = ""
        self._clock = clock
        self._lock = threading.Lock()
        self._given: OrderedDict[bytes, _Given] = OrderedDict()

    def link(self, who: str) -> dict[str, object]:
        """Return a link for ``who``; of more than eight that wait, the oldest goes.

        Raises InputError: this coordinator has no page.
        """
        if not self.url:
            raise InputError(
                "this coordinator serves no page",
                why="it was started without one, or is not running",
                fix="start it with orthofed coordinator serve DIR --web HOST:PORT",
                code="no-page",
            )
        word = secrets.token_urlsafe(_WORD_BYTES)
        with self._lock:
            self._given[_digest(word)] = _Given(who, self._clock.monotonic_s() + TTL_S)
            while len(self._given) > _MOST:
                self._given.popitem(last=False)
        return {"url": f"{self.url}/operator/login?word={word}", "ttl_s": TTL_S}

    def spend(self, word: str) -> str | None:
        """Return whom the word was given to, once; None for one that is used, late or unknown."""
        with self._lock:
            given = self._given.pop(_digest(word), None)
        late = given is None or self._clock.monotonic_s() > given.until_s
        return None if late or given is None else given.who


def _digest(word: str) -> bytes:
    return hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
