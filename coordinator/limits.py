"""Who asks too often: token buckets, calls in flight, and nonces already seen, all in memory.

Laws: a limit never changes what an allowed call does, so losing all of this at a restart is
harmless: a replayed call can then only repeat an idempotent write (T3). Memory is bounded in every
direction by ``_ENTRIES`` and ``_NONCES``; the oldest goes first. Times are monotonic seconds, given
by the caller. Source: security.md 4.4 and 5. Loopback addresses have no bucket: they are this
machine.
"""

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..core.errors import Refused

_DAY_S = 86_400
_ENTRIES = 65_536
_NONCE_LIFE_S = 120.0
_NONCES_A_KEY = 4_096
_NONCES = 262_144


class Buckets:
    """Token buckets: ``burst`` calls at once, then ``per_s`` a second, for each name."""

    def __init__(self, *, per_s: float, burst: int) -> None:
        """Start with every bucket full."""
        self._per_s = per_s
        self._burst = burst
        self._lock = threading.Lock()
        self._level: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, now_s: float) -> None:
        """Take one token, or raise Refused("rate-limited")."""
        with self._lock:
            level, then = self._level.pop(name, (float(self._burst), now_s))
            level = min(float(self._burst), level + (now_s - then) * self._per_s)
            allowed = level >= 1
            self._level[name] = (level - 1 if allowed else level, now_s)
            while len(self._level) > _ENTRIES:
                self._level.popitem(last=False)
        if not allowed:
            raise rate_limited(f"more than {self._burst} calls at once, {self._per_s:.3g} a second")


class InFlight:
    """How many calls run at once: ``each`` for one name, ``together`` for all."""

    def __init__(self, *, each: int, together: int) -> None:
        """Start with none."""
        self._each = each
        self._together = together
        self._lock = threading.Lock()
        self._running: dict[str, int] = {}

    @contextmanager
    def one(self, name: str) -> Iterator[None]:
        """Count one call while it runs, or raise Refused("busy")."""
        with self._lock:
            running = self._running.get(name, 0)
            if running >= self._each or sum(self._running.values()) >= self._together:
                raise Refused(
                    f"{running} such calls of yours are running already",
                    why=f"{self._each} at once are allowed, {self._together} for all together",
                    fix="try again in a moment",
                    code="busy",
                )
            self._running[name] = running + 1
        try:
            yield
        finally:
            with self._lock:
                self._running[name] -= 1
                if not self._running[name]:
                    del self._running[name]


class Daily:
    """What each name used today, at most ``most``; the day is UTC's, as in a lease's quota."""

    def __init__(self, most: int, *, unit: str) -> None:
        """Start with nothing used; ``unit`` names it in the refusal."""
        self._most = most
        self._unit = unit
        self._day = 0
        self._lock = threading.Lock()
        self._used: OrderedDict[str, int] = OrderedDict()

    def take(self, name: str, amount: int, wall_s: int) -> None:
        """Use ``amount`` of today's, or raise Refused("quota-used") and use nothing."""
        with self._lock:
            if wall_s // _DAY_S != self._day:
                self._day = wall_s // _DAY_S
                self._used.clear()
            used = self._used.pop(name, 0) + amount
            allowed = used <= self._most
            self._used[name] = used if allowed else used - amount
            while len(self._used) > _ENTRIES:
                self._used.popitem(last=False)
        if not allowed:
            raise Refused(
                f"{used} {self._unit} by one key today, allowed are {self._most}",
                why="an upload that starts over and over takes disk and time from everybody",
                fix="come back tomorrow, or ask the operator for a higher limit",
                code="quota-used",
            )


class KnownKeys:
    """Remembers which keys were found known; for keys that stay known once they are."""

    def __init__(self, ask: Callable[[str], bool]) -> None:
        """Ask ``ask`` about every other key."""
        self._ask = ask
        self._lock = threading.Lock()
        self._known: OrderedDict[str, None] = OrderedDict()

    def __call__(self, key: str) -> bool:
        """Return whether the key is known."""
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return True
        if not self._ask(key):
            return False
        with self._lock:
            self._known[key] = None
            while len(self._known) > _ENTRIES:
                self._known.popitem(last=False)
        return True


class Nonces:
    """Nonces of the last two minutes, at most 4,096 a key and 262,144 in all (T3)."""

    def __init__(self) -> None:
        """Start with none seen."""
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()
        self._num = 0

    def __len__(self) -> int:
        """Return how many are remembered."""
        return self._num

    def once(self, key: str, nonce: str, now_s: float) -> None:
        """Remember the nonce, or raise Refused("replayed")."""
        with self._lock:
            self._forget(now_s)
            mine = self._seen.setdefault(key, OrderedDict())
            self._seen.move_to_end(key)
            while mine and next(iter(mine.values())) <= now_s:
                mine.popitem(last=False)
                self._num -= 1
            if nonce in mine:
                raise Refused(
                    "this very call was made before",
                    why="its nonce is used up",
                    fix="sign each try anew",
                    code="replayed",
                )
            if len(mine) >= _NONCES_A_KEY:
                raise rate_limited(f"{len(mine)} calls of one key in {_NONCE_LIFE_S:.0f} s")
            mine[nonce] = now_s + _NONCE_LIFE_S
            self._num += 1

    def _forget(self, now_s: float) -> None:
        """Drop the keys that fell silent, and the most silent ones while there are too many."""
        while self._seen:
            mine = next(iter(self._seen.values()))
            if next(reversed(mine.values()), 0.0) > now_s and self._num < _NONCES:
                return
            self._seen.popitem(last=False)
            self._num -= len(mine)


def rate_limited(what: str) -> Refused:
    """Return the error for a caller that asks too often."""
    return Refused(
        what,
        why="the coordinator shares its time between all",
        fix="wait a minute and try again",
        code="rate-limited",
    )


def network_of(peer: str) -> str | None:
    """Return the /24 or /48 of a gRPC peer name, or None for this machine.

    >>> network_of("ipv4:192.0.2.7:5000"), network_of("ipv6:%5B::1%5D:5000")
    ('192.0.2.0/24', None)
    """
    kind, _, rest = peer.partition(":")
    host = rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None if kind == "unix" else peer[:64]
    if address.is_loopback:
        return None
    prefix = 24 if address.version == 4 else 48  # noqa: PLR2004  # IP version
    return str(ipaddress.ip_network(f"{address}/{prefix}", strict=False))
