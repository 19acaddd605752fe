"""Files of the coordinator: whole or absent, named by hash, bounded; certificates; limits."""

import datetime as dt
import errno
import hashlib
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from orthofed.coordinator import blobs
from orthofed.coordinator.blobs import Blobs, Plan
from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.folder import DataFolder, Settings
from orthofed.coordinator.founding import Choices, found
from orthofed.coordinator.fs import Fs
from orthofed.coordinator.keyfile import load_key, save_key
from orthofed.coordinator.limits import Buckets, InFlight, Nonces, network_of
from orthofed.coordinator.tls import authority_der, make_authority, server_tls
from orthofed.core.errors import InputError, Refused
from orthofed.core.keys import SigningKey
from orthofed.proto.methods import CHUNK_BYTES

from .coordinator_process import wide_base
from .seeded import Bug
from .serving import FastFs

NOW = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)


class Ended(BaseException):
    """The process would have ended here."""


class BadDisk(Fs):
    """Fails one kind of call with one error number."""

    def __init__(self, call: str, number: int) -> None:
        super().__init__()
        self.call, self.number = call, number

    def give_up(self, what, error):
        raise Ended(what) from error

    def write(self, fd, data, *, offset=None):
        if self.call == "write":
            flags = os.O_WRONLY if self.number == errno.ENOSPC else os.O_RDONLY
            fd = os.open("/dev/full", flags)
        super().write(fd, data, offset=offset)

    def sync(self, fd, what):
        if self.call == "sync":
            self.give_up(what, OSError(self.number, "injected"))
        super().sync(fd, what)


def blob(num_bytes: int) -> tuple[Plan, list[bytes], str]:
    data = os.urandom(num_bytes)
    chunks = [data[i : i + CHUNK_BYTES] for i in range(0, len(data), CHUNK_BYTES)]
    hashes = tuple(hashlib.sha256(chunk).digest() for chunk in chunks)
    return Plan(os.urandom(16), num_bytes, hashes), chunks, hashlib.sha256(data).hexdigest()


@pytest.fixture
def folder(tmp_path):
    made = DataFolder(tmp_path)
    made.make(Fs())
    return made


def test_a_file_is_replaced_whole(tmp_path):
    """F1: nothing but the new file is left, with its mode."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    Fs().write_whole(path, b"new", mode=0o600)

    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110  # a device
def test_a_full_disk_leaves_the_old_file(tmp_path):
    """F5: ENOSPC is a refusal; the old bytes stand and no temporary file is left."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    with pytest.raises(Refused) as refused:
        BadDisk("write", errno.ENOSPC).write_whole(path, b"new" * 9_999)

    assert refused.value.code == "no-room"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_sync_ends_the_process(tmp_path):
    """F4: nobody goes on after an fsync that failed."""
    with pytest.raises(Ended):
        BadDisk("sync", errno.EIO).write_whole(tmp_path / "file", b"new")

    with pytest.raises(Ended):
        BadDisk("write", errno.EBADF).write_whole(tmp_path / "file", b"new")


def test_a_blob_comes_together_in_any_order(folder):
    """Chunks arrive last first and one twice; the blob is whole, read-only, named by its hash."""
    made = Blobs(folder, fs=Fs())
    plan, chunks, sha256 = blob(2 * CHUNK_BYTES + 5)

    assert made.begin(plan) == b"\0"
    counts = [made.put(plan, i, chunks[i]) for i in (2, 0, 2, 1)]
    assert made.begin(plan) == b"\7"
    made.keep(plan, sha256)

    assert counts == [(1, True), (2, True), (2, False), (3, True)]
    kept = folder.blob(sha256)
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == sha256
    assert stat.S_IMODE(kept.stat().st_mode) == 0o444
    made.keep(plan, sha256)  # a resend
    made.drop(plan.upload_id)
    assert not list(folder.part.iterdir())


def test_after_a_restart_the_part_itself_says_what_is_whole(folder):
    """A new process derives the bitmap by hashing; a torn chunk is simply not whole."""
    plan, chunks, _ = blob(3 * CHUNK_BYTES)
    first = Blobs(folder, fs=Fs())
    first.begin(plan)
    for i in (0, 2):
        first.put(plan, i, chunks[i])
    part = folder.part / plan.upload_id.hex()
    with part.open("r+b") as file:
        file.seek(2 * CHUNK_BYTES + 100)
        file.write(b"torn")

    again = Blobs(folder, fs=Fs())

    assert again.missing(plan) == (1, 2)
    again.drop_unknown(set())
    assert not part.exists()


def test_room_for_the_whole_blob_is_taken_at_once(folder):
    """T19: the part has its full length before the first chunk, and none without room."""
    plan, _, _ = blob(3 * CHUNK_BYTES)

    Blobs(folder, fs=Fs()).begin(plan)
    with pytest.raises(Refused) as refused:
        Blobs(folder, fs=Fs(reserve_bytes=1 << 60)).begin(blob(10)[0])

    part = folder.part / plan.upload_id.hex()
    assert part.stat().st_size == 3 * CHUNK_BYTES
    assert part.stat().st_blocks * 512 >= 3 * CHUNK_BYTES
    assert refused.value.code == "no-room"


@pytest.mark.parametrize("name", ["", "..", "0" * 63, "A" * 64, "/" + "0" * 63, "0" * 64 + "\n"])
def test_only_a_hash_is_a_path(folder, name):
    """T10: what is no SHA-256 never becomes part of a path."""
    with pytest.raises(ValueError, match="named by its SHA-256"):
        folder.blob(name)


def test_one_process_owns_the_folder(folder):
    """The second taker is refused at once, and the lock ends with its holder."""
    with folder.locked(), pytest.raises(Refused) as refused, folder.locked():
        pass

    with folder.locked():
        pass
    assert refused.value.code == "folder-in-use"


def test_settings_come_back_and_unknown_keys_are_errors(tmp_path):
    """A path with quotes and umlauts survives; a misspelt key is named."""
    settings = Settings(
        base=tmp_path / 'a "b" ü 🎨\x7f\n', address="example.org:1", hostnames=("x", "::1")
    )
    path = tmp_path / "coordinator.toml"
    path.write_text(settings.to_toml(), "utf-8")

    assert Settings.read(path) == settings
    deep = f"listen = {'[' * 100_000}"
    number = "reserve_mib = " + "1" * 5_000
    lists = ("hostnames = ['föd.example.org']", "hostnames = ['']", "hostnames = ['a b']")
    lists += ("hostnames = 5", "hostnames = 'x'", "hostnames = [5]")
    hints = [f"base = 'x'\nbase_hint = '{each}'" for each in ("x" * 1_025, "x\u202ey")]
    bad = ("lisen = 'x'", "reserve_mib = -1", "listen = 5", "base =", deep, number, *lists, *hints)
    for line in bad:
        path.write_text(f"base = 'x'\n{line}\n" if "base" not in line else line)
        with pytest.raises(InputError) as refused:
            Settings.read(path)
        assert refused.value.code == "bad-settings"


class Busy(FastFs):
    """Cannot put a new folder in its place, as with a mount point."""

    def rename(self, source, target):
        if source.name == ".fed.init":
            raise OSError(errno.EBUSY, "injected")
        super().rename(source, target)


def founded_with(tmp_path: Path, place: Path, fs: Fs | None = None, **changes: object) -> None:
    base = tmp_path / "🎨" / "base"
    if not base.exists():
        wide_base(base)
    settings = replace(Settings(base=base, listen="127.0.0.1:0"), **changes)
    choices = Choices(name="tiny", rank=4)
    clock = SystemClock()
    found(place, choices, settings, clock=clock, fs=fs or FastFs(), say=lambda _: None)


@pytest.mark.parametrize(
    "changes",
    [
        {"reserve_mib": -5},
        {"base_hint": "x" * 1_100},
        {"base_hint": "\udcff"},
        {"hostnames": ("böse host",)},
        {"hostnames": ("",)},
        {"high_water": "/nowhere/hw"},
        {"high_water": "/"},
    ],
)
def test_settings_that_no_command_could_read_found_nothing(tmp_path, changes):
    """They are refused before the base is hashed, and no key is left anywhere."""
    with pytest.raises(InputError) as refused:
        founded_with(tmp_path, tmp_path / "fed", **changes)

    assert refused.value.code == "bad-settings"
    assert "correct the option" in refused.value.fix
    assert [path.name for path in tmp_path.iterdir()] == ["🎨"]


def test_a_folder_is_founded_behind_a_link_and_with_any_sign_in_its_settings(tmp_path):
    """An empty folder that a link names is a place like another."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    founded_with(tmp_path, tmp_path / "link", base_hint="see 🎨", high_water=str(tmp_path / "hw"))

    settings = DataFolder.open(tmp_path / "link").settings()
    assert (settings.base.parent.name, settings.base_hint) == ("🎨", "see 🎨")
    assert (tmp_path / "real" / "keys" / "root.pem").is_file()


def test_an_init_that_fails_leaves_no_keys_behind(tmp_path, monkeypatch):
    """At the last step of all; a mount point, where that happens, is told from the start."""
    with pytest.raises(OSError, match="injected"):
        founded_with(tmp_path, tmp_path / "fed", Busy())
    left = sorted(path.name for path in tmp_path.iterdir())
    (tmp_path / "mounted").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "mounted")
    codes = list[str]()
    for more in ("lost+found", "photos"):  # what mkfs makes, then what somebody keeps there
        (tmp_path / "mounted" / more).mkdir()
        with pytest.raises(InputError) as refused:
            founded_with(tmp_path, tmp_path / "mounted")
        codes.append(refused.value.code)

    assert left == ["🎨"]
    assert codes == ["mount-point", "folder-not-empty"]


def test_a_key_comes_back_from_its_file(tmp_path):
    """PKCS#8, mode 0600; a missing or foreign file is named without its content."""
    key = SigningKey.from_seed(b"\7" * 32)
    save_key(tmp_path, "ledger", key, fs=Fs())

    assert load_key(tmp_path, "ledger").public_hex == key.public_hex
    assert stat.S_IMODE((tmp_path / "ledger.pem").stat().st_mode) == 0o600
    (tmp_path / "root.pem").write_text("no key")
    (tmp_path / "root.pem").chmod(0o600)
    for role in ("release", "root"):
        with pytest.raises(InputError) as refused:
            load_key(tmp_path, role)
        assert refused.value.code == "bad-key-file"


def test_the_server_certificate_is_made_anew_before_it_ends_and_for_other_hosts(tmp_path):
    """The pinned authority stays; the server's certificate is kept while it is good."""
    make_authority(tmp_path, fs=Fs(), now=NOW)
    authority = authority_der(tmp_path)

    first = server_tls(tmp_path, ("localhost", "127.0.0.1"), fs=Fs(), now=NOW)
    same = server_tls(tmp_path, ("localhost", "127.0.0.1"), fs=Fs(), now=NOW)
    other = server_tls(tmp_path, ("example.org",), fs=Fs(), now=NOW)
    later = server_tls(tmp_path, ("example.org",), fs=Fs(), now=NOW + dt.timedelta(days=380))

    assert first == same
    assert len({first.chain, other.chain, later.chain}) == 3
    assert authority_der(tmp_path) == authority == later.ca_der
    certificate = x509.load_pem_x509_certificate(first.chain)
    certificate.verify_directly_issued_by(x509.load_der_x509_certificate(authority))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["localhost", "127.0.0.1"]


def test_a_damaged_server_certificate_is_made_anew(tmp_path):
    """The authority signs another one; clients pin the authority alone."""
    make_authority(tmp_path, fs=Fs(), now=NOW)
    path = tmp_path / "tls-server.pem"
    first = server_tls(tmp_path, ("a.example",), fs=Fs(), now=NOW)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole.partition(b"-----BEGIN CERT")[0]):
        path.write_bytes(damaged)
        assert server_tls(tmp_path, ("a.example",), fs=Fs(), now=NOW).ca_der == first.ca_der
        assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY")
        assert b"-----END CERTIFICATE" in path.read_bytes()


def test_a_certificate_made_by_a_wrong_clock_goes_with_the_next_right_start(tmp_path):
    """Ten years ahead: made anew once the clock is right. Ten years back: the good one is kept."""
    make_authority(tmp_path, fs=Fs(), now=NOW)
    ten_years, hosts = dt.timedelta(days=3_650), ("localhost",)

    ahead = server_tls(tmp_path, hosts, fs=Fs(), now=NOW + ten_years)
    right = server_tls(tmp_path, hosts, fs=Fs(), now=NOW)
    back = server_tls(tmp_path, hosts, fs=Fs(), now=NOW - ten_years)

    certificate = x509.load_pem_x509_certificate(right.chain)
    assert certificate.not_valid_before_utc <= NOW < certificate.not_valid_after_utc
    assert ahead.chain != right.chain == back.chain


def test_a_bucket_lets_a_burst_through_and_then_its_rate():
    """Five at once, the sixth waits; after a second one more; others are not touched."""
    buckets = Buckets(per_s=1.0, burst=5)
    for _ in range(5):
        buckets.take("a", 0.0)

    with pytest.raises(Refused) as refused:
        buckets.take("a", 0.5)
    buckets.take("a", 1.5)
    buckets.take("b", 0.5)

    assert refused.value.code == "rate-limited"


def test_calls_in_flight_are_counted_down_when_they_end():
    """Two of one key at once, three together; an ended call makes room, a failed one too."""
    flight = InFlight(each=2, together=3)

    with flight.one("a"), flight.one("a"):
        with pytest.raises(Refused), flight.one("a"):
            pass
        with flight.one("b"), pytest.raises(Refused), flight.one("c"):
            pass
    with pytest.raises(ValueError, match="x"), flight.one("a"):
        raise ValueError("x")
    with flight.one("a"), flight.one("a"):
        pass


def test_a_nonce_is_good_once_and_memory_is_bounded():
    """T3: again within two minutes is refused, for each key by itself; 4,096 a key."""
    nonces = Nonces()
    nonces.once("key", "one", 0.0)
    nonces.once("other", "one", 0.0)

    with pytest.raises(Refused) as replayed:
        nonces.once("key", "one", 119.0)
    nonces.once("key", "one", 121.0)
    for i in range(4_095):
        nonces.once("key", f"{i}", 122.0)
    with pytest.raises(Refused) as full:
        nonces.once("key", "more", 122.0)

    assert replayed.value.code == "replayed"
    assert full.value.code == "rate-limited"


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("ipv4:127.0.0.1:9", None),
        ("ipv6:%5B::1%5D:9", None),
        ("unix:", None),
        ("ipv4:192.0.2.9:9", "192.0.2.0/24"),
        ("ipv6:%5B2001:db8:1:2::3%5D:9", "2001:db8:1::/48"),
        ("nonsense", "nonsense"),
    ],
)
def test_an_address_counts_as_its_network(peer, network):
    """/24 and /48 share a limit; this machine has none."""
    assert network_of(peer) == network


class SyncedFs(Fs):
    """Remembers what was synced."""

    def __init__(self) -> None:
        super().__init__()
        self.synced: list[str] = []

    def sync(self, fd, what):  # noqa: ARG002  # the base's own signature
        self.synced.append(what)


def synced_of_a_found_blob(module, folder: DataFolder) -> tuple[list[str], str]:
    """Link a blob, be killed before its folder is synced, commit again; return what is synced."""
    plan, chunks, sha256 = blob(CHUNK_BYTES)
    fs = SyncedFs()
    made = module.Blobs(folder, fs=fs)
    made.begin(plan)
    made.put(plan, 0, chunks[0])
    os.link(folder.part / plan.upload_id.hex(), folder.blob(sha256))

    made.keep(plan, sha256)

    return [Path(each).name for each in fs.synced], sha256


def test_a_blob_that_is_there_already_is_synced_before_it_is_promised(folder):
    """F1, F3: who linked it may have been killed before the folder's sync: COMMIT trusts nobody."""
    synced, sha256 = synced_of_a_found_blob(blobs, folder)

    assert synced == [sha256, sha256[:2]]


@pytest.mark.parametrize("name", ["found-blob-not-synced"])
def test_a_seeded_bug_of_the_blobs_is_caught(folder, name):
    """The blob is taken as it is found: a power cut could take its name."""
    with Bug.named(name).in_process():
        synced, sha256 = synced_of_a_found_blob(blobs, folder)

    assert synced != [sha256, sha256[:2]]


def test_what_a_kill_left_half_written_is_removed(tmp_path):
    """Temporary files of ``write_whole`` go at the next start; nothing else does."""
    for name in (".abc.tmp", "file", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / ".1.tmp").mkdir()  # a release that is being built

    Fs().remove_temporaries(tmp_path)

    assert sorted(p.name for p in tmp_path.iterdir()) == [".1.tmp", ".hidden", "file"]


def test_a_file_that_cannot_be_made_for_want_of_room_is_an_ordinary_refusal(tmp_path, monkeypatch):
    """A name takes room too (F5): ENOSPC of the open that makes it, and nothing is left."""

    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "open", full)

    with pytest.raises(Refused) as caught:
        Fs().create(tmp_path / "part", os.O_RDWR, 0o600)

    assert caught.value.code == "no-room"
    assert list(tmp_path.iterdir()) == []
