"""The clients of load.py: each with its own connection, keys, lease and contribution.

They speak the contract through grpc's event loop, so that hundreds fit into one process, with the
rules of client/upload.py: two chunks in flight, and the same tries again with jitter after what
may pass (proto/failure.py). Every call is signed anew. Blobs are one legal pattern of numbers with
the client's own in front, so no two are equal and little memory is used.
"""

import asyncio
import contextlib
import hashlib
import secrets
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from orthofed.core.basis_fingerprint import basis_fingerprint
from orthofed.core.contribution import ContributionManifest
from orthofed.core.document import parse, sign
from orthofed.core.invite import Invite
from orthofed.core.keyring import Keyring
from orthofed.core.keys import SigningKey
from orthofed.core.layout import ContributionLayout, pack
from orthofed.core.quantise import quantise
from orthofed.core.receipt import verify_receipt
from orthofed.core.request import sign_request
from orthofed.core.spec import FederationSpec
from orthofed.proto import failure, methods, wire
from orthofed.proto.methods import Method

_LETTERS = "abdefghjkmpqstuxyz"  # none of them reads like another
_IN_FLIGHT = 2
_TRIES = 60
_RENEW_S = 1.3  # a key has one call a second
_ABREAST = 8
_JITTER = secrets.SystemRandom()


@dataclass(frozen=True)
class Plan:
    """What all processes know."""

    invite: str
    clients: int
    renewers: int


def clients(plan: Plan, index: int, num: int) -> "Crowd":
    """Return the share of one of ``num`` processes that upload, or, after them, who renews.

    A renewal that waited behind the chunks of its own process would tell of that process.
    """
    if index == num:
        return Crowd(plan, range(0), range(plan.clients, plan.clients + plan.renewers))
    return Crowd(plan, range(index, plan.clients, num), range(0))


class Crowd:
    """The clients of one process."""

    def __init__(self, plan: Plan, uploaders: range, renewers: range) -> None:
        self._invite = Invite.from_text(plan.invite)
        self._uploaders = [Client(self._invite, number) for number in uploaders]
        self._renewers = [Client(self._invite, number) for number in renewers]
        self._counts = _Counts()
        self._renewing: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()

    async def do(self, what: str) -> dict[str, Any]:
        """Lease, upload, send to a bare server, renew from now on, or no more; say what it was."""
        if what != "over":
            self._counts = _Counts()
        verb, _, address = what.partition(" ")
        began, spent_s = time.perf_counter(), time.process_time()
        if verb == "lease":
            await self._lease()
        elif verb == "send":
            await self._all(client.send_all(address) for client in self._uploaders)
        elif verb == "renew":
            self._renewing = [asyncio.create_task(self._renew(each)) for each in self._renewers]
        elif verb == "over":
            self._over.set()
            await asyncio.gather(*self._renewing)
        else:
            await self._all(client.upload(self._counts) for client in self._uploaders)
        seconds, spent_s = time.perf_counter() - began, time.process_time() - spent_s
        if verb == "upload":
            self._check_receipts()
        return self._counts.told(seconds) | {"cpu_s": spent_s}

    async def close(self) -> None:
        """Close every connection."""
        for client in (*self._uploaders, *self._renewers):
            await client.link.close()

    async def _lease(self) -> None:
        first = (*self._uploaders, *self._renewers)[0]
        reply = await first.link.call(methods.GET_SPEC, wire.SpecRequest(), wire.SpecReply)
        spec = FederationSpec.from_bytes(reply.spec)
        self._ledger_key = Keyring.from_body(parse(reply.keyrings[0], kind="keyring").body).ledger
        pattern = _pattern(spec)
        size = methods.CHUNK_BYTES
        chunks = [pattern[i : i + size] for i in range(0, len(pattern), size)]
        places = asyncio.Semaphore(_ABREAST)

        async def one(client: "Client") -> None:
            async with places:
                await client.lease(self._counts)
                client.pack(spec, chunks)

        await self._all(one(client) for client in (*self._uploaders, *self._renewers))

    async def _renew(self, client: "Client") -> None:
        progress = 0
        while not self._over.is_set():
            progress += 1
            request = wire.RenewRequest(client.slot, client.fence, progress)
            began = time.perf_counter()
            try:
                await client.link.call(methods.RENEW, request, wire.RenewReply, client.key)
            except Exception as error:  # noqa: BLE001  # counted
                self._counts.failed(error)
            self._counts.renew_ms.append((time.perf_counter() - began) * 1e3)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), _RENEW_S)

    async def _all(self, work: Any) -> None:
        for result in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(result, BaseException):
                self._counts.failed(result)

    def _check_receipts(self) -> None:
        for client in self._uploaders:
            if client.receipt:
                verify_receipt(client.receipt, log=self._invite.log, ledger_key=self._ledger_key)
                self._counts.receipts += 1
                self._counts.num_bytes += client.num_bytes


@dataclass
class _Counts:
    receipts: int = 0
    num_bytes: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    lease_ms: list[float] = field(default_factory=list)
    renew_ms: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def failed(self, error: BaseException) -> None:
        self.errors[str(error).splitlines()[0][:100]] += 1

    def told(self, seconds: float) -> dict[str, Any]:
        return {
            "receipts": self.receipts,
            "bytes": self.num_bytes,
            "retries": dict(self.retries),
            "seconds": seconds,
            "lease_ms": self.lease_ms,
            "renew_ms": self.renew_ms,
            "errors": self.errors.total(),
            "error_kinds": list(self.errors),
        }


class _Link:
    """One TLS connection; signs, sends, tries again."""

    def __init__(self, invite: Invite, address: str = "") -> None:
        pem = x509.load_der_x509_certificate(invite.ca).public_bytes(Encoding.PEM)
        self._log = invite.log
        self._channel = grpc.aio.secure_channel(
            address or invite.addr,
            grpc.ssl_channel_credentials(pem),
            options=[("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)],
        )
        self._stubs: dict[str, Any] = {}

    async def close(self) -> None:
        await self._channel.close()

    async def send(self, method: Method, body: bytes, key: SigningKey | None = None) -> bytes:
        stub = self._stubs.get(method.path)
        if stub is None:
            stub = self._stubs[method.path] = self._channel.unary_unary(method.path)
        metadata: tuple[tuple[str, bytes], ...] = ()
        if key is not None:
            header, signature = sign_request(
                key,
                log=self._log,
                method=method.path,
                body=body,
                nonce=secrets.token_bytes(16),
                now_s=int(time.time()),
            )
            metadata = ((methods.AUTH_KEY, header), (methods.SIGNATURE_KEY, signature))
        return await stub(body, metadata=metadata, timeout=method.deadline_s)

    async def call(
        self,
        method: Method,
        request: Any,
        reply: Any,
        key: SigningKey | None = None,
        counts: "_Counts | None" = None,
    ) -> Any:
        body = request.to_bytes()
        for tried in range(_TRIES):
            try:
                return reply.from_bytes(await self.send(method, body, key))
            except grpc.aio.AioRpcError as error:
                trailers = dict(error.trailing_metadata() or ())
                status, code = error.code().name, str(trailers.get(methods.CODE_KEY, ""))
                if not failure.may_retry(status, code):
                    raise failure.error_from(status, error.details() or "", code) from None
                if counts is not None:
                    counts.retries[f"{method.path.rpartition('/')[2]} {code or status}"] += 1
                after = float(str(trailers.get(methods.RETRY_KEY, 0)))
                await asyncio.sleep(max(after, _JITTER.random() * min(30, 0.1 * 2**tried)))
        raise TimeoutError(f"{method.path} was tried {_TRIES} times")


class Client:
    """One data owner: a member key, a client key, one contribution."""

    def __init__(self, invite: Invite, number: int) -> None:
        self._invite = invite
        self._number = number
        self.link = _Link(invite)
        self._member = SigningKey.from_seed(secrets.token_bytes(32))
        self.key = SigningKey.from_seed(secrets.token_bytes(32))
        self.slot = self.fence = -1
        self.receipt = b""
        self._chunks: list[bytes] = []
        self._document = b""

    @property
    def num_bytes(self) -> int:
        """The contribution's length."""
        return sum(map(len, self._chunks))

    async def lease(self, counts: _Counts) -> None:
        """Join, then lease, and say how long that took."""
        log, member, key = self._invite.log, self._member, self.key
        body: dict[str, object] = {
            "invite": self._invite.key.public_hex,
            "log": log,
            "member": member.public_hex,
            "v": 1,
        }
        proof = sign("join", body, [self._invite.key]).to_bytes()
        await self.link.call(methods.JOIN, wire.JoinRequest(proof), wire.JoinReply, member)
        self._name = "load-" + _letters(self._number)
        asked: dict[str, object] = {
            "client": key.public_hex,
            "concept": self._name,
            "log": log,
            "member": member.public_hex,
            "request": secrets.token_hex(16),
            "triggers": [self._name],
            "v": 1,
        }
        request = wire.LeaseRequest(sign("lease", asked, [key]).to_bytes(), (1,))
        began = time.perf_counter()
        reply = await self.link.call(methods.LEASE, request, wire.LeaseReply, member)
        counts.lease_ms.append((time.perf_counter() - began) * 1e3)
        self.slot, self.fence = reply.slot, reply.fence

    def pack(self, spec: FederationSpec, pattern: list[bytes]) -> None:
        """Make this client's blob of the pattern, and sign its manifest."""
        layout = ContributionLayout(spec, (1,))
        start = len(layout.header) + layout.content[0].offset
        own = struct.pack("<8h", *(self._number * 31 + i for i in range(8)))
        head = pattern[0][:start] + own + pattern[0][start + len(own) :]
        self._chunks = [head, *pattern[1:]]  # all but the first are shared, to spare memory
        digest = hashlib.sha256()
        for chunk in self._chunks:
            digest.update(chunk)
        manifest = ContributionManifest(
            basis=basis_fingerprint(spec, self.slot),
            blob=digest.hexdigest(),
            bytes=self.num_bytes,
            client=self.key.public_hex,
            concept=self._name,
            fed=spec.id,
            fence=self.fence,
            licence="CC0-1.0",
            log=self._invite.log,
            slot=self.slot,
            t=1_790_000_000,
            triggers=(self._name,),
        )
        self._document = sign("contribution", manifest.body(), [self.key]).to_bytes()

    async def upload(self, counts: _Counts) -> None:
        """Begin, put every chunk, commit; keep the receipt."""
        hashes = tuple(hashlib.sha256(chunk).digest() for chunk in self._chunks)
        begin = wire.BeginRequest(self._document, hashes)
        begun = await self.link.call(methods.BEGIN, begin, wire.BeginReply, self.key, counts)
        places = asyncio.Semaphore(_IN_FLIGHT)

        async def put(index: int) -> None:
            async with places:
                request = wire.PutRequest(begun.upload_id, index, self._chunks[index])
                await self.link.call(methods.PUT, request, wire.PutReply, self.key, counts)

        await asyncio.gather(*(put(index) for index in range(len(self._chunks))))
        commit = wire.CommitRequest(begun.upload_id)
        reply = await self.link.call(methods.COMMIT, commit, wire.CommitReply, self.key, counts)
        self.receipt = reply.receipt

    async def send_all(self, address: str) -> None:
        """Send the same chunks, signed as well, to a server that throws them away."""
        link = _Link(self._invite, address)
        places = asyncio.Semaphore(_IN_FLIGHT)

        async def put(index: int) -> None:
            async with places:
                request = wire.PutRequest(bytes(16), index, self._chunks[index])
                body = request.to_bytes()
                for _ in range(_TRIES):
                    try:
                        await link.send(methods.PUT, body, self.key)
                    except grpc.aio.AioRpcError:
                        await asyncio.sleep(_JITTER.random())
                    else:
                        return
                raise TimeoutError("the bare server does not answer")

        await asyncio.gather(*(put(index) for index in range(len(self._chunks))))
        await link.close()


def _letters(number: int) -> str:
    out = ""
    for _ in range(3):
        number, digit = divmod(number, len(_LETTERS))
        out += _LETTERS[digit]
    return out


def _pattern(spec: FederationSpec) -> bytes:
    layout = ContributionLayout(spec, (1,))
    rng = np.random.default_rng(1)
    tensors = {}
    for info in layout.content:
        values = (rng.standard_normal(info.shape) * 0.02).astype(np.float32)
        values = values.clip(-0.49, 0.49)  # what the window of A holds
        low, high = layout.window(info.name)
        tensors[info.name] = quantise(values, low=low, high=high)
    return pack(layout, tensors)
