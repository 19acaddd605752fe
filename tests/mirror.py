"""A signed release and a server of it that can be told to misbehave: the attacker of T16 and T10.

``SignedRelease.of(files)`` makes keys, keyring, ledger and manifest with core alone; ``Mirror``
serves it over TLS on 127.0.0.1 with handlers of its own, so that it can lie where the coordinator
cannot. ``twist(request, honest_reply)`` returns the reply that is sent instead.
"""

import datetime as dt
import hashlib
import ipaddress
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Self

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from orthofed.core import merkle
from orthofed.core.address import FederationAddress
from orthofed.core.checkpoint import Checkpoint, sign_checkpoint
from orthofed.core.document import Document, parse, sign
from orthofed.core.head import LedgerHead
from orthofed.core.keyring import Keyring, log_id
from orthofed.core.keys import SigningKey
from orthofed.core.leaf import document_leaf, release_leaf, spec_leaf
from orthofed.core.receipt import make_receipt
from orthofed.core.release import CHUNK_BYTES, FileEntry, ReleaseManifest
from orthofed.core.spec import BaseModel, Encoder, FederationSpec, Layer, plan_spec
from orthofed.core.tensorfile import header_bytes
from orthofed.proto import methods, wire

from .plain_ledger import PlainLedger

NOW_S = int(time.time())
ROOT, LEDGER, RELEASE = (SigningKey.from_seed(bytes([n]) * 32) for n in (3, 2, 4))
Twist = Callable[[wire.ReadRequest, wire.ReadReply], wire.ReadReply]
PublicTwist = Callable[[wire.PublicRequest, wire.ReadReply], wire.ReadReply]


def tiny_spec() -> FederationSpec:
    """Return a spec of two layers, 8 slots."""
    return plan_spec(
        name="tiny",
        base=BaseModel("other", "tiny", "1", "ab" * 32, "CC0-1.0"),
        layers=(Layer("unet.a", 8, 16), Layer("unet.b", 4, 32)),
        encoders=(Encoder("text_encoder", 16),),
        seed=bytes(32),
        rank=2,
    )


def tensor_file(fill: int, num_bytes: int = 64) -> bytes:
    """Return a small safetensors file that our writer could have written."""
    return header_bytes([("x", "F16", (num_bytes // 2,))], {}) + bytes([fill]) * num_bytes


def files() -> dict[str, bytes]:
    """Return the files of a small release."""
    return {
        "card.md": b"# tiny\n",
        "checkpoint/unet/model.safetensors": tensor_file(1),
        "info.json": b'{"v":1}',
        "lora/tiny-r0001.safetensors": tensor_file(2, 4096),
    }


@dataclass(frozen=True)
class SignedRelease:
    """A release with its proof; ``reply`` is what GetManifest answers."""

    log: str
    files: Mapping[str, bytes]
    reply: wire.ManifestReply
    public: Mapping[str, bytes]

    @property
    def manifest_id(self) -> str:
        """The id of its manifest."""
        return parse(self.reply.document, kind="release").id

    @classmethod
    def of(
        cls,
        content: Mapping[str, bytes],
        *,
        n: int = 1,
        more: Sequence[FileEntry] = (),
        head: str = "",
    ) -> Self:
        """Sign a release of ``content``, and of ``more`` that is elsewhere.

        ``head``: the manifest that the head names, "" for the release's own.
        """
        spec, keyring = tiny_spec(), tiny_keyring()
        log = log_id(spec.id, keyring.id)
        ours = [entry_of(name, data) for name, data in content.items()]
        entries = tuple(sorted([*ours, *more], key=lambda entry: entry.name))
        manifest = ReleaseManifest(
            contributions=(),
            fed=spec.id,
            files=entries,
            left_out=(),
            log=log,
            n=n,
            prev="0" * 64 if n == 1 else "1" * 64,
            size=2,
            t=NOW_S - 60,
        )
        signed = sign("release", manifest.body(), [RELEASE])
        bodies = [
            spec_leaf(spec.id),
            document_leaf(keyring),
            release_leaf(manifest=signed.id, n=n),
        ]
        reply = wire.ManifestReply(
            document=signed.to_bytes(),
            receipt=receipt_of(bodies, log),
            spec=spec.to_bytes(),
            keyrings=(keyring.to_bytes(),),
        )
        public = public_files(bodies, log, reply, release=n, manifest=head or signed.id)
        return cls(log, dict(content), reply, public)


def tiny_keyring() -> Document:
    """Return keyring 1 of the tiny federation, in force since an hour and for a year."""
    ring = Keyring(
        fed=tiny_spec().id,
        fresh=604_800,
        ledger=LEDGER.public_hex,
        n=1,
        need=1,
        prev="0" * 64,
        release=(RELEASE.public_hex,),
        root=(ROOT.public_hex,),
        t=NOW_S - 3_600,
        until=NOW_S + 365 * 86_400,
    )
    return sign("keyring", ring.to_body(), [ROOT])


def public_files(  # what a ledger is made of
    bodies: list[bytes],
    log: str,
    reply: wire.ManifestReply,
    *,
    release: int = 0,
    manifest: str = "0" * 64,
    key: SigningKey = LEDGER,
    t: int | None = None,
) -> dict[str, bytes]:
    """Return the static tree of a ledger with these leaves: tiles, checkpoint, head and documents.

    The tiles are those of plain_ledger.py, which shares no code with the product.
    """
    plain = PlainLedger(bodies)
    size, root = len(bodies), plain.root(len(bodies))
    head = LedgerHead(
        log=log,
        manifest=manifest,
        release=release,
        root=root.hex(),
        size=size,
        t=NOW_S if t is None else t,
    )
    return {
        "checkpoint": sign_checkpoint(key, Checkpoint(log, size, root)),
        "head.json": sign("head", head.body(), [key]).to_bytes(),
        "spec.json": reply.spec,
        **{f"keyring/{n}.json": data for n, data in enumerate(reply.keyrings, start=1)},
        **plain.tiles(size),
    }


def entry_of(name: str, data: bytes) -> FileEntry:
    """Return the manifest's entry of one file."""
    parts = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]
    chunks = tuple(hashlib.sha256(part).hexdigest() for part in parts)
    return FileEntry(name, len(data), hashlib.sha256(data).hexdigest(), chunks)


def entry_of_file(name: str, path: Path) -> FileEntry:
    """Return the entry of a file that may be larger than the memory."""
    whole, chunks = hashlib.sha256(), list[str]()
    with path.open("rb") as file:
        while part := file.read(CHUNK_BYTES):
            whole.update(part)
            chunks.append(hashlib.sha256(part).hexdigest())
    return FileEntry(name, path.stat().st_size, whole.hexdigest(), tuple(chunks))


def receipt_of(bodies: list[bytes], log: str, *, key: SigningKey = LEDGER) -> bytes:
    """Return the receipt of the last leaf of a ledger with these leaves."""
    leaves = [merkle.leaf_hash(body) for body in bodies]
    size = len(leaves)
    note = sign_checkpoint(key, Checkpoint(log, size, merkle.root(leaves)))
    proof = merkle.inclusion_proof(leaves, size - 1, size)
    return make_receipt(bodies[-1], size - 1, proof, note)


class Mirror:
    """Serves one release; ``reads`` is what was asked for, ``twist`` what goes wrong."""

    def __init__(self, release: SignedRelease) -> None:
        """Prepare to serve ``release``; enter the context to start."""
        self.release = release
        self.reads: list[tuple[str, int, int]] = []
        self.twist: Twist = lambda _, honest: honest
        self.public_twist: PublicTwist = lambda _, honest: honest
        self.down = False
        key, self.ca = _certificate()
        self._server = grpc.server(ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((self._handlers(),))
        credentials = grpc.ssl_server_credentials([(key, _pem(self.ca))])
        self._port = self._server.add_secure_port("127.0.0.1:0", credentials)

    @property
    def address(self) -> FederationAddress:
        """What a consumer was given."""
        return FederationAddress(f"127.0.0.1:{self._port}", self.release.log, self.ca)

    def __enter__(self) -> Self:
        """Start to answer."""
        self._server.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop, and wait until it has."""
        self._server.stop(None).wait()

    def _handlers(self) -> grpc.GenericRpcHandler:
        def manifest(_data: bytes, _context: grpc.ServicerContext) -> bytes:
            return self.release.reply.to_bytes()

        def listing(_data: bytes, _context: grpc.ServicerContext) -> bytes:
            return wire.ListReply((1,), 1).to_bytes()

        def read(data: bytes, context: grpc.ServicerContext) -> bytes:
            request = wire.ReadRequest.from_bytes(data)
            if self.down:
                context.abort(grpc.StatusCode.UNAVAILABLE, "down")
            self.reads.append((request.name, request.offset, request.length))
            whole = self.release.files[request.name]
            piece = whole[request.offset : request.offset + request.length]
            return self.twist(request, wire.ReadReply(piece, len(whole))).to_bytes()

        def public(data: bytes, context: grpc.ServicerContext) -> bytes:
            request = wire.PublicRequest.from_bytes(data)
            if self.down:
                context.abort(grpc.StatusCode.UNAVAILABLE, "down")
            whole = self.release.public.get(request.name)
            if whole is None:
                context.set_trailing_metadata(((methods.CODE_KEY, "not-found"),))
                context.abort(grpc.StatusCode.NOT_FOUND, "there is no such public file")
            piece = whole[request.offset : request.offset + request.length]
            return self.public_twist(request, wire.ReadReply(piece, len(whole))).to_bytes()

        calls = {
            methods.READ_PUBLIC.path: public,
            methods.GET_MANIFEST.path: manifest,
            methods.LIST_RELEASES.path: listing,
            methods.READ.path: read,
        }

        class Handlers(grpc.GenericRpcHandler):
            def service(
                self, handler_call_details: grpc.HandlerCallDetails
            ) -> grpc.RpcMethodHandler | None:
                call = calls.get(handler_call_details.method)
                return grpc.unary_unary_rpc_method_handler(call) if call else None

        return Handlers()


@cache
def _certificate() -> tuple[bytes, bytes]:
    """Return a private key (PEM) and a self-signed certificate (DER) for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mirror")])
    now = dt.datetime.now(dt.UTC)
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(addresses, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, certificate.public_bytes(Encoding.DER)


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def damaged(reply: wire.ReadReply) -> wire.ReadReply:
    """Return the reply with its first byte flipped."""
    return replace(reply, data=bytes([reply.data[0] ^ 1]) + reply.data[1:])
