"""The folder of the coordinator's fleet: disposable, never in a backup, of an account of its own.

    fleet/tls/         an authority and SuperLink's certificate, made here (tls.py)
    fleet/link.secret  what SuperExec shows SuperLink, so that no other process of this machine
                       takes its tasks; mode 0600
    fleet/link.db      SuperLink's state; every run and node id in it can be lost (L11)
    fleet/flwr/        Flower's private home: the connection, and whatever it writes
    fleet/app/         the bundle that is sent to SuperLink
    fleet/run.toml     where the bridge finds the coordinator
    fleet/bridge.beat  touched by the bridge at each turn
    fleet/*.log        what the processes said, rotated; bridge.log is the bridge's own

Law: making it again makes only what is missing, so a deleted file is a fresh one at the next start.
"""

import datetime as dt
import json
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from .fs import Fs
from .tls import make_authority, server_tls

_APP = Path(__file__).parents[1] / "assets" / "flower-app"
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class FleetFolder:
    """Names of the files; ``port`` is SuperLink's, on 127.0.0.1."""

    path: Path
    port: int

    @property
    def authority(self) -> Path:
        """What clients check SuperLink's certificate with: they need a copy."""
        return self.path / "tls" / "tls-ca.pem"

    @property
    def secret(self) -> Path:
        """What SuperExec shows SuperLink."""
        return self.path / "link.secret"

    @property
    def database(self) -> Path:
        """SuperLink's state."""
        return self.path / "link.db"

    @property
    def home(self) -> Path:
        """Flower's private home."""
        return self.path / "flwr"

    @property
    def app(self) -> Path:
        """The bundle's source."""
        return self.path / "app"

    @property
    def run_settings(self) -> Path:
        """What the bridge is told of this machine."""
        return self.path / "run.toml"

    @property
    def beat(self) -> Path:
        """Touched by the bridge at each turn."""
        return self.path / "bridge.beat"

    @property
    def bridge_log(self) -> Path:
        """What the bridge said: SuperExec throws its output away."""
        return self.path / "bridge.log"

    @property
    def address(self) -> str:
        """Where SuperLink listens: never on anything but loopback, its control port is open."""
        return f"127.0.0.1:{self.port}"

    def make(self, hostnames: tuple[str, ...], *, bridge: Path, now: dt.datetime) -> None:
        """Make what is missing. ``hostnames``: what the proxy is called, for its certificate."""
        fs, tls = Fs(), self.path / "tls"
        for folder in (self.path, tls, self.home):
            fs.make_folder(folder, mode=0o700)
        if not (tls / "tls-ca.pem").is_file():
            make_authority(tls, fs=fs, now=now)
        made = server_tls(tls, ("localhost", "127.0.0.1", *hostnames), fs=fs, now=now)
        fs.write_whole(tls / "link.key", made.key, mode=0o600)
        fs.write_whole(tls / "link.crt", made.chain)
        if not self.secret.is_file():
            fs.write_whole(self.secret, secrets.token_bytes(_SECRET_BYTES), mode=0o600)
        fs.write_whole(self.home / "config.toml", self._connection())
        told = {"bridge": str(bridge), "beat": str(self.beat), "log": str(self.bridge_log)}
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in told.items()]
        fs.write_whole(self.run_settings, "".join(lines).encode())
        shutil.rmtree(self.app, ignore_errors=True)
        shutil.copytree(_APP, self.app, ignore=shutil.ignore_patterns("__pycache__"))

    def _connection(self) -> bytes:
        """Return how Flower's own commands reach SuperLink; a JSON string is a TOML string."""
        lines = (
            "[superlink]",
            'default = "fleet"',
            "[superlink.fleet]",
            f'address = "{self.address}"',
            f"root-certificates = {json.dumps(str(self.authority))}",
        )
        return "\n".join((*lines, "")).encode()

    def link_argv(self) -> list[str]:
        """Return SuperLink's switches; each is explained in flower.md 5."""
        tls = self.path / "tls"
        return [
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--ssl-certfile", str(tls / "link.crt"), "--ssl-keyfile", str(tls / "link.key")),
            *("--ssl-ca-certfile", str(self.authority)),
            "--enable-supernode-auth",
            *("--database", str(self.database)),
            *("--isolation", "process", "--superexec-auth-secret-file", str(self.secret)),
            "--disable-runtime-dependency-installation",
        ]

    def executor_argv(self) -> list[str]:
        """Return SuperExec's switches."""
        return [
            *("--runtime-api-address", self.address, "--root-certificates", str(self.authority)),
            *("--superexec-auth-secret-file", str(self.secret)),
        ]
