"""The public files of a real coordinator over the wire: names, lengths, and a fork that is seen."""

import shutil
from pathlib import Path

import pytest

from orthofed.client.channel import Channel
from orthofed.client.origin import WireOrigin
from orthofed.client.pull import Pull
from orthofed.client.seen_heads import SeenHeads
from orthofed.client.verify import verify_folder
from orthofed.coordinator.folder import DataFolder
from orthofed.core.address import FederationAddress
from orthofed.core.errors import InputError, OrthoFedError, Refused, VerificationFailed
from orthofed.proto import methods, wire

from .member import Member
from .serving import Running, founded, running

NAMES = [
    *("../keys/ledger.pem", "/etc/passwd", "keyring/../../data/state.db", "releases/1/info.json"),
    *("forks.json", "high-water", "keyring/0.json", "keyring/100.json", "keyring/1.json/", "."),
    *("tile", "tile/0", "tile/0/000.p", "tile/0/../../checkpoint", "tile/9/000", "Checkpoint"),
    *("checkpoint\n", "checkpoint\0", "head.json/..", "tile/0/x000/000", "", "spec.json.tmp"),
    *("tile/0/999", "tile/entries/000.p/255", "keyring/2.json"),
]
"""Names of nothing: paths, other spellings, and well-formed names of what is not there."""


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory):
    with running(founded(tmp_path_factory.mktemp("served"))) as started:
        contribute(started, "anna")
        started.release()
        yield started


def contribute(coordinator: Running, name: str) -> Member:
    member = coordinator.member()
    member.contribute(member.pack(member.lease(name, (f"{name}-k7",))))
    return member


def asked(member: Member, name: str, offset: int = 0, length: int = 1 << 20) -> bytes:
    request = wire.PublicRequest(name, offset, length)
    return member.link.call(methods.READ_PUBLIC, request, wire.ReadReply).data


def pull(coordinator: Running, out: Path) -> None:
    address = FederationAddress.from_text(coordinator.desk.link())
    with Channel(address.host_port, ca=address.ca, log=address.log, patience_s=5) as channel:
        Pull(WireOrigin(channel), address.log, out, SeenHeads(out.parent / "home")).run()


def test_the_files_are_those_of_the_folder(coordinator):
    """Each public file but the releases, whole and in pieces."""
    member = coordinator.member()
    coordinator.house.heads.write()
    public = coordinator.folder.public
    paths = [path for path in public.rglob("*") if path.is_file()]
    names = [path.relative_to(public).as_posix() for path in paths]
    names = [name for name in names if not name.startswith("releases/")]

    assert {"checkpoint", "head.json", "spec.json", "keyring/1.json"} < set(names)
    assert any(name.startswith("tile/entries/") for name in names)
    for name in names:
        data = (public / name).read_bytes()
        assert asked(member, name) == data
        assert asked(member, name, 5, 7) == data[5:12]
        assert asked(member, name, len(data)) == b""
        with pytest.raises(OrthoFedError, match="offset"):
            asked(member, name, len(data) + 1)


@pytest.mark.parametrize("name", NAMES)
def test_any_other_name_is_not_there(name, coordinator):
    """T10, T20: what is no name and what is absent look alike, and no file is opened."""
    with pytest.raises((Refused, InputError)) as caught:
        asked(coordinator.member(), name)

    assert caught.value.code in ("not-found", "malformed")


def test_a_pull_right_after_a_release_finds_it(coordinator, tmp_path):
    """The head names a release before its operator is told that it is out."""
    for n, name in enumerate(("bert", "cleo"), start=2):
        contribute(coordinator, name)
        coordinator.release()

        pull(coordinator, tmp_path / name)

        assert verify_folder(tmp_path / name).release.manifest.n == n


def test_a_coordinator_restored_from_an_older_copy_is_caught_by_its_consumers(tmp_path):
    """T17, T28: the same keys go on from an older copy; who saw the lost leaves has the proof."""
    folder = founded(tmp_path)
    with running(folder) as before:
        contribute(before, "anna")
        before.release()
    copy = DataFolder(Path(shutil.copytree(folder.root, tmp_path / "copy")))
    with running(folder) as honest:
        honest.member().lease("bert", ("bert-k7",))
        honest.house.heads.write()
        pull(honest, tmp_path / "seen")

    with running(copy) as older:
        with pytest.raises(VerificationFailed, match="check failed: rollback"):
            pull(older, tmp_path / "shrunk")
        for name in ("cleo", "dora"):
            older.member().lease(name, (f"{name}-k7",))
        older.house.heads.write()
        with pytest.raises(VerificationFailed, match="check failed: fork") as caught:
            pull(older, tmp_path / "forked")

    (proof,) = (tmp_path / "home" / "logs").glob("*.fork-*.json")
    assert str(proof) in caught.value.fix
