"""A machine that has only the master key finds its contributions and takes them out."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.recovery import recover
from orthofed.client.status import status_of
from orthofed.core.errors import Refused, VerificationFailed
from orthofed.core.keys import SigningKey
from orthofed.core.receipt import verify_receipt
from orthofed.proto import methods, wire

from .owner import PATIENCE_S, Owner
from .serving import Running, founded, running


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Running]:
    with running(founded(tmp_path)) as started:
        yield started


def restored(owner: Owner, invite: str, path: Path) -> Owner:
    """Return a home with the owner's master key and nothing else, joined by an old invite."""
    home = Home.at(path)
    home.create()
    key = path / "master.key"
    key.write_bytes((owner.home.folder / "master.key").read_bytes())
    key.chmod(0o600)
    return Owner(home, join(home, invite, url=None, patience_s=PATIENCE_S).federation)


def test_a_master_key_alone_finds_and_withdraws_every_contribution(coordinator, tmp_path):
    """Two contributions, one withdrawn before, a lease given back, keys drawn in vain: all found.

    The invite was for one member: joining again with the same master spends nothing.
    """
    invite = coordinator.invite(uses=1)
    owner = Owner.joined(tmp_path / "lost", invite)
    owner.contribute("anna", seed=1)
    owner.contribute("bert", seed=2)
    owner.withdraw("bert")
    [owner.masters.next_counter(owner.masters.newest()) for _ in range(5)]
    owner.give_back(owner.lease("carl"))
    last = owner.contribute("dora", seed=3)
    here = restored(owner, invite, tmp_path / "new")

    found = recover(here.home, patience_s=PATIENCE_S)
    again = recover(here.home, patience_s=PATIENCE_S)
    (anna, dora) = (here.saved(name) for name in ("anna", "dora"))
    rows = {row["concept"]: row for row in status_of(here.home)["concepts"]}
    done = [here.withdraw(name) for name in ("anna", "dora")]

    assert [(each.concept, each.state, each.is_new) for each in found] == [
        ("anna", "accepted", True),
        ("bert", "withdrawn", False),
        ("dora", "accepted", True),
    ]
    assert [each.is_new for each in again] == [False] * 3
    lost = owner.saved("anna")
    for name in ("slot", "fence", "counter", "triggers", "vectors", "document", "receipt"):
        assert getattr(anna, name) == getattr(lost, name)
    assert (rows["anna"]["promise"], rows["dora"]["promise"]) == ("kept", "kept")
    next_one = here.masters.next_counter(here.masters.newest())
    assert next_one == last.counter + 1, "no key serves twice"
    assert dora.counter == last.counter
    assert len({each.leaf for each in done}) == 2
    assert coordinator.desk.status()["contributions"] == {"withdrawn": 3}


def test_another_master_finds_nothing(coordinator, tmp_path):
    """T20: keys that never leased learn nothing about the rest."""
    Owner.joined(tmp_path / "a", coordinator.invite()).contribute("anna")
    other = Owner.joined(tmp_path / "b", coordinator.invite())

    assert recover(other.home, patience_s=PATIENCE_S) == ()


def test_a_key_without_a_fence_is_told_of_its_own_lease_alone(coordinator, tmp_path):
    """Fence 0 asks for whichever lease the key has; a member's key or a fresh one has none."""
    owner = Owner.joined(tmp_path / "a", coordinator.invite())
    session = owner.contribute("anna")
    request = wire.StatusRequest(0, 0)

    with owner.channel() as channel:
        mine = channel.call(methods.STATUS, request, wire.StatusReply, key=owner.key(session))
        with pytest.raises(Refused):
            channel.call(methods.STATUS, request, wire.StatusReply, key=SigningKey(bytes(32)))

    federation = owner.federation
    proved = verify_receipt(mine.receipt, log=federation.log, ledger_key=federation.keyring.ledger)
    assert proved.index == mine.leaf


def test_a_coordinator_that_gives_anothers_receipt_is_refused(coordinator, tmp_path, monkeypatch):
    """A receipt of the right log, for a manifest that another key signed: exit code 4."""
    owner = Owner.joined(tmp_path / "a", coordinator.invite())
    other = Owner.joined(tmp_path / "b", coordinator.invite())
    owner.contribute("anna", seed=1)
    theirs = (other.home.run("bert"), other.contribute("bert", seed=2))[0] / "receipt"
    honest = wire.StatusReply.from_bytes

    def lie(data: bytes) -> wire.StatusReply:
        reply = honest(data)
        return wire.StatusReply(reply.state, leaf=reply.leaf, receipt=theirs.read_bytes())

    here = restored(owner, coordinator.invite(), tmp_path / "new")
    monkeypatch.setattr(wire.StatusReply, "from_bytes", lie)
    with pytest.raises(VerificationFailed) as refused:
        recover(here.home, patience_s=PATIENCE_S)

    assert refused.value.code == "bad-reply"
    assert not here.home.run("bert").exists()


def test_the_command_lists_what_it_found(coordinator, tmp_path):
    """`orthofed client recover --json`: one object with every contribution."""
    invite = coordinator.invite()
    owner = Owner.joined(tmp_path / "lost", invite)
    session = owner.contribute("anna")
    here = restored(owner, invite, tmp_path / "new")
    command = [sys.executable, "-P", "-m", "orthofed", "client", "recover", "--json"]

    done = subprocess.run(
        [*command, "--home", str(here.home.folder)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)["contributions"]
    assert (told["concept"], told["slot"], told["is_new"]) == ("anna", session.slot, True)
