"""Load: data owners who lease, upload and commit over real sockets until every slot is taken.

Each keeps on whatever happens to the coordinator, as a client does (reliability.md 4), only with
less patience between tries, and writes each receipt to its acknowledgement log with an fsync before
it goes on. What the log holds is what the store check then demands.
"""

import base64
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from orthofed.core.errors import OrthoFedError, Refused
from orthofed.core.invite import Invite
from orthofed.core.keys import SigningKey
from orthofed.core.layout import ContributionLayout, pack
from orthofed.core.quantise import Quantised
from orthofed.core.spec import FederationSpec
from orthofed.proto import failure, methods

from .member import Member, Wire

T = TypeVar("T")
_PAUSE_S = 0.05
_AGAIN = frozenset({"unknown-upload"})
"""What a client answers by starting over; every other code that may not pass is a violation."""


class Hasty(Wire):
    """A connection that is tried again at once: a test has no half minute for backoff."""

    def __init__(self, invite: Invite, address: str) -> None:
        self.invite = invite
        pem = x509.load_der_x509_certificate(invite.ca).public_bytes(Encoding.PEM)
        options = [
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", methods.REPLY_BYTES),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 5_000),  # how long one attempt, TLS and all, may take
        ]
        self.channel = grpc.secure_channel(
            address, grpc.ssl_channel_credentials(pem), options=options
        )
        self.clock_offset_s = 0
        self.last_trailers = {}


class _Stopped(Exception):
    """The test wants no more."""


class Uploader(Member):
    """One data owner who asks again until there is an answer."""

    def __init__(self, link: Wire, stop: threading.Event) -> None:
        super().__init__(link)
        self.stop = stop
        self.answers = 0
        self._spec: FederationSpec | None = None

    def spec(self) -> FederationSpec:
        if self._spec is None:
            self._spec = super().spec()
        return self._spec

    def again(self, ask: Callable[[], T]) -> T:
        """Return the answer, however often the coordinator dies meanwhile."""
        while True:
            if self.stop.is_set():
                raise _Stopped
            try:
                answer = ask()
            except OrthoFedError as error:
                status = str(self.link.last_trailers.get("status", ""))
                if not failure.may_retry(status, error.code) and error.code not in _AGAIN:
                    raise
                time.sleep(_PAUSE_S)
            else:
                self.answers += 1
                return answer

    def one(self, number: str, seed: int) -> bytes:
        """Lease a slot, upload, and return the receipt."""
        blob = quick_blob(self.again(self.spec), seed=seed)
        key = SigningKey.from_seed(secrets.token_bytes(32))
        request, name = secrets.token_hex(16), f"wren-{number}"
        lease = self.again(lambda: self.lease(name, (name,), key=key, request=request))
        packed = self.pack(lease, blob=blob)
        return self.again(lambda: self.contribute(packed))


def quick_blob(spec: FederationSpec, *, seed: int, loud: bool = False) -> bytes:
    """Return a legal blob of random integers, made in a hundredth of a second.

    ``loud``: its learned vectors are longer than any word's, so it goes into quarantine.
    """
    layout = ContributionLayout(spec, (1,))
    random = np.random.default_rng(seed)
    tensors: dict[str, Quantised] = {}
    for info in layout.content:
        q = random.integers(-32767, 32768, info.shape, np.int16)
        q.flat[0] = 32767
        low = -5 if loud and info.name.startswith("embed.") else layout.window(info.name)[0]
        tensors[info.name] = Quantised(q, low)
    return pack(layout, tensors)


class Uploaders:
    """Many of them at once, each in a thread."""

    def __init__(self, invite: str, address: str, *, num: int, logs: Path, seed: int) -> None:
        """Start them; ``logs`` is the folder of the acknowledgement logs."""
        self.faults: list[BaseException] = []
        self.done = 0
        self.logs = logs
        parsed = Invite.from_text(invite)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        logs.mkdir()
        self._clients = [Uploader(Hasty(parsed, address), self._stop) for _ in range(num)]
        self._threads = [
            threading.Thread(target=self._work, args=(client, i, seed), daemon=True)
            for i, client in enumerate(self._clients)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def active(self) -> int:
        """How many still work."""
        return sum(thread.is_alive() for thread in self._threads)

    @property
    def answers(self) -> int:
        """How many answers they have had."""
        return sum(client.answers for client in self._clients)

    def wait_for_answer(self, patience_s: float = 10) -> None:
        """Wait until one more answer has come, or all have ended."""
        before, end = self.answers, time.monotonic() + patience_s
        while self.answers == before and self.active:
            assert time.monotonic() < end, f"no client had an answer within {patience_s} s"
            time.sleep(0.002)

    def acknowledged(self) -> list[bytes]:
        """Return every receipt in the logs."""
        lines = [line for path in self.logs.iterdir() for line in path.read_bytes().splitlines()]
        return [base64.b64decode(line) for line in lines]

    def finish(self, patience_s: float = 60) -> None:
        """Wait until each has what it was working on, and all slots are taken."""
        end = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        stuck = self.active
        self.stop()
        assert not stuck, f"{stuck} clients got no receipt within {patience_s} s"

    def stop(self) -> None:
        """End them where they are."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, me: Uploader, index: int, seed: int) -> None:
        try:
            me.again(me.join)
            with (self.logs / f"{index}").open("ab") as log:
                for n in range(1_000_000):
                    receipt = me.one(f"{index:02d}{n:04d}", seed + 1000 * index + n)
                    log.write(base64.b64encode(receipt) + b"\n")
                    log.flush()
                    os.fsync(log.fileno())
                    with self._lock:
                        self.done += 1
        except _Stopped:
            pass
        except Refused as error:
            if error.code != "no-free-slot":
                self.faults.append(error)
        except BaseException as error:  # noqa: BLE001  # the test reads it
            self.faults.append(error)
        finally:
            me.link.close()
