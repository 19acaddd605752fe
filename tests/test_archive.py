"""What anyone may have of a contribution: its proof always, its bytes while a release holds it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from orthofed.client.base_folder import BaseFolder
from orthofed.client.channel import Channel
from orthofed.client.contributions import Contributions
from orthofed.client.origin import WireOrigin
from orthofed.client.pull import Pull
from orthofed.client.rebuild import Rebuild
from orthofed.client.seen_heads import SeenHeads
from orthofed.client.verify import verify_folder
from orthofed.coordinator.removal import Removal
from orthofed.core.address import FederationAddress
from orthofed.core.errors import InputError, Refused
from orthofed.core.recipient import Recipient
from orthofed.proto import methods, wire

from .member import Member, Packed
from .private_owner import pack_private
from .serving import Running, founded, running
from .test_removal import word


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Running]:
    with running(founded(tmp_path)) as started:
        yield started


def contributed(coordinator: Running, name: str) -> tuple[Member, Packed, int]:
    member = coordinator.member()
    packed = member.pack(member.lease(name, (f"{name}-k7",)), seed=sum(name.encode()))
    return member, packed, member.check(member.contribute(packed)).index


def read(member: Member, leaf: int, offset: int = 0, length: int = 1 << 20) -> wire.ReadReply:
    request = wire.ReadContributionRequest(leaf, offset, length)
    return member.link.call(methods.READ_CONTRIBUTION, request, wire.ReadReply)


def refused(member: Member, leaf: int) -> Refused:
    with pytest.raises(Refused) as caught:
        read(member, leaf)
    assert member.link.last_trailers["status"] == "NOT_FOUND"
    return caught.value


def test_a_released_contribution_is_read_to_its_last_byte(coordinator: Running) -> None:
    """In pieces, by somebody who only knows the leaf; the proof holds what the client signed."""
    member, packed, leaf = contributed(coordinator, "anna")
    coordinator.release()

    request = wire.ContributionRequest(leaf)
    proof = member.link.call(methods.GET_CONTRIBUTION, request, wire.ContributionReply)
    pieces = [read(member, leaf, at, 50_000) for at in range(0, len(packed.blob), 50_000)]

    assert b"".join(piece.data for piece in pieces) == packed.blob
    assert {piece.total_bytes for piece in pieces} == {len(packed.blob)}
    assert read(member, leaf, len(packed.blob)).data == b""
    assert member.check(proof.receipt).index == leaf
    with pytest.raises(InputError):
        read(member, leaf, len(packed.blob) + 1)


def test_what_no_release_holds_looks_like_what_is_not_there(coordinator: Running) -> None:
    """Not yet released, another kind of leaf, beyond the ledger: one answer, no byte."""
    member, _, leaf = contributed(coordinator, "anna")
    answers = [refused(member, each) for each in (leaf, 0, leaf - 1, leaf + 1, (1 << 53) - 1)]

    assert {answer.code for answer in answers} == {"no-such-contribution"}
    coordinator.release()
    assert read(member, leaf).data  # the same leaf, once it is out


def test_a_withdrawn_blob_stays_until_the_next_release_and_is_then_refused(
    coordinator: Running, tmp_path: Path
) -> None:
    """reliability.md 2.7: release 1 can be rebuilt until release 2 is out, and then says why not.

    Without the contributions the old release can still be pulled and verified.
    """
    member, packed, leaf = contributed(coordinator, "anna")
    contributed(coordinator, "bert")
    coordinator.release()
    Removal(coordinator.house).withdraw(word(coordinator, packed.lease, leaf))
    before = read(member, leaf).data

    coordinator.release()
    gone = refused(member, leaf)
    address = FederationAddress.from_text(coordinator.desk.link())
    seen = SeenHeads(tmp_path / "home")
    with Channel(address.host_port, ca=address.ca, log=address.log) as channel:
        with pytest.raises(Refused, match="releases that hold it can no longer be rebuilt"):
            Pull(WireOrigin(channel), address.log, tmp_path / "old", seen).run(
                1, contributions=True
            )
        Pull(WireOrigin(channel), address.log, tmp_path / "old", seen).run(1)
        found = Pull(WireOrigin(channel), address.log, tmp_path / "new", seen).run(
            2, contributions=True
        )

    assert before == packed.blob
    assert (gone.code, "deleted" in gone.why) == ("withdrawn", True)
    verify_folder(tmp_path / "old")
    verify_folder(tmp_path / "new")
    base = BaseFolder(coordinator.folder.settings().base)
    assert Rebuild(Contributions(tmp_path / "new", found)).run(base) > 0  # lists the withdrawal


def test_a_private_contribution_is_given_while_it_stands_and_not_once_rejected(
    coordinator: Running,
) -> None:
    """Ciphertext and wraps together, in no release; after the operator's no neither of both.

    The bytes are still there, for the owner to ask why: standing decides, not the disk.
    """
    member = coordinator.member()
    private = X25519PrivateKey.generate()
    reader = Recipient(private.public_key().public_bytes_raw())
    packed, _ = pack_private(member, member.lease("rex", ("rex-p2",)), [reader])
    leaf = member.check(member.contribute(packed)).index
    request = wire.ContributionRequest(leaf)

    def wraps() -> bytes:
        return member.link.call(methods.GET_CONTRIBUTION, request, wire.ContributionReply).wraps

    assert wraps()
    assert read(member, leaf).data == packed.blob
    Removal(coordinator.house).reject(leaf, why="not what it says")

    assert wraps() == b""
    assert refused(member, leaf).code == "no-such-contribution"
