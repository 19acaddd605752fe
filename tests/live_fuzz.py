"""Malformed messages against a real coordinator process, on real sockets, by the thousand (R8).

``LiveFuzz`` walks the services' descriptors, so a new call is fuzzed the day it appears. It records
what honest data owners send, damages that (mutation.py), signs most of it correctly, so that it
gets past the gate, and the rest wrongly, and counts every answer by call, status and code. A key's
own limit (ten calls at once, one a second) is kept, since an answer "too often" tells nothing.
Everything is drawn from one seed but keys and nonces.
"""

import random
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from orthofed.core.document import sign
from orthofed.core.errors import OrthoFedError
from orthofed.core.invite import Invite
from orthofed.core.keys import SigningKey
from orthofed.core.request import sign_request
from orthofed.proto import methods, wire

from .member import Leased, Member, Packed, Wire
from .mutation import bytes_damaged, document_damaged, example, fields_damaged
from .node_lines import node_line

SERVICES = (*methods.SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
SIGNER = {method.path: method.signer for method in methods.METHODS}
UNMETERED = (methods.PUT.path, methods.COMMIT.path)
IN_FLIGHT = 4
CHANNELS = 4
BAD = ("UNKNOWN", "INTERNAL")
FAULT = "coordinator-fault"

Answer = tuple[str, str]
"""Status and the code of the trailer `orthofed-code`, empty where gRPC itself answered."""


@dataclass
class Tally:
    """Every answer, by call; and by how the message was damaged."""

    answers: dict[str, Counter[Answer]] = field(default_factory=dict)
    ways: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, path: str, way: str, answer: Answer, body: bytes) -> None:
        self.answers.setdefault(path, Counter())[answer] += 1
        self.ways[way] += 1
        if answer[0] in BAD or answer[1] == FAULT:
            self.faults.append(f"{path} {way} {answer} {body[:200].hex()}")

    @property
    def num(self) -> int:
        return sum(self.ways.values())

    def share(self, code: str) -> float:
        """Return the share of the signed calls that ended with this code."""
        signed = [self.answers[path] for path in self.answers if SIGNER.get(path) != "nobody"]
        of_code = sum(n for counter in signed for (_, found), n in counter.items() if found == code)
        return of_code / max(1, sum(counter.total() for counter in signed))

    def table(self) -> str:
        """Return the figures: one line a call, its answers by status."""
        lines: list[str] = []
        for path, counter in sorted(self.answers.items()):
            by_status: Counter[str] = Counter()
            for (status, _), num in counter.items():
                by_status[status] += num
            told = ", ".join(f"{status} {num}" for status, num in by_status.most_common())
            lines.append(f"  {path}: {counter.total()}: {told}")
        return "\n".join(lines)


class Keys:
    """The keys of one role; each is given out as often as the coordinator allows, or not at all."""

    def __init__(self) -> None:
        self._keys: list[SigningKey] = []
        self._level: dict[str, tuple[float, float]] = {}

    def add(self, key: SigningKey, *, used: int) -> None:
        self._keys.append(key)
        self._level[key.public_hex] = (9.0 - used, time.monotonic())

    def take(self, rng: random.Random, wanted: SigningKey | None = None) -> SigningKey | None:
        """Return ``wanted`` or another key that may call now."""
        for key in (
            *([wanted] if wanted else []),
            *rng.sample(self._keys, min(8, len(self._keys))),
        ):
            now_s = time.monotonic()
            level, then_s = self._level.get(key.public_hex, (0.0, now_s))
            level = min(9.0, level + 0.9 * (now_s - then_s))
            if level >= 1:
                self._level[key.public_hex] = (level - 1, now_s)
                return key
            self._level[key.public_hex] = (level, now_s)
        return None


class Recorder(Wire):
    """A wire that remembers every message it sent."""

    def __init__(self, invite: Invite) -> None:
        super().__init__(invite)
        self.sent: list[tuple[str, bytes, SigningKey | None]] = []

    def call(self, method: Any, request: Any, reply: Any, key: SigningKey | None = None) -> Any:
        self.sent.append((method.path, request.to_bytes(), key))
        return super().call(method, request, reply, key)


class LiveFuzz:
    """A crowd of damaged data owners against the coordinator behind ``invite_text``."""

    def __init__(self, invite_text: str, *, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311  # a replayable draw
        self.tally = Tally()
        self.invite = Invite.from_text(invite_text)
        self._known: dict[str, SigningKey] = {}
        self._fresh: dict[str, SigningKey] = {}
        self._members, self._clients = Keys(), Keys()
        self._honest: dict[str, list[tuple[bytes, SigningKey | None]]] = {}
        self._owners: list[Member] = []
        self._wires = [Wire(self.invite) for _ in range(CHANNELS)]
        self._replayed: dict[str, tuple[bytes, Any]] = {}
        self._known[self.invite.key.public_hex] = self.invite.key

    def prepare(self, *, owners: int, leases: int) -> None:
        """Let honest owners join, lease, upload, and stop at different places; record it all."""
        for number in range(owners):
            recorder = Recorder(self.invite)
            owner = Member(recorder)
            owner.join()
            self._keep(owner.key)
            self._members.add(owner.key, used=2)
            owner = owner.rotate()
            self._owners.append(owner)
            self._keep(owner.key)
            for turn in range(leases):
                name = f"wren-{number}-{turn}"
                leased = owner.lease(name, (f"{name}-k",))
                self._keep(leased.key)
                self._go_on(owner, leased, number)
                self._clients.add(leased.key, used=6)
                if number % 4 == 3:
                    owner.orders()
                    owner.register_node(node_line(number))
                    self._score(owner, name)
                    break  # the receipt is there: nothing is left to give back
                if turn < leases - 1:
                    self._return(owner, leased)
            self._members.add(owner.key, used=max(leases + 1, 5))
            for path, body, key in recorder.sent:
                self._honest.setdefault(path, []).append((body, key))
            recorder.close()

    def _go_on(self, owner: Member, leased: Leased, number: int) -> None:
        """Stop after the lease, after Begin, after a chunk, or after the receipt."""
        owner.link.call(
            methods.RENEW,
            wire.RenewRequest(leased.slot, leased.fence, 1),
            wire.RenewReply,
            leased.key,
        )
        packed: Packed | None = owner.pack(leased) if number % 4 else None
        if packed is not None:
            owner.begin(packed)
            if number % 4 == 2:
                owner.put(packed, 0)
            if number % 4 == 3:
                leaf = owner.check(owner.contribute(packed)).index
                if number % 8 == 7:
                    owner.withdraw(leased, leaf)
        owner.status(leased)
        for method, request, reply in (
            (methods.LIST_RELEASES, wire.ListRequest(), wire.ListReply),
            (methods.GET_MANIFEST, wire.ManifestRequest(1), wire.ManifestReply),
            (methods.READ_PUBLIC, wire.PublicRequest("tile/0/000.p/3", 0, 100), wire.ReadReply),
            (methods.READ, wire.ReadRequest(1, "info.json", 0, 100), wire.ReadReply),
            (methods.GET_CONTRIBUTION, wire.ContributionRequest(3), wire.ContributionReply),
            (methods.READ_CONTRIBUTION, wire.ReadContributionRequest(3, 0, 100), wire.ReadReply),
        ):
            try:
                owner.link.call(method, request, reply)
            except OrthoFedError:
                continue  # nothing is released yet; the message is well formed all the same

    def _score(self, owner: Member, name: str) -> None:
        try:
            owner.score(name, 1, 90_000, 50_000, 60_000)
        except OrthoFedError:
            return  # nothing is released yet; the message is well formed all the same

    def _return(self, owner: Member, leased: Leased) -> None:
        request = wire.GiveBackRequest(leased.slot, leased.fence)
        owner.link.call(methods.GIVE_BACK, request, wire.GiveBackReply, leased.key)

    def _keep(self, key: SigningKey) -> None:
        self._known[key.public_hex] = key

    def run(self, num: int) -> None:
        """Send ``num`` messages, a few at a time, and count the answers."""
        waiting: deque[tuple[str, str, bytes, Any]] = deque()
        for number in range(num):
            if len(waiting) >= IN_FLIGHT * CHANNELS:
                self._settle(*waiting.popleft())
            wire_ = self._wires[number % CHANNELS]
            path, way, body, metadata = self._next()
            if path in STREAMS:
                call = wire_.channel.stream_stream(path)(iter([body]), timeout=60)
            else:
                stub = wire_.channel.unary_unary(path)
                call = stub.future(body, metadata=metadata, timeout=60)
            waiting.append((path, way, body, call))
        while waiting:
            self._settle(*waiting.popleft())

    def close(self) -> None:
        for each in (*self._wires, *(owner.link for owner in self._owners)):
            each.close()

    def _settle(self, path: str, way: str, body: bytes, call: Any) -> None:
        try:
            if path in STREAMS:  # their future ends only when somebody takes the replies
                list(call)
            else:
                call.result()
        except grpc.RpcError:
            pass
        trailers = dict(call.trailing_metadata() or ())
        code = str(trailers.get(methods.CODE_KEY, ""))
        self.tally.add(path, way, (call.code().name, code), body)

    def _next(self) -> tuple[str, str, bytes, Any]:
        """Draw a call, a message for it, a way to damage it and a way to sign it."""
        rng = self.rng
        while True:
            method = rng.choice(CALLS)
            path = f"/{method.containing_service.full_name}/{method.name}"
            body, signer = self._well_formed(path, method)
            way, body = self._damaged(method, body)
            if SIGNER.get(path, "nobody") == "nobody":
                return path, way, body, ()
            if rng.random() < 0.75:
                key = self._may_call(path, signer)
                if key is not None:
                    metadata = _metadata(*sign_request(key, **self._claim(path, body)))
                    self._replayed[path] = (body, metadata)
                    return path, way, body, metadata
                continue  # every key has called often enough; another call is drawn
            badly, body, metadata = self._badly_signed(path, body, signer)
            return path, f"{way}, {badly}", body, metadata

    def _may_call(self, path: str, signer: SigningKey) -> SigningKey | None:
        if path in UNMETERED or signer.public_hex not in self._known:
            return signer  # of a fresh key, nobody has asked anything yet
        pool = self._members if SIGNER[path] == "member" else self._clients
        return pool.take(self.rng, signer)

    def _well_formed(self, path: str, method: MethodDescriptor) -> tuple[bytes, SigningKey]:
        """Return an honest message and who signs it; recorded, or of fresh names and keys."""
        rng = self.rng
        if path == methods.JOIN.path:
            return self._join()
        if path == methods.LEASE.path and rng.random() < 0.7:
            return self._lease()
        recorded = self._honest.get(path)
        if not recorded or rng.random() < 0.02:
            return example(method.input_type), rng.choice(self._owners).key
        body, key = rng.choice(recorded)
        return body, key or rng.choice(self._owners).key

    def _join(self) -> tuple[bytes, SigningKey]:
        key = SigningKey.from_seed(secrets.token_bytes(32))
        invite = self.invite
        body = {
            "invite": invite.key.public_hex,
            "log": invite.log,
            "member": key.public_hex,
            "v": 1,
        }
        return wire.JoinRequest(sign("join", body, [invite.key]).to_bytes()).to_bytes(), key

    def _lease(self) -> tuple[bytes, SigningKey]:
        owner = self.rng.choice(self._owners)
        key = SigningKey.from_seed(secrets.token_bytes(32))
        self._fresh = {key.public_hex: key}
        name = f"{self.rng.choice(('ann', 'bob', 'cleo'))}-{self.rng.randrange(10_000)}"
        said = owner.lease_request(key, name, (f"{name}-k",), secrets.token_hex(16))
        document = sign("lease", said, [key]).to_bytes()
        return wire.LeaseRequest(document, (1,)).to_bytes(), owner.key

    def _damaged(self, method: MethodDescriptor, body: bytes) -> tuple[str, bytes]:
        rng, of = self.rng, method.input_type
        match rng.randrange(10):
            case 0:
                return "as it should be", body
            case 1 | 2:
                return "bytes", bytes_damaged(rng, body)
            case 3 | 4 | 5:
                return "document", document_damaged(rng, body, self._sign)
            case 6:
                return "twice", fields_damaged(rng, of, example(of)) + body
            case _:
                return "field", fields_damaged(rng, of, body)

    def _sign(self, kind: str, body: dict[str, object], keys: list[str]) -> bytes:
        known = self._known | self._fresh
        return sign(kind, body, [known[key] for key in keys]).to_bytes()

    def _badly_signed(
        self, path: str, body: bytes, signer: SigningKey
    ) -> tuple[str, bytes, list[tuple[str, bytes]]]:
        """Sign by the wrong key, for another call, at another time, again, or not at all."""
        rng = self.rng
        way = rng.choice(tuple(_WRONG))
        if way == "replayed" and path in self._replayed:
            return way, *self._replayed[path]
        key, changed = _WRONG[way](rng, signer)
        header, signature = sign_request(key, **{**self._claim(path, body), **changed})
        match way:
            case "damaged header":
                header = bytes_damaged(rng, header)
            case "damaged signature":
                signature = bytes_damaged(rng, signature)
            case "no header":
                return way, body, [(methods.SIGNATURE_KEY, signature)]
            case "no signature":
                return way, body, [(methods.AUTH_KEY, header)]
            case "nested header":
                header = b'["\\"",' + b"[" * rng.choice((10, 1_000)) + b'"'
            case "large":
                header = bytes(rng.choice((1_100, 5_000)))
            case _:
                pass
        return way, body, _metadata(header, signature)

    def _claim(self, path: str, body: bytes) -> dict[str, Any]:
        """Return what an honest caller signs."""
        return {
            "log": self.invite.log,
            "method": path,
            "body": body,
            "nonce": secrets.token_bytes(16),
            "now_s": int(time.time()),
        }


def _metadata(header: bytes, signature: bytes) -> list[tuple[str, bytes]]:
    return [(methods.AUTH_KEY, header), (methods.SIGNATURE_KEY, signature)]


Wrong = Callable[[random.Random, SigningKey], tuple[SigningKey, Mapping[str, Any]]]
_STRANGER = SigningKey.from_seed(bytes(32))
_WRONG: dict[str, Wrong] = {
    "by a stranger": lambda _rng, _key: (_STRANGER, {}),
    "for another call": lambda _rng, key: (key, {"method": methods.GET_SPEC.path}),
    "for another ledger": lambda _rng, key: (key, {"log": "0" * 64}),
    "for another message": lambda _rng, key: (key, {"body": b"x"}),
    "expired": lambda rng, key: (key, {"now_s": int(time.time()) - rng.choice((61, 10**9))}),
    "from the future": lambda rng, key: (
        key,
        {"now_s": int(time.time()) + rng.choice((61, 10**9))},
    ),
    "nonce cut": lambda rng, key: (key, {"nonce": bytes(rng.randrange(16))}),
    **dict.fromkeys(
        (
            *("replayed", "damaged header", "damaged signature", "no header", "no signature"),
            *("nested header", "large"),
        ),
        lambda _rng, key: (key, {}),
    ),
}


def _calls() -> Iterator[MethodDescriptor]:
    pool = descriptor_pool.Default()
    for service in SERVICES:
        yield from pool.FindServiceByName(service).methods


CALLS = tuple(_calls())
"""Every call that the coordinator's port answers, from the descriptors that generate its code."""
PATHS = {f"/{call.containing_service.full_name}/{call.name}" for call in CALLS}
STREAMS = {f"/{c.containing_service.full_name}/{c.name}" for c in CALLS if c.client_streaming}
