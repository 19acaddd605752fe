"""The client's folder: files whole or absent, one process at a time, a key nobody else reads."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from orthofed.client.home import PUBLIC, Home, Membership, write_whole
from orthofed.client.masters import Masters
from orthofed.client.outbox import Outbox
from orthofed.core.errors import InputError, OrthoFedError, VerificationFailed
from orthofed.proto import methods, wire

MEMBERSHIP = Membership("example.org:7443", b"\x30\x00", "ab" * 32, "cd" * 32)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home.at(tmp_path / "home")
    made.create()
    return made


@pytest.mark.parametrize("mode", [0o755, 0o750])
def test_what_lies_beneath_a_home_is_its_owners_whatever_the_mode_of_the_folder(
    tmp_path: Path, mode: int
) -> None:
    """A `--home` that was there before keeps its mode; a run of an earlier version is shut."""
    folder = tmp_path / "home"
    (folder / "runs" / "old").mkdir(parents=True)
    (folder / "runs").chmod(0o755)
    folder.chmod(mode)
    before = os.umask(0o022)

    try:
        home = Home.at(folder)
        with home.lock():
            write_whole(home.run("anna-k7") / "log" / "contribution.safetensors", b"hers")
            home.keep_keyrings((b"one",))
        renew = wire.RenewRequest(3, 7, 1)
        Outbox(folder / "outbox.jsonl").record(methods.RENEW.path, renew, renew.to_bytes())
        write_whole(tmp_path / "pulled" / "trust" / "log", b"id", mode=PUBLIC)
    finally:
        os.umask(before)

    modes = {path: path.stat().st_mode & 0o777 for path in folder.rglob("*")}
    assert folder.stat().st_mode & 0o777 == mode
    assert {modes[path] for path in modes if path.is_file()} == {0o600}
    assert {m for p, m in modes.items() if p.is_dir() and p.name != "old"} == {0o700}
    assert (tmp_path / "pulled" / "trust" / "log").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "pulled" / "trust").stat().st_mode & 0o777 == 0o755


def test_the_master_key_is_made_once_and_readable_by_its_owner_alone(home: Home) -> None:
    """32 random bytes, mode 0600, the same at every call; another home has others."""
    first, again = Masters(home).newest(), Masters(home).newest()

    assert first == again
    assert len(first.secret) == 32
    assert first.secret.hex() not in repr(first)
    assert (home.folder / "master.key").stat().st_mode & 0o777 == 0o600
    other = Home.at(home.folder.parent / "other")
    other.create()
    assert Masters(other).newest() != first


def test_a_master_key_that_others_can_read_is_refused(home: Home) -> None:
    """Whoever reads it can sign: the command stops and names the chmod."""
    Masters(home).newest()
    (home.folder / "master.key").chmod(0o644)

    with pytest.raises(InputError, match="mode 0644, allowed is 0600") as caught:
        Masters(home).newest()

    assert caught.value.fix.startswith("run chmod 600")


@pytest.mark.parametrize("text", ["", "zz" * 32, "ab" * 31, "ab" * 33])
def test_a_damaged_master_key_is_never_replaced(text: str, home: Home) -> None:
    """A new key would lose every contribution: the file is left for the owner to restore."""
    write_whole(home.folder / "master.key", text.encode(), mode=0o600)

    with pytest.raises(InputError, match="64 hex digits"):
        Masters(home).newest()

    assert (home.folder / "master.key").read_text() == text


def test_no_client_key_number_is_given_twice(home: Home) -> None:
    """Each lease has a key of its own, also after the command was started again."""
    master = Masters(home).newest()
    numbers = [Masters(Home.at(home.folder)).next_counter(master) for _ in range(3)]

    assert numbers == [0, 1, 2]


def test_what_was_pinned_is_read_back(home: Home) -> None:
    """Address, CA and ids come back; the spec and keyrings lie beside them."""
    home.join(MEMBERSHIP, spec=b"{}", keyrings=(b"k1", b"k2"))

    assert home.membership() == MEMBERSHIP
    assert (home.folder / "keyrings" / "2.json").read_bytes() == b"k2"


def test_a_home_without_federation_says_how_to_join(home: Home) -> None:
    """The next step stands in the error."""
    with pytest.raises(InputError, match="belongs to no federation") as caught:
        home.membership()

    assert "client join" in caught.value.fix


@pytest.mark.parametrize("text", ["[]", "{}", '{"address":"a","ca":"zz","fed":"","log":"","v":1}'])
def test_a_damaged_membership_is_told_as_one(home: Home, text: str) -> None:
    home.create()
    (home.folder / "federation.json").write_text(text)

    with pytest.raises(VerificationFailed):
        home.membership()


def test_two_processes_cannot_use_one_home(home: Home) -> None:
    """The second one is told so, and goes on once the first has ended."""
    code = (
        "import sys; from pathlib import Path; from orthofed.client.home import Home\n"
        "with Home.at(Path(sys.argv[1])).lock(): print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(home.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"

        with pytest.raises(InputError, match="in use by another"), home.lock():
            pass
        other.communicate("\n")

    with home.lock():
        pass


def test_a_name_never_leads_out_of_the_home(home: Home) -> None:
    """T10: a concept's folder is its slug; anything else is refused."""
    for name in ("../x", "a/b", ".", "..", "/etc", "x" * 40, ""):
        with pytest.raises(InputError):
            home.run(name)

    assert home.run("Anna-K7").parent == home.folder / "runs"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A write that does not fit: bytes needed are said, the old bytes stay, no rest lies about."""
    path = tmp_path / "file"
    write_whole(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(OrthoFedError, match=r"131072 bytes needed for .*, \d+ free") as caught:
            write_whole(path, bytes(1 << 17))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert caught.value.code == "disk-full"
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_rest_of_a_killed_write_is_no_obstacle(tmp_path: Path) -> None:
    """A temporary file from before the kill is replaced, the target appears whole."""
    (tmp_path / ".file.tmp").write_bytes(b"half")

    write_whole(tmp_path / "file", b"whole")

    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"whole"
