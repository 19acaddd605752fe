"""Owners who upload with the client's own stack, each through a bad network and with bad memory.

Joining, leasing and packing go straight to the coordinator; the upload (client/upload.py, its
channel and its outbox) goes through a CuttingProxy of the owner's. ``BadMemory`` is that channel
with bits that flip before a chunk is signed, so that the coordinator gets well signed wrong chunks.
"""

import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from orthofed.client.channel import Channel
from orthofed.client.outbox import Outbox
from orthofed.client.upload import Upload, chunk_hashes
from orthofed.core.errors import Refused
from orthofed.core.invite import Invite
from orthofed.core.keys import SigningKey
from orthofed.proto import methods, wire
from orthofed.proto.methods import CHUNK_BYTES, Method

from .cutting_proxy import CuttingProxy, Fate, How
from .uploaders import Hasty, Uploader, quick_blob

Draw = Callable[[random.Random], Fate | None]
_FLIPS = 0.05
_PATIENCE_S = 600
"""That of ``orthofed client train``: a silent line takes most of a minute, and may be met twice."""
_FEW = 24 << 10
"""Bytes that a cut may cost beside chunks: a TLS handshake, headers, another Begin."""


@dataclass
class Toll:
    """What a run came to. Units: ``dearest`` is the chunks that one upload sent again a cut."""

    uploads: int = 0
    cuts: int = 0
    crashes: int = 0
    torn: int = 0
    slowest_s: float = 0.0
    wrong_chunks: int = 0
    resent_bytes: int = 0
    dearest: float = 0.0
    fates: Counter[How] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


class BadMemory(Channel):
    """The client's channel in a machine whose memory flips bits before a message is signed."""

    def __init__(self, address: str, invite: Invite, outbox: Outbox, draw: random.Random) -> None:
        """Flip what ``draw`` says."""
        super().__init__(
            address, ca=invite.ca, log=invite.log, outbox=outbox, patience_s=_PATIENCE_S
        )
        self._draw = draw
        self._tried: set[int] = set()
        self.parts: Path | None = None
        self.wrong = 0
        self.violations: list[str] = []

    def _once(self, method: Method, body: bytes, key: SigningKey | None) -> bytes:
        if method is not methods.PUT or self.parts is None:
            return super()._once(method, body, key)
        asked = wire.PutRequest.from_bytes(body)
        # Only at the first try of a chunk: no good one is on its way then, to change the part.
        first = asked.index not in self._tried
        self._tried.add(asked.index)
        if not first or self._draw.random() >= _FLIPS:
            return super()._once(method, body, key)
        data, at = bytearray(asked.data), self._draw.randrange(8 * len(asked.data))
        data[at // 8] ^= 1 << at % 8
        before = self._part(asked)
        self.wrong += 1
        try:
            answer = super()._once(method, replace(asked, data=bytes(data)).to_bytes(), key)
        finally:
            # It holds the wrong bytes now; what a power cut takes meanwhile is no work of theirs.
            if before != self._part(asked) == data:
                self.violations.append(f"a wrong chunk {asked.index} changed the part")
        self.violations.append(f"a wrong chunk {asked.index} was taken")
        return answer

    def _part(self, asked: wire.PutRequest) -> bytes:
        """Return what the coordinator has of this chunk, from its disk: a cut may take the name."""
        assert self.parts is not None
        try:
            with (self.parts / asked.upload_id.hex()).open("rb") as file:
                file.seek(asked.index * CHUNK_BYTES)
                return file.read(len(asked.data))
        except FileNotFoundError:
            return b""


class Owner:
    """One data owner with a proxy of its own."""

    def __init__(self, invite: Invite, address: str, home: Path, *, draw: Draw, seed: int) -> None:
        """Join; ``draw`` decides what meets each connection."""
        fates = random.Random(seed)  # noqa: S311  # a replayable draw
        self._memory = random.Random(seed + 1)  # noqa: S311  # the same
        self._seed = seed
        self._home = home
        home.mkdir()
        self._me = Uploader(Hasty(invite, address), threading.Event())
        self._me.again(self._me.join)
        self._me.again(self._me.spec)
        self.proxy = CuttingProxy(address, lambda: draw(fates))
        self.sent = 0

    def close(self) -> None:
        """Close every connection."""
        self._me.link.close()
        self.proxy.close()

    def upload(
        self,
        toll: Toll,
        *,
        parts: Path | None = None,
        on_bytes: Callable[[int, int], None] = lambda *_: None,
    ) -> bytes:
        """Lease and upload; return the receipt. With ``parts``, bits flip in some chunks."""
        name = f"wren-{secrets.token_hex(8)}"
        key, request = SigningKey.from_seed(secrets.token_bytes(32)), secrets.token_hex(16)
        lease = self._me.again(lambda: self._me.lease(name, (name,), key=key, request=request))
        self.sent += 1
        packed = self._me.pack(lease, blob=quick_blob(self._me.spec(), seed=self._seed + self.sent))
        blob = self._home / "blob"
        blob.write_bytes(packed.blob)
        outbox = Outbox(self._home / "outbox.jsonl")
        outbox.approve(packed.document, chunk_hashes(blob))
        before, first_bytes = len(self.proxy.fates), self.proxy.up_bytes
        started_s = time.monotonic()
        invite = self._me.invite
        with BadMemory(self.proxy.address, invite, outbox, self._memory) as channel:
            channel.parts = parts
            upload = Upload(
                channel, key=lease.key, document=packed.document, blob=blob, on_bytes=on_bytes
            )
            try:
                receipt = upload.run()
            finally:
                toll.slowest_s = max(toll.slowest_s, time.monotonic() - started_s)
                toll.wrong_chunks += channel.wrong
                toll.violations += channel.violations
        spent = self.proxy.up_bytes - first_bytes - channel.wrong * (CHUNK_BYTES + 1_024)
        _count(toll, self.proxy.fates[before:], max(0, spent - len(packed.blob) - _FEW))
        return receipt


def _count(toll: Toll, met: list[How], resent: int) -> None:
    """Add one upload; what it sent again has to be within two chunks a cut."""
    cuts = sum(how != "stall" for how in met)
    toll.uploads += 1
    toll.cuts += cuts
    toll.fates.update(met)
    toll.resent_bytes += resent
    if cuts:
        toll.dearest = max(toll.dearest, resent / cuts / CHUNK_BYTES)
    if resent > cuts * (2 * CHUNK_BYTES + _FEW) and not toll.crashes:
        toll.violations.append(f"{cuts} cuts cost {resent} bytes")


class Owners:
    """Many of them, each in a thread, until ``enough`` or until no slot is free."""

    def __init__(  # a run has this many choices
        self,
        folder: Path,
        invite: str,
        address: str,
        toll: Toll,
        *,
        num: int,
        draw: Draw,
        enough: Callable[[], bool],
        seed: int,
    ) -> None:
        """Start them."""
        self._parts = folder / "data" / "part"
        self._toll = toll
        self._enough = enough
        self.receipts: list[bytes] = []
        scratch = folder.with_name(f"{folder.name}-owners")
        scratch.mkdir()
        parsed = Invite.from_text(invite)
        owners = [
            Owner(parsed, address, scratch / str(i), draw=draw, seed=1_000 * (seed + i))
            for i in range(num)
        ]
        self._threads = [
            threading.Thread(target=self._work, args=(owner,), daemon=True) for owner in owners
        ]
        for thread in self._threads:
            thread.start()

    @property
    def active(self) -> bool:
        """Whether anybody still works."""
        return any(thread.is_alive() for thread in self._threads)

    def finish(self) -> None:
        """Wait for all of them."""
        for thread in self._threads:
            thread.join(300)
        if self.active:
            self._toll.violations.append("an upload hangs")

    def _work(self, owner: Owner) -> None:
        try:
            while not self._enough() and not self._toll.violations:
                self.receipts.append(owner.upload(self._toll, parts=self._parts))
        except Refused as error:
            if error.code != "no-free-slot":
                self._toll.violations.append(f"an owner was refused: {error}")
        except BaseException as error:  # noqa: BLE001  # the test reads it
            self._toll.violations.append(f"an owner failed: {error!r}")
        finally:
            owner.close()
