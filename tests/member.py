"""A data owner's side in forty lines: joins, leases, packs random numbers, uploads.

It speaks the wire contract through grpc itself, not through client/, so that the coordinator's
tests need no torch and can send what no real client would.
"""

import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from orthofed.core.basis_fingerprint import basis_fingerprint
from orthofed.core.contribution import ContributionManifest, Replaced
from orthofed.core.document import parse, sign
from orthofed.core.invite import Invite
from orthofed.core.keyring import Keyring
from orthofed.core.keys import SigningKey
from orthofed.core.layout import ContributionLayout, pack
from orthofed.core.member_rotation import MemberRotation
from orthofed.core.quantise import quantise
from orthofed.core.receipt import Receipt, verify_receipt
from orthofed.core.request import sign_request
from orthofed.core.share import Share
from orthofed.core.spec import FederationSpec
from orthofed.core.withdrawal import Withdrawal
from orthofed.proto import failure, methods, wire
from orthofed.proto.methods import Method


@dataclass
class Leased:
    """One lease and all that was said to get it."""

    key: SigningKey
    concept: str
    triggers: tuple[str, ...]
    vectors: tuple[int, ...]
    slot: int
    fence: int
    replaces: "Given | None" = None
    joins: "Shared | None" = None

    @property
    def block(self) -> int:
        return self.slot if self.joins is None else self.joins.share.slot


@dataclass(frozen=True)
class Shared:
    """A share of somebody's concept, with the secret that came with it."""

    share: Share
    secret: SigningKey


@dataclass(frozen=True)
class Given:
    """A contribution that a corrective round goes on from: its leaf, and its client key."""

    leaf: int
    key: SigningKey


@dataclass
class Packed:
    """One signed contribution, ready to send."""

    lease: Leased
    document: bytes
    blob: bytes
    wraps: bytes = b""

    @property
    def chunks(self) -> list[bytes]:
        size = methods.CHUNK_BYTES
        return [self.blob[i : i + size] for i in range(0, len(self.blob), size)]

    @property
    def hashes(self) -> tuple[bytes, ...]:
        return tuple(hashlib.sha256(chunk).digest() for chunk in self.chunks)


class Wire:
    """One TLS connection; ``call`` signs, sends, and raises what the other side meant."""

    def __init__(self, invite: Invite, *, address: str = "") -> None:
        self.invite = invite
        pem = x509.load_der_x509_certificate(invite.ca).public_bytes(Encoding.PEM)
        credentials = grpc.ssl_channel_credentials(pem)
        options = [
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", methods.REPLY_BYTES),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self.channel = grpc.secure_channel(address or invite.addr, credentials, options=options)
        self.clock_offset_s = 0
        self.last_trailers: dict[str, Any] = {}

    def close(self) -> None:
        self.channel.close()

    def now_s(self) -> int:
        return int(time.time()) + self.clock_offset_s

    def signed(self, method: Method, body: bytes, key: SigningKey) -> list[tuple[str, bytes]]:
        header, signature = sign_request(
            key,
            log=self.invite.log,
            method=method.path,
            body=body,
            nonce=secrets.token_bytes(16),
            now_s=self.now_s(),
        )
        return [(methods.AUTH_KEY, header), (methods.SIGNATURE_KEY, signature)]

    def send(self, method: Method, body: bytes, metadata: Any = ()) -> bytes:
        stub = self.channel.unary_unary(method.path)
        try:
            return stub(body, metadata=metadata, timeout=60)
        except grpc.RpcError as error:
            call: Any = error
            trailers = dict(call.trailing_metadata() or ())
            self.last_trailers = {**trailers, "status": call.code().name}
            code = str(trailers.get(methods.CODE_KEY, ""))
            raise failure.error_from(call.code().name, call.details(), code) from None

    def call(self, method: Method, request: Any, reply: Any, key: SigningKey | None = None) -> Any:
        body = request.to_bytes()
        metadata = () if key is None else self.signed(method, body, key)
        return reply.from_bytes(self.send(method, body, metadata))


@dataclass
class Member:
    """One data owner with a member key and a fresh client key a lease."""

    link: Wire
    key: SigningKey = field(default_factory=lambda: SigningKey.from_seed(secrets.token_bytes(32)))

    @classmethod
    def joined(cls, invite_text: str) -> "Member":
        member = cls(Wire(Invite.from_text(invite_text)))
        member.join()
        return member

    @property
    def invite(self) -> Invite:
        return self.link.invite

    def join(self) -> None:
        body: dict[str, object] = {
            "invite": self.invite.key.public_hex,
            "log": self.invite.log,
            "member": self.key.public_hex,
            "v": 1,
        }
        proof = sign("join", body, [self.invite.key]).to_bytes()
        self.link.call(methods.JOIN, wire.JoinRequest(proof), wire.JoinReply, self.key)

    def rotate(self, new: SigningKey | None = None) -> "Member":
        """Let ``new``, or a fresh key, take this one's place; return who goes on."""
        new = new or SigningKey.from_seed(secrets.token_bytes(32))
        said = MemberRotation(self.invite.log, self.key.public_hex, new.public_hex)
        word = sign("rotation", said.body(), [self.key, new]).to_bytes()
        self.link.call(methods.ROTATE, wire.RotateRequest(word), wire.RotateReply, self.key)
        return Member(self.link, new)

    def spec(self) -> FederationSpec:
        reply = self.link.call(methods.GET_SPEC, wire.SpecRequest(), wire.SpecReply)
        return FederationSpec.from_bytes(reply.spec)

    def lease_request(
        self, key: SigningKey, concept: str, triggers: tuple[str, ...], request: str
    ) -> dict[str, object]:
        return {
            "client": key.public_hex,
            "concept": concept,
            "log": self.invite.log,
            "member": self.key.public_hex,
            "request": request,
            "triggers": list(triggers),
            "v": 1,
        }

    def lease(
        self,
        concept: str = "anna",
        triggers: tuple[str, ...] = ("anna-k7",),
        *,
        vectors: tuple[int, ...] = (),
        key: SigningKey | None = None,
        request: str = "",
        replaces: Given | None = None,
        joins: Shared | None = None,
    ) -> Leased:
        key = key or SigningKey.from_seed(secrets.token_bytes(32))
        vectors = vectors or (1,) * len(triggers)
        body = self.lease_request(key, concept, triggers, request or secrets.token_hex(16))
        body |= {} if replaces is None else {"replaces": replaces.leaf}
        signers = [key]
        if joins is not None and replaces is None:
            body |= {"share": joins.share.value}
            signers.append(joins.secret)
        document = sign("lease", body, signers).to_bytes()
        asked = wire.LeaseRequest(document, vectors)
        reply = self.link.call(methods.LEASE, asked, wire.LeaseReply, self.key)
        return Leased(key, concept, triggers, vectors, reply.slot, reply.fence, replaces, joins)

    def pack(
        self,
        lease: Leased,
        *,
        seed: int = 0,
        size: float = 0.02,
        blob: bytes | None = None,
        **changed: Any,
    ) -> Packed:
        """Pack ``blob``, or random numbers, for a lease; ``changed`` replaces manifest fields."""
        spec = self.spec()
        blob = blob or random_blob(spec, lease.vectors, seed=seed, size=size)
        said: dict[str, Any] = {
            "basis": basis_fingerprint(spec, lease.block),
            "blob": hashlib.sha256(blob).hexdigest(),
            "bytes": len(blob),
            "client": lease.key.public_hex,
            "concept": lease.concept,
            "fed": spec.id,
            "fence": lease.fence,
            "licence": "CC-BY-4.0",
            "log": self.invite.log,
            "slot": lease.slot,
            "t": 1_790_000_000,
            "title": f"Title of {lease.concept}",
            "triggers": lease.triggers,
        }
        signers = [lease.key]
        if (given := lease.replaces) is not None:
            said["replaces"] = Replaced(given.leaf, given.key.public_hex)
            signers.append(given.key)
        if lease.joins is not None:
            said["share"] = lease.joins.share
            signers += [lease.joins.secret] if given is None else []
        manifest = ContributionManifest(**{**said, **changed})
        document = sign("contribution", manifest.body(), signers).to_bytes()
        return Packed(lease, document, blob)

    def share(
        self,
        lease: Leased,
        leaf: int,
        *,
        images: int = 100,
        uses: int = 3,
        secret: SigningKey | None = None,
    ) -> Shared:
        """Let ``uses`` others into the concept of contribution ``leaf``."""
        secret = secret or SigningKey.from_seed(secrets.token_bytes(32))
        share = Share.signed(
            lease.key,
            most=images,
            key=secret.public_hex,
            leaf=leaf,
            log=self.invite.log,
            slot=lease.slot,
            t=1_790_000_000,
            uses=uses,
        )
        return Shared(share, secret)

    def begin(self, packed: Packed) -> wire.BeginReply:
        request = wire.BeginRequest(packed.document, packed.hashes, packed.wraps)
        return self.link.call(methods.BEGIN, request, wire.BeginReply, packed.lease.key)

    def put(self, packed: Packed, index: int, data: bytes | None = None) -> wire.PutReply:
        upload_id = bytes.fromhex(parse(packed.document, kind="contribution").id)[:16]
        request = wire.PutRequest(upload_id, index, data or packed.chunks[index])
        return self.link.call(methods.PUT, request, wire.PutReply, packed.lease.key)

    def commit(self, packed: Packed) -> wire.CommitReply:
        upload_id = bytes.fromhex(parse(packed.document, kind="contribution").id)[:16]
        request = wire.CommitRequest(upload_id)
        return self.link.call(methods.COMMIT, request, wire.CommitReply, packed.lease.key)

    def contribute(self, packed: Packed) -> bytes:
        self.begin(packed)
        for index in range(len(packed.chunks)):
            self.put(packed, index)
        return self.commit(packed).receipt

    def give_back(self, lease: Leased) -> None:
        request = wire.GiveBackRequest(lease.slot, lease.fence)
        self.link.call(methods.GIVE_BACK, request, wire.GiveBackReply, lease.key)

    def status(self, lease: Leased) -> wire.StatusReply:
        request = wire.StatusRequest(lease.slot, lease.fence)
        return self.link.call(methods.STATUS, request, wire.StatusReply, lease.key)

    def withdraw(self, lease: Leased, leaf: int) -> bytes:
        """Take contribution ``leaf`` out; return the withdrawal's receipt."""
        fed, log = self.spec().id, self.invite.log
        said = Withdrawal(lease.key.public_hex, fed, leaf, log, t=1_790_000_000)
        word = sign("withdrawal", said.body(), [lease.key]).to_bytes()
        request = wire.WithdrawRequest(word)
        return self.link.call(methods.WITHDRAW, request, wire.WithdrawReply, lease.key).receipt

    def orders(self) -> wire.OrdersReply:
        """Return what the operator asks of this member."""
        return self.link.call(methods.ORDERS, wire.OrdersRequest(), wire.OrdersReply, self.key)

    def register_node(self, line: str) -> None:
        """Make the Flower node of this public key this member's."""
        request = wire.FleetKeyRequest(line)
        self.link.call(methods.FLEET_KEY, request, wire.FleetKeyReply, self.key)

    def score(
        self, concept: str, n: int, *losses: int, pictures: int = 8, draws: int = 256
    ) -> None:
        """Bring what was measured of a concept in release ``n``: base, single, merged."""
        request = wire.ScoreRequest(concept, n, *losses, num_pictures=pictures, num_draws=draws)
        self.link.call(methods.SCORE, request, wire.ScoreReply, self.key)

    def ledger_key(self) -> str:
        reply = self.link.call(methods.GET_SPEC, wire.SpecRequest(), wire.SpecReply)
        return Keyring.from_body(parse(reply.keyrings[0], kind="keyring").body).ledger

    def check(self, receipt: bytes) -> Receipt:
        """Verify a receipt as its owner would, offline."""
        return verify_receipt(receipt, log=self.invite.log, ledger_key=self.ledger_key())


def random_blob(
    spec: FederationSpec,
    vectors: tuple[int, ...],
    *,
    seed: int,
    size: float,
    embed: float | None = None,
) -> bytes:
    """Return a legal blob whose A entries are about ``size``, those of its vectors ``embed``."""
    layout = ContributionLayout(spec, vectors)
    rng = np.random.default_rng(seed)
    tensors = {}
    for info in layout.content:
        is_embed = info.name.startswith("embed.")
        scale = embed if embed is not None and is_embed else size
        values = (rng.standard_normal(info.shape) * scale).astype(np.float32)
        if not is_embed:
            values = values.clip(-0.49, 0.49)  # what the window of A holds
        low, high = layout.window(info.name)
        tensors[info.name] = quantise(values, low=low, high=high)
    return pack(layout, tensors)


def read_release(member: Member, n: int, name: str, *, step: int = 65_536) -> bytes:
    """Read one file of a release, piece by piece."""
    data = b""
    while True:
        request = wire.ReadRequest(n, name, len(data), step)
        reply = member.link.call(methods.READ, request, wire.ReadReply)
        data += reply.data
        if len(data) == reply.total_bytes:
            return data
