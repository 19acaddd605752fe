"""The folder of the courier's account: a node key, a secret of this machine, Flower's own files.

    courier/node, node.pub  the node key, ECDSA on P-384 in OpenSSH's format: names this machine to
                            SuperLink and gives no right; made here, its public half goes to the
                            coordinator through `orthofed client fleet-key`
    courier/node.secret     what SuperExec shows SuperNode, so that no other process of this machine
                            takes its tasks; mode 0600
    courier/flwr/           Flower's private home
    courier/*.log           what the processes said, rotated

Law: making it again makes only what is missing. None of it is worth a backup: a new node key is
registered like the first one.
"""

import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .home import PUBLIC, write_whole

_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class CourierFolder:
    """Names of the files; ``port`` is SuperNode's, on 127.0.0.1."""

    path: Path
    port: int

    @property
    def key(self) -> Path:
        """The node's private key."""
        return self.path / "node"

    @property
    def public_key(self) -> Path:
        """The node's public key, one line."""
        return self.path / "node.pub"

    @property
    def secret(self) -> Path:
        """What SuperExec shows SuperNode."""
        return self.path / "node.secret"

    @property
    def home(self) -> Path:
        """Flower's private home."""
        return self.path / "flwr"

    def make(self) -> None:
        """Make what is missing."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o711)  # the owner reads node.pub by its name, and lists nothing
        if not self.key.is_file():
            made = ec.generate_private_key(ec.SECP384R1()).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.OpenSSH,
                serialization.NoEncryption(),
            )
            write_whole(self.key, made)
        private = serialization.load_ssh_private_key(self.key.read_bytes(), password=None)
        public = private.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        write_whole(self.public_key, public + b"\n", mode=PUBLIC)
        self.public_key.chmod(PUBLIC)
        if not self.secret.is_file():
            write_whole(self.secret, secrets.token_bytes(_SECRET_BYTES))

    def node_argv(self, superlink: str, *, roots: Path, orders: Path) -> list[str]:
        """Return SuperNode's switches; each is explained in flower.md 5."""
        return [
            *("--superlink", superlink, "--root-certificates", str(roots)),
            *("--auth-supernode-private-key", str(self.key)),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--isolation", "process", "--superexec-auth-secret-file", str(self.secret)),
            *("--node-config", f'orders="{orders}"'),
        ]

    def executor_argv(self) -> list[str]:
        """Return SuperExec's switches; in the clear, since it never leaves loopback."""
        return [
            *("--insecure", "--runtime-api-address", f"127.0.0.1:{self.port}"),
            *("--superexec-auth-secret-file", str(self.secret)),
        ]
