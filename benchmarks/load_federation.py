"""The coordinator that load.py works on, as a real process, and the bare server beside it.

The folder is founded with the coordinator's own functions, but for the base model: 4 MiB times
1,024 slots would be a base of 4 GiB, which no upload looks at. One release with one file of random
bytes is written into the store, as a release command would.
"""

import datetime as dt
import hashlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from orthofed.coordinator import founding, ledger, meta_rows, publications
from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.folder import DataFolder, Settings
from orthofed.coordinator.fs import Fs
from orthofed.coordinator.keyfile import load_key
from orthofed.coordinator.mark import here
from orthofed.coordinator.policy import MOST, Policy
from orthofed.coordinator.store import Store
from orthofed.coordinator.tls import authority_der, server_tls
from orthofed.core.document import sign
from orthofed.core.fields import NO_ID
from orthofed.core.layer import Layer
from orthofed.core.leaf import release_leaf
from orthofed.core.release import FileEntry, ReleaseManifest
from orthofed.core.spec import BaseModel, Encoder, FederationSpec, Limits, plan_spec
from orthofed.proto import methods, wire

FILE = "lora.safetensors"
COMMAND = [sys.executable, "-P", "-c", "from orthofed.coordinator.cli import app; app()"]
_WIDTH = 1_024
_OUT = 16_384
_CHUNK = 16 << 20


class Federation:
    """One founded folder and the process that serves it."""

    def __init__(self, folder: DataFolder) -> None:
        self.folder = folder
        self.address = ""
        self._process: subprocess.Popen[str] | None = None

    @classmethod
    def found(cls, scratch: Path, *, layers: int, file_mib: int) -> Self:
        """Found a federation whose contribution is 32 KiB a layer, with one release."""
        root = scratch / "federation"
        root.mkdir(mode=0o700)
        folder, fs, clock = DataFolder(root), Fs(), SystemClock()
        folder.make(fs)
        spec = _spec(layers)
        founding._write(
            folder, spec, {layer.path: 1e9 for layer in spec.layers}, clock=clock, fs=fs
        )
        alike = Policy(copy_percent=MOST)  # the clients send random numbers, many the same
        settings = Settings(base=root, listen="127.0.0.1:0", reserve_mib=0, admission=alike)
        folder.settings_file.write_text(settings.to_toml())
        _release(folder, spec, file_mib << 20, fs)
        return cls(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()

    @property
    def pid(self) -> int:
        """The coordinator's process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Serve; return the seconds from the command to the first answer."""
        began = time.perf_counter()
        words = ["serve", str(self.folder.root), "--json"]
        with (self.folder.root.parent / "serve.log").open("a") as log:
            self._process = subprocess.Popen(
                [*COMMAND, *words], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdout is not None
        self.address = json.loads(self._process.stdout.readline())["address"]
        with grpc.secure_channel(self.address, self.trust()) as channel:
            body = wire.SpecRequest().to_bytes()
            channel.unary_unary(methods.GET_SPEC.path)(body, timeout=30)
        return time.perf_counter() - began

    def invite(self, *, uses: int) -> str:
        """Return an invite's text."""
        words = ["invite", str(self.folder.root), "--uses", str(uses)]
        done = subprocess.run([*COMMAND, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def trust(self) -> grpc.ChannelCredentials:
        """Return what a client pins."""
        certificate = x509.load_der_x509_certificate(authority_der(self.folder.keys))
        return grpc.ssl_channel_credentials(certificate.public_bytes(Encoding.PEM))


def _spec(num_layers: int) -> FederationSpec:
    layers = [
        Layer(path=f"unet.mid_block.attentions.{i}.attn1.to_q", out=_OUT, width=_WIDTH)
        for i in range(num_layers)
    ]
    return plan_spec(
        name="load-fed",
        base=BaseModel("other", "load", "local", "0" * 64, "CC0-1.0"),
        layers=layers,
        encoders=[Encoder("text_encoder", 768)],
        seed=bytes(32),
        rank=1,
        limits=Limits(operator_slots_percent=0, leases_a_day=1000),
    )


def _release(folder: DataFolder, spec: FederationSpec, num_bytes: int, fs: Fs) -> None:
    """Write release 1: one file, no contribution."""
    place = folder.releases / "1"
    place.mkdir()
    data = secrets.token_bytes(num_bytes)
    (place / FILE).write_bytes(data)
    chunks = [hashlib.sha256(data[i : i + _CHUNK]).hexdigest() for i in range(0, num_bytes, _CHUNK)]
    entry = FileEntry(FILE, num_bytes, hashlib.sha256(data).hexdigest(), tuple(chunks))
    store = Store(folder.database, fs=fs)
    log = store.run(lambda db: meta_rows.value(db, "log")).decode()
    size = store.run(ledger.head).size
    plan = publications.Plan(1, 1_790_000_000, size, NO_ID, spec.id, log, (), ())
    manifest = ReleaseManifest(
        contributions=(),
        fed=spec.id,
        files=(entry,),
        left_out=(),
        log=log,
        n=1,
        prev=NO_ID,
        size=size,
        t=plan.t,
    )
    signed = sign("release", manifest.body(), [load_key(folder.keys, "release")])

    def publish(db: publications.sqlite3.Connection) -> None:
        publications.add_plan(db, plan)
        book = ledger.Ledger(load_key(folder.keys, "ledger"), log)
        leaf = book.append(db, release_leaf(manifest=signed.id, n=1))
        publications.publish(
            db, 1, document=signed.to_bytes(), leaf=leaf.index, receipt=leaf.receipt
        )

    store.run(publish)
    fs.write_whole(folder.mark_file(), store.run(here).to_bytes())
    store.close()


@dataclass
class Bare:
    """A bare server: where it listens, and, once it has ended, its processor seconds."""

    address: str
    cpu_s: float = 0.0


@contextmanager
def bare_server(federation: Federation, *, echo: bool) -> Iterator[Bare]:
    """Serve, in a process of its own, what takes the same messages and does nothing with them.

    As the grpcio guides have it: sync, a pool of threads, no limits of ours. ``echo``: it sends
    back what it got; else eight bytes of it, about as long as our own reply.
    """
    words = [str(federation.folder.keys), "echo" if echo else "sink"]
    command = [sys.executable, "-P", __file__, *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        bare = Bare(process.stdout.readline().strip())
        try:
            yield bare
        finally:
            bare.cpu_s = spent_s(process.pid)
            process.communicate("\n")


def _serve_bare(keys: Path, kind: str) -> None:
    num_bytes = None if kind == "echo" else 8
    tls = server_tls(keys, ("localhost", "127.0.0.1"), fs=Fs(), now=dt.datetime.now(dt.UTC))
    server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
    take = grpc.unary_unary_rpc_method_handler(lambda body, _: body[:num_bytes])
    name = methods.PUT.path.split("/")[1]
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Put": take}),))
    credentials = grpc.ssl_server_credentials([(tls.key, tls.chain)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    sys.stdin.readline()
    server.stop(None).wait()


def peak_mb(pid: int) -> float:
    """Return the most memory that a process ever had, in MB (1e6 bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    raise AssertionError("the kernel tells the peak")


def spent_s(pid: int) -> float:
    """Return the processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    _serve_bare(Path(sys.argv[1]), sys.argv[2])
