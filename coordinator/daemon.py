"""The process that ``serve`` runs: lock, open, listen, finish what was interrupted, drain, close.

Laws: the lock is taken first and held to the end (reliability.md 2.1); a restart needs no command:
an open release plan is finished by a child process, so that the coordinator answers meanwhile and
never holds the release key. SIGTERM, Ctrl-C and a terminal that closes drain: no new calls, those
in flight finish.
"""

import datetime as dt
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..core.address import bracketed
from . import publications
from .allocator import few_arenas
from .audit_log import AuditLog
from .audited_desk import AuditedDesk
from .bridge_desk import BridgeDesk
from .bridge_socket import BridgeSocket
from .clock import Clock, SystemClock
from .control import ControlServer
from .desk import Desk
from .folder import DataFolder
from .fs import Fs
from .house import House
from .logins import Logins
from .meter import Meter
from .metrics_page import MetricsPage
from .own_program import own_command
from .premises import OpenPage, Premises
from .server import Server
from .service import Service
from .stale_parts import StaleParts
from .tls import server_tls


@dataclass(frozen=True, slots=True)
class Listening:
    """What a coordinator says when it can be called.

    ``address``: HOST:PORT in invites and links. ``listening``: that of its socket, with the port
    that it really has; the two differ behind a proxy. ``metrics``: the address of the metrics,
    empty for none. ``page``: that of the page, empty for none.
    ``is_recovering``: a release was interrupted and is being finished.
    """

    address: str
    listening: str
    link: str
    metrics: str
    page: str
    is_recovering: bool


_LOOK_S = 0.5
_SWITCH_S = 0.0005
"""What the event loop waits for the interpreter behind a thread at work, at most: with Python's own
0.005 s a thousand uploads took a third longer, since each call needs the loop several times."""


def run(
    directory: Path,
    *,
    listen: str,
    metrics: str = "",
    open_page: OpenPage | None = None,
    ready: Callable[[Listening], None],
    clock: Clock | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; ``ready`` is told where it listens."""
    few_arenas()
    sys.setswitchinterval(_SWITCH_S)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # a terminal that closes; nohup ignores
        signal.signal(signal.SIGHUP, lambda *_: stop.set())
    folder = DataFolder.open(directory)
    settings = folder.settings()
    clock = clock or SystemClock()
    fs = Fs(reserve_bytes=settings.reserve_mib << 20)
    with ExitStack() as opened:
        opened.enter_context(folder.locked())
        house = opened.enter_context(House(folder, fs=fs, clock=clock))
        opened.enter_context(StaleParts(house))
        now = dt.datetime.fromtimestamp(clock.wall_s(), dt.UTC)
        tls = server_tls(
            folder.keys, settings.hostnames, fs=fs, now=now, client_ca=settings.client_ca
        )
        service = Service(house)
        meter = Meter()
        server = Server(
            service.answer, listen=listen or settings.listen, tls=tls, clock=clock, meter=meter
        )
        where = metrics or settings.metrics
        numbers = MetricsPage(where, meter, house) if where else None
        logins = Logins(clock)
        desk = Desk(house, logins)
        audit = AuditLog(folder.audit_log, fs=fs, clock=clock)

        def desk_for(who: str) -> AuditedDesk:
            return AuditedDesk(desk, audit, who)

        control = ControlServer(folder.control, desk_for)
        bridge = BridgeSocket(folder.bridge(), BridgeDesk(house).answer)
        _tell_address(folder, _address(server, settings.hostnames[0]), fs=fs)
        interrupted = house.store.run(publications.planned) is not None
        premises = Premises(house, meter, service.answer, desk_for, audit, logins)
        page = None if open_page is None else open_page(premises)
        logins.url = "" if page is None else page.address
        seen_at = "" if numbers is None else numbers.address
        socket = f"{server.host}:{server.port}"
        ready(Listening(folder.address(), socket, desk.link(), seen_at, logins.url, interrupted))
        house.sweep()
        child = _finish_release(directory) if interrupted else None
        # Python's handler runs when the main thread does. A signal that falls between its last look
        # and an endless wait would end nothing, which a busy machine makes likely at the start.
        while not stop.wait(_LOOK_S):
            pass
        server.stop()
        for each in (page, numbers):
            if each is not None:
                each.close()
        bridge.close()
        control.close()
        audit.close()
        if child is not None and child.poll() is None:
            child.terminate()
            child.wait()


def _tell_address(folder: DataFolder, address: str, *, fs: Fs) -> None:
    """Write where this coordinator listens, if that is news: a start needs no room on the disk."""
    path = folder.address_file
    if not path.is_file() or path.read_bytes() != address.encode():
        fs.write_whole(path, address.encode())


def _address(server: Server, hostname: str) -> str:
    """Return HOST:PORT as others reach it; a wildcard address becomes the first host name."""
    host = bracketed(hostname) if server.host in ("0.0.0.0", "[::]", "") else server.host  # noqa: S104  # compared, not bound
    return f"{host}:{server.port}"


def _finish_release(directory: Path) -> "subprocess.Popen[bytes]":
    command = own_command(["coordinator", "release", str(directory), "--resume"])
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603  # our own program
