"""The folder that one coordinator owns: where everything lies, who may open it, how it is set up.

Layout: reliability.md 2.1, plus ``coordinator.toml`` (settings) and ``keys/`` (mode 0700). Law: one
process at a time; it takes an exclusive lock on ``data/lock`` first and holds it to the end. Local
disks only. The 256 blob folders are made here once, so that a commit never makes one.
"""

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from ..core.errors import InputError, Refused
from ..core.kinds import DERIVABLE, DERIVED
from ..core.toml import parse_toml
from .fs import Fs
from .policy import Policy

_RESERVE_MIB = 2_048
_MOST_HINT = 1_024
_HOST = re.compile(r"[!-~]{1,253}")
_KEYRING = re.compile(r"[1-9][0-9]?\.json")
_TEXTS = (
    "base", "base_hint", "address", "listen", "metrics", "high_water", "client_ca", "bridge",
    "web", "web_url", "backups",
)  # fmt: skip
_DAILY = {"uploads_a_day": 32, "upload_mib_a_day": 4_096}
_KNOWN = {*_TEXTS, *_DAILY, "hostnames", "reserve_mib", "admission", "derive"}


@dataclass(frozen=True, slots=True)
class Settings:
    """The operator's settings, which are in no spec and can be edited between starts.

    ``base``: the base model's folder. ``base_hint``: a sentence that tells people where to get it.
    ``address``: HOST:PORT for invites and links, empty for the one that serve listens on.
    ``listen``: HOST:PORT, port 0 takes any. ``metrics``: HOST:PORT of ``/metrics``, empty for none;
    it has no password. ``hostnames``: names and addresses in the certificate.
    ``reserve_mib``: MiB (2**20 bytes) that stay free on the disk, 0 or more. ``high_water``: the
    file of the high-water mark (mark.py), empty for the one in the coordinator's folder.
    ``client_ca``: a PEM file; only who shows a certificate of these authorities is listened to,
    empty: everybody. ``bridge``: where the fleet's bridge connects, a Unix socket in a folder that
    its account may enter; empty: data/bridge.sock, for this account alone. ``web``: HOST:PORT of
    the page, empty for none; ``web_url``: its public address, where a proxy stands in front.
    ``backups``: the folder that backups asked for on the page go to, empty: none can be asked for
    there. ``uploads_a_day``,
    ``upload_mib_a_day``: what one client key may announce and send, 1 or more.
    ``derive``: kinds of files that releases do not hold; info.json says their hashes, and consumers
    make them (core/derived_file.py). It is the house's choice and stands here, so that one release
    is like the next whoever types the command.
    ``admission``: what a contribution may do (policy.py).
    """

    base: Path
    base_hint: str = ""
    address: str = ""
    listen: str = "127.0.0.1:7070"
    metrics: str = ""
    hostnames: tuple[str, ...] = ("localhost", "127.0.0.1")
    reserve_mib: int = _RESERVE_MIB
    high_water: str = ""
    client_ca: str = ""
    bridge: str = ""
    web: str = ""
    web_url: str = ""
    backups: str = ""
    uploads_a_day: int = _DAILY["uploads_a_day"]
    upload_mib_a_day: int = _DAILY["upload_mib_a_day"]
    derive: tuple[str, ...] = DERIVED
    admission: Policy = field(default_factory=Policy)

    def to_toml(self) -> str:
        """Return the settings file."""
        lines = [
            "# Settings of this coordinator; read at each start.",
            f"base = {_toml(str(self.base))}",
            f"base_hint = {_toml(self.base_hint)}",
            "# HOST:PORT in invites and links; empty: where it listens.",
            f"address = {_toml(self.address)}",
            f"listen = {_toml(self.listen)}",
            "# HOST:PORT of /metrics, which has no password; empty: none.",
            f"metrics = {_toml(self.metrics)}",
            f"hostnames = {_toml(list(self.hostnames))}",
            "# MiB that stay free on the disk.",
            f"reserve_mib = {self.reserve_mib}",
            "# The high-water mark; on another volume it outlives this disk. Empty: here.",
            f"high_water = {_toml(self.high_water)}",
            "# PEM file of the authorities whose client certificates are asked for. Empty: none.",
            f"client_ca = {_toml(self.client_ca)}",
            "# The Unix socket of the fleet's bridge (docs/orders.md). Empty: data/bridge.sock.",
            f"bridge = {_toml(self.bridge)}",
            "# HOST:PORT of the page for readers and the operator (docs/web.md); empty: none.",
            f"web = {_toml(self.web)}",
            "# Its public address behind a proxy, such as https://fed.example.org.",
            f"web_url = {_toml(self.web_url)}",
            "# The folder for backups that the page takes; empty: it takes none.",
            f"backups = {_toml(self.backups)}",
            "# What one client key may announce and send in a day (UTC); it has one contribution.",
            f"uploads_a_day = {self.uploads_a_day}",
            f"upload_mib_a_day = {self.upload_mib_a_day}",
            f"# Of {', '.join(DERIVABLE)}: what releases",
            "# leave out, since consumers make it; its hashes are signed.",
            f"derive = {_toml(list(self.derive))}",
            self.admission.to_toml(),
        ]
        return "\n".join(lines)

    def mark_file(self, root: Path) -> Path:
        """Return where the high-water mark of the folder ``root`` lies, absolute if that is."""
        return Path(os.path.normpath(root / (self.high_water or "high-water")))

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """Return the settings of a file; an unknown key is an error."""
        return cls.from_bytes(path.read_bytes(), path)

    @classmethod
    def from_bytes(cls, data: bytes, path: Path) -> "Settings":
        """Return the settings of a file's bytes; ``path`` is for the errors."""
        try:
            table = parse_toml(data.decode())
        except ValueError as error:  # TOML's and UTF-8's
            raise _bad_settings(path, str(error)) from error
        unknown = sorted(set(table) - _KNOWN)
        if unknown:
            raise _bad_settings(path, f"unknown key {unknown[0]}")
        texts = [table.get(key, "") for key in _TEXTS]
        names, reserve = table.get("hostnames", []), table.get("reserve_mib", _RESERVE_MIB)
        if not isinstance(names, list):
            raise _bad_settings(path, "hostnames is a list")
        if not all(isinstance(text, str) for text in [*texts, *names]) or not texts[0]:
            raise _bad_settings(path, f"{', '.join(_TEXTS)} and hostnames are strings")
        if type(reserve) is not int or reserve < 0:
            raise _bad_settings(path, "reserve_mib is a number of MiB, 0 or more")
        numbers = {key: table.get(key, default) for key, default in _DAILY.items()}
        for key, number in numbers.items():
            if type(number) is not int or number < 1:
                raise _bad_settings(path, f"{key} is a number, 1 or more")
        _check_hint(path, texts[1])
        _check_hosts(path, names)
        base, hint, address, listen, metrics, high_water, client_ca, bridge, *of_page = texts
        web, web_url, backups = of_page
        limits = table.get("admission", {})
        if not isinstance(limits, dict):
            raise _bad_settings(path, "admission is a table of thresholds")
        try:
            admission = Policy.read(limits)
        except ValueError as error:
            raise _bad_settings(path, str(error)) from error
        return cls(
            base=Path(base),
            base_hint=hint,
            address=address,
            listen=listen or cls.listen,
            metrics=metrics,
            hostnames=tuple(names) or cls.hostnames,
            reserve_mib=reserve,
            high_water=high_water,
            client_ca=client_ca,
            bridge=bridge,
            web=web,
            web_url=web_url,
            backups=backups,
            derive=_derive(path, table.get("derive", list(DERIVED))),
            admission=admission,
            **numbers,
        )


def _check_hint(path: Path, hint: str) -> None:
    """Refuse what no client takes over the wire, or what would turn the writing of its reader."""
    if len(hint) > _MOST_HINT or not hint.replace("\n", "").isprintable():
        raise _bad_settings(path, f"base_hint is at most {_MOST_HINT} printable characters")


def _check_hosts(path: Path, names: list[str]) -> None:
    """Refuse what no certificate can hold: it would be found out at the first start."""
    for name in names:
        if not _HOST.fullmatch(name):
            raise _bad_settings(
                path,
                f"hostnames has {name!r}, which is no host name in ASCII letters; a name in"
                " others is written as DNS has it, such as xn--bcher-kva.example",
            )


def _toml(value: str | list[str]) -> str:
    """Return the value as TOML has it: as JSON, without surrogates and with DEL escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _derive(path: Path, value: object) -> tuple[str, ...]:
    kinds = cast("list[object]", value) if isinstance(value, list) else [""]
    if not all(kind in DERIVABLE for kind in kinds):
        raise _bad_settings(path, f"derive is a list of {', '.join(DERIVABLE)}")
    return tuple(kind for kind in DERIVABLE if kind in kinds)


def _bad_settings(path: Path, what: str) -> InputError:
    return InputError(
        f"{path.name}: {what}",
        why="a setting that is not understood would be ignored in silence",
        fix=f"correct {path}",
        code="bad-settings",
    )


class DataFolder:
    """The paths inside one coordinator's folder."""

    def __init__(self, root: Path) -> None:
        """Name the paths; nothing is opened or made."""
        self.root = root
        self.settings_file = root / "coordinator.toml"
        self.keys = root / "keys"
        self.data = root / "data"
        self.lock_file = self.data / "lock"
        self.database = self.data / "state.db"
        self.database_sum = self.data / "state.sum"
        self.part = self.data / "part"
        self.blobs = self.data / "blobs"
        self.control = self.data / "control.sock"
        self.address_file = self.data / "address"
        self.last_backup = self.data / "last-backup"
        self.audit_log = self.data / "audit.log"
        self.public = root / "public"
        self.releases = self.public / "releases"
        self.removal_lock = self.data / "removal.lock"
        self.release_lock = self.data / "release.lock"
        self.snapshots = self.data / "snapshot"
        self.evidence = self.data / "evidence"

    @classmethod
    def open(cls, root: Path) -> "DataFolder":
        """Return the folder that ``init`` made, or raise InputError."""
        folder = cls(root.resolve())
        if not folder.settings_file.is_file():
            raise InputError(
                f"{root} is no coordinator's folder",
                why="it has no coordinator.toml",
                fix=f"run orthofed coordinator init {root} --base PATH --name NAME",
                code="not-a-coordinator",
            )
        return folder

    def make(self, fs: Fs) -> None:
        """Make the folders, durably; ``root`` exists already."""
        for path in (self.keys, self.data):
            fs.make_folder(path, mode=0o700)
        for path in (self.part, self.blobs, self.public, self.releases, self.public / "keyring"):
            fs.make_folder(path)
        for i in range(256):
            (self.blobs / f"{i:02x}").mkdir()
        fs.sync_folder(self.blobs)
        self.lock_file.touch(mode=0o600)
        self.removal_lock.touch(mode=0o600)  # `doctor` holds it before anybody has served

    def mark_file(self) -> Path:
        """Return where the high-water mark lies (mark.py)."""
        return self.settings().mark_file(self.root)

    def keyrings(self) -> list[Path]:
        """Return the published keyrings' files, the oldest first; what else lies there is none."""
        found = (self.public / "keyring").glob("*.json")
        named = [path for path in found if _KEYRING.fullmatch(path.name)]
        return sorted(named, key=lambda path: int(path.stem))

    def bridge(self) -> Path:
        """Return where the fleet's bridge connects (bridge_socket.py)."""
        return self.root / (self.settings().bridge or "data/bridge.sock")

    def settings(self) -> Settings:
        """Return the settings; raise InputError when the file is not understood."""
        return Settings.read(self.settings_file)

    def address(self) -> str:
        """Return HOST:PORT for invites and links: the setting, else where serve listened last."""
        settings = self.settings()
        if settings.address:
            return settings.address
        with contextlib.suppress(FileNotFoundError, ValueError):  # a damaged note is none
            return self.address_file.read_text("ascii").strip()
        return settings.listen

    def blob(self, sha256: str) -> Path:
        """Return where the blob of this hash lies; T10: made of hex digits alone."""
        if len(sha256) != 64 or any(c not in "0123456789abcdef" for c in sha256):  # noqa: PLR2004  # SHA-256
            raise ValueError("a blob is named by its SHA-256")
        return self.blobs / sha256[:2] / sha256

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Own the folder, or raise Refused("folder-in-use") at once."""
        fd = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Refused(
                    f"{self.root} is in use",
                    why="another coordinator process owns this folder",
                    fix="stop that process, or use its commands while it runs",
                    code="folder-in-use",
                ) from error
            yield
        finally:
            os.close(fd)
