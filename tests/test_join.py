"""Joining a real federation: what the invite says is pinned, everything else is refused."""

import io
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orthofed.client.home import Home
from orthofed.client.invite_file import read_invite
from orthofed.client.join import join
from orthofed.core.errors import InputError, Refused, Unreachable, VerificationFailed
from orthofed.core.invite import Invite

from .coordinator_process import Coordinator, run, wide_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wide_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[Coordinator]:
    folder = tmp_path_factory.mktemp("coordinator")
    with Coordinator.found(folder / "fed", base, "--rank", "5") as running:
        yield running


@pytest.fixture(scope="module")
def invite(coordinator: Coordinator) -> str:
    return coordinator.invite(uses=50)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.at(tmp_path / "home")


def _nothing_kept(home: Home) -> bool:
    return not (home.folder / "federation.json").exists()


def test_a_member_keeps_what_the_invite_pinned(invite: str, home: Home) -> None:
    """Address, CA, ids, spec and keyring lie in the home; the invite's secret does not."""
    joined = join(home, invite, url=None, patience_s=20)

    pinned = Invite.from_text(invite)
    assert home.membership() == joined.membership
    assert joined.membership.log == pinned.log
    assert joined.federation.spec.id == pinned.fed
    assert (home.folder / "spec.json").read_bytes() == joined.federation.spec.to_bytes()
    held = b"".join(p.read_bytes() for p in home.folder.rglob("*") if p.is_file())
    assert pinned.seed.hex().encode() not in held


def test_joining_twice_with_one_home_spends_the_invite_once(
    coordinator: Coordinator, home: Home, tmp_path: Path
) -> None:
    """The second home finds the invite used up: exit code 3, and nothing is kept."""
    invite = coordinator.invite(uses=1)

    join(home, invite, url=None, patience_s=20)
    join(home, invite, url=None, patience_s=20)

    other = Home.at(tmp_path / "other")
    with pytest.raises(Refused) as caught:
        join(other, invite, url=None, patience_s=20)
    assert caught.value.code == "bad-invite"
    assert caught.value.exit_code == 3
    assert _nothing_kept(other)


def test_an_invite_that_nobody_made_is_refused(invite: str, home: Home) -> None:
    """The right address and ids with a seed of one's own."""
    forged = replace(Invite.from_text(invite), seed=bytes(32)).to_text()

    with pytest.raises(Refused) as caught:
        join(home, forged, url=None, patience_s=20)

    assert caught.value.code == "bad-invite"
    assert _nothing_kept(home)


@pytest.mark.parametrize("text", ["", "hello", "ofi1:", "ofi1:AAAA", "ofi2:abc", "x" * 100_000])
def test_text_that_is_no_invite_is_wrong_usage(text: str, home: Home) -> None:
    """Exit code 2, what to copy, and never the text itself: it may be a secret (T27)."""
    with pytest.raises(InputError, match="cannot be read") as caught:
        join(home, text, url=None, patience_s=1)

    assert "coordinator invite" in caught.value.fix
    assert len(text) < 6 or text not in str(caught.value)


@pytest.mark.parametrize("field", ["fed", "log"])
def test_a_coordinator_of_another_federation_is_refused(
    field: str, invite: str, home: Home
) -> None:
    """T16: the invite names other ids than the coordinator can show: exit code 4."""
    forged = replace(Invite.from_text(invite), **{field: "ab" * 32}).to_text()

    with pytest.raises(VerificationFailed) as caught:
        join(home, forged, url=None, patience_s=20)

    assert caught.value.exit_code == 4
    assert _nothing_kept(home)


def test_a_coordinator_with_another_certificate_is_refused(
    invite: str, home: Home, base: Path, tmp_path: Path
) -> None:
    """T24: the invite pins the CA: a second coordinator at that address is not believed."""
    with Coordinator.found(tmp_path / "fed", base, "--rank", "5") as other:
        moved = replace(Invite.from_text(invite), addr=other.address).to_text()

        with pytest.raises(VerificationFailed) as caught:
            join(home, moved, url=None, patience_s=20)

    assert caught.value.code == "tls-untrusted"
    assert _nothing_kept(home)


def test_an_address_can_be_given_and_its_ids_cannot(
    invite: str, coordinator: Coordinator, home: Home
) -> None:
    """https://HOST:PORT or the public link; a link to another log is refused before any call."""
    link = coordinator.link()
    host_port = Invite.from_text(invite).addr

    for url in (f"https://{host_port}", f"https://{host_port}/", link):
        assert join(home, invite, url=url, patience_s=20).membership.host_port == host_port

    wrong = link.replace(Invite.from_text(invite).log, "ab" * 32)
    with pytest.raises(InputError, match="another federation"):
        join(home, invite, url=wrong, patience_s=20)


@pytest.mark.parametrize(
    "url",
    ["http://x:1", "https://x", "https://x:99999999", "https://x:1/path", "x:1", "file:///etc"],
)
def test_an_address_of_another_form_is_wrong_usage(url: str, invite: str, home: Home) -> None:
    """There is no plaintext, and no path."""
    with pytest.raises(InputError):
        join(home, invite, url=url, patience_s=1)


def test_one_home_is_a_member_of_one_federation(invite: str, home: Home) -> None:
    """A second federation is sent to a home of its own; the first one stays."""
    join(home, invite, url=None, patience_s=20)
    before = home.membership()

    with pytest.raises(InputError, match="belongs to the federation"):
        join(
            home, replace(Invite.from_text(invite), log="ab" * 32).to_text(), url=None, patience_s=1
        )

    assert home.membership() == before


def test_nobody_at_the_address_is_said_after_the_patience(invite: str, home: Home) -> None:
    """A closed port: tried again for a second, then one message with the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    started_s = time.monotonic()

    with pytest.raises(Unreachable, match=f"127.0.0.1:{port} gave no answer for 1 s"):
        join(home, invite, url=f"https://127.0.0.1:{port}", patience_s=1)

    assert time.monotonic() - started_s < 30


def test_an_invite_is_read_from_a_file_and_never_from_the_arguments(
    invite: str, home: Home, tmp_path: Path
) -> None:
    """T27: anybody can read a command's arguments: the text itself is refused, and not repeated."""
    words = ("client", "join", "--home", str(home.folder), "--json", "--invite")

    said = run(*words, invite, check=False)
    absent = run(*words, str(tmp_path / "none.txt"), check=False)

    assert (said.returncode, absent.returncode) == (2, 2)
    assert json.loads(said.stdout)["error"]["code"] == "secret-in-arguments"
    assert invite[10:40] not in said.stdout + said.stderr
    assert json.loads(absent.stdout)["error"]["code"] == "invite-unreadable"


def test_an_invite_can_be_pasted(invite: str, monkeypatch) -> None:
    """With ``-`` it comes from the standard input."""
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{invite}\n"))

    assert read_invite("-").strip() == invite


def test_the_command_ends_with_spec_capacity_and_bytes(
    invite: str, home: Home, tmp_path: Path
) -> None:
    """`orthofed client join` as a process."""
    file = tmp_path / "invite.txt"
    file.write_text(invite)
    done = run("client", "join", "--invite", str(file), "--home", str(home.folder), "--json")

    facts = json.loads(done.stdout)
    assert facts["schema"] == "orthofed.join/1"
    assert facts["fed"] == Invite.from_text(invite).fed
    assert facts["capacity"] == 25
    assert facts["free_slots"] == 23  # a tenth is kept for the operator
    assert facts["upload_bytes"] > 600_000
