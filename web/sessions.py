"""Who is logged in: sessions that begin with a login link, and end.

Laws: the cookie is a random id under a signature, and the process forgets the id at logout, after
an hour without a request and after twelve in any case, so a cookie that was kept is worth nothing
then; a restart ends all. Every change asks for the session's own CSRF word besides. Times are
monotonic seconds, given by the caller.
"""

import hmac
import secrets
import threading
from dataclasses import dataclass, replace
from typing import Final

from itsdangerous import BadSignature, Signer

IDLE_S: Final = 3_600.0
LIFE_S: Final = 12 * 3_600.0
_MOST: Final = 32
_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Session:
    """One login: who asked for its link, the word that its forms carry, when it began, was seen."""

    id: str
    who: str
    csrf: str
    began_s: float
    seen_s: float

    def stands(self, now_s: float) -> bool:
        """Return whether it has not ended."""
        return now_s - self.seen_s < IDLE_S and now_s - self.began_s < LIFE_S

    def wrote(self, csrf: str) -> bool:
        """Return whether a form is this session's own."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode("utf-8", "replace"))


class Sessions:
    """Every session that stands; for any number of threads."""

    def __init__(self) -> None:
        """Start with none, under a fresh key."""
        self._signer = Signer(secrets.token_bytes(_BYTES), salt="orthofed.session")
        self._lock = threading.Lock()
        self._open: dict[str, Session] = {}

    def open(self, who: str, now_s: float) -> str:
        """Begin a session and return its cookie; of more than 32 the oldest ends."""
        made = Session(
            secrets.token_urlsafe(_BYTES), who, secrets.token_urlsafe(_BYTES), now_s, now_s
        )
        with self._lock:
            self._open = {key: each for key, each in self._open.items() if each.stands(now_s)}
            while len(self._open) >= _MOST:
                del self._open[next(iter(self._open))]
            self._open[made.id] = made
        return self._signer.sign(made.id).decode("ascii")

    def find(self, cookie: str, now_s: float, *, seen: bool = True) -> Session | None:
        """Return the session of a cookie, None where it is forged or has ended.

        ``seen``: whether somebody asked, or only an open page by itself.
        """
        try:
            key = self._signer.unsign(cookie).decode("ascii")
        except (BadSignature, UnicodeError):
            return None
        with self._lock:
            found = self._open.get(key)
            if found is None or not found.stands(now_s):
                self._open.pop(key, None)
                return None
            if seen:
                found = self._open[key] = replace(found, seen_s=now_s)
            return found

    def close(self, session: Session) -> None:
        """End a session."""
        with self._lock:
            self._open.pop(session.id, None)
