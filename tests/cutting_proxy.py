"""A TCP proxy on this machine that is as bad as a network can be, at a byte of the test's choice.

It passes bytes both ways until a connection's ``Fate`` comes: after so many bytes of one direction
it cuts, resets, stalls, flips a bit, says a piece twice, or passes nothing more without a word.
What it passes is TLS, so a flipped bit and a repeated piece end the connection too, as soon as
the other side notices. Counts what arrived.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

Direction = Literal["up", "down"]
How = Literal["cut", "reset", "stall", "damage", "repeat", "silence"]
_PIECE = 16_384
_STALL_S = 0.2


@dataclass(frozen=True)
class Fate:
    """What happens to one connection once ``at`` bytes have passed in one direction."""

    direction: Direction
    at: int
    how: How


class CuttingProxy:
    """Listens on a port of its own; ``draw`` gives each connection its fate, None for none."""

    def __init__(self, target: str, draw: Callable[[], Fate | None]) -> None:
        """Listen and pass everything on to ``target``, HOST:PORT."""
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._draw = draw
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._pairs: list[_Pair] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.up_bytes = 0
        self.down_bytes = 0
        self.fates: list[How] = []
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def cuts(self) -> int:
        """How many connections it ended."""
        return sum(how != "stall" for how in self.fates)

    def hush(self) -> None:
        """Let every connection go silent now."""
        for pair in self._pairs:
            pair.silent = True

    def close(self) -> None:
        """Stop listening; connections end when one of their sides does."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:  # nobody there: as a refused connection
                near.close()
                continue
            self._threads = [each for each in self._threads if each.is_alive()]
            pair, fate = _Pair(near, far), self._draw()
            self._pairs = [*(each for each in self._pairs if each.flowing), pair]
            self._start(self._pump, pair, "up", near, far, fate)
            self._start(self._pump, pair, "down", far, near, fate)

    def _pump(
        self,
        pair: "_Pair",
        direction: Direction,
        source: socket.socket,
        sink: socket.socket,
        fate: Fate | None,
    ) -> None:
        left = fate.at if fate is not None and fate.direction == direction else None
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                if direction == "up":
                    self.up_bytes += len(data)
                else:
                    self.down_bytes += len(data)
                if pair.silent:
                    continue
                if left is None or left >= len(data):
                    sink.sendall(data)
                    left = None if left is None else left - len(data)
                    continue
                assert fate is not None
                sink.sendall(data[:left])
                if not self._meet(fate.how, pair, sink, data[:left], data[left:]):
                    break
                left = None
        pair.end(direction)

    def _meet(
        self, how: How, pair: "_Pair", sink: socket.socket, before: bytes, after: bytes
    ) -> bool:
        """Let the fate come; return whether bytes go on flowing."""
        with self._lock:
            self.fates.append(how)
        match how:
            case "cut":
                return False
            case "reset":
                pair.reset = True
                return False
            case "silence":
                pair.silent = True
            case "stall":
                time.sleep(_STALL_S)
                sink.sendall(after)
            case "damage":
                sink.sendall(bytes([after[0] ^ 1]) + after[1:])
            case "repeat":
                sink.sendall((before[-64:] or after[:64]) + after)
        return True


class _Pair:
    """The two sockets of one connection, closed once both directions have ended."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._sockets = (near, far)
        self._lock = threading.Lock()
        self.flowing = 2
        self.reset = False
        self.silent = False

    def end(self, direction: Direction) -> None:
        """Wake the other direction; the last one closes."""
        with self._lock:
            self.flowing -= 1
            last = self.flowing == 0
        how = socket.SHUT_RD if self.reset else socket.SHUT_RDWR  # no FIN before a reset
        unheard = self.silent and direction == "down"  # not even the end is passed on
        for each in () if unheard and not last else self._sockets:
            with contextlib.suppress(OSError):
                if self.reset:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.shutdown(how)
            if last:
                each.close()
