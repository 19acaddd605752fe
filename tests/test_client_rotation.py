"""A home with several masters: everything goes on over a rotation, and over a kill in one."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.masters import Masters
from orthofed.client.recovery import recover
from orthofed.client.rotation import rotate
from orthofed.client.status import status_of
from orthofed.core.errors import InputError, Refused

from .coordinator_process import run
from .owner import PATIENCE_S, Owner
from .serving import Running, founded, running

KILLED = """
import os, signal, sys
from pathlib import Path
from orthofed.client.home import Home
from orthofed.client.rotation import rotate
import grpc, orthofed.client.channel, orthofed.client.outbox

left, home = int(sys.argv[1]), sys.argv[2]

def hear(event, arguments):
    global left
    path = arguments[0] if event in ("open", "os.rename", "os.remove", "os.mkdir") else None
    if path is not None and str(path).startswith(home):
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

sys.addaudithook(hear)
rotate(Home.at(Path(home)), patience_s=20)
print(left)
"""


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Running]:
    with running(founded(tmp_path, rank=2)) as started:
        yield started


def turned(owner: Owner) -> str:
    """Rotate; return the new member key."""
    return rotate(owner.home, patience_s=PATIENCE_S).new


def member(owner: Owner) -> str:
    return owner.masters.newest().member(owner.federation.log).public_hex


def test_old_and_new_contributions_are_the_homes_over_two_rotations(coordinator, tmp_path):
    """One contribution under each of three masters: status says kept, each can be withdrawn.

    Every master counts its client keys from 0, each session names its own; the files are 0600.
    """
    owner = Owner.joined(tmp_path / "home", coordinator.invite())
    sessions = [owner.contribute("anna", seed=1)]
    for name in ("bert", "cleo"):
        assert turned(owner) == member(owner)
        sessions.append(owner.contribute(name, seed=len(sessions)))
    rows = status_of(owner.home)["concepts"]
    done = [owner.withdraw(name) for name in ("anna", "bert", "cleo")]

    assert [(each.epoch, each.counter) for each in sessions] == [(0, 0), (1, 0), (2, 0)]
    assert [row["promise"] for row in rows] == ["kept"] * 3
    assert len({each.leaf for each in done}) == 3
    names = sorted(path.name for path in owner.home.folder.glob("master*"))
    assert names == ["master-1.key", "master-2.key", "master.key"]
    assert {p.stat().st_mode & 0o777 for p in owner.home.folder.glob("master*")} == {0o600}
    assert len({each.secret for each in owner.masters.all()}) == 3


def test_a_live_lease_runs_to_its_end_and_a_lost_answer_is_found(coordinator, tmp_path):
    """Overlap: what was packed before is sent after; a lease whose grant was never saved is found.

    The request stays that of the old master's client key; the new member key asks for it.
    """
    owner = Owner.joined(tmp_path / "home", coordinator.invite())
    packed = owner.pack("anna")
    turned(owner)
    sent = owner.send(packed)

    asked = owner.lease("bert")
    lost = replace(asked, phase="joined", slot=-1, fence=0)
    turned(owner)
    found = owner.ask(lost)

    assert (sent.phase, sent.epoch) == ("receipted", 0)
    assert (found.slot, found.fence, found.epoch) == (asked.slot, asked.fence, 1)


def test_recover_takes_old_and_new_masters(coordinator, tmp_path):
    """A new home with both files finds both contributions; with one of them, what is that one's."""
    invite = coordinator.invite(uses=1)
    owner = Owner.joined(tmp_path / "lost", invite)
    owner.contribute("anna", seed=1)
    turned(owner)
    owner.contribute("bert", seed=2)

    def restored(name: str, *files: str) -> Owner:
        home = Home.at(tmp_path / name)
        home.create()
        for file in files:
            (home.folder / file).write_bytes((owner.home.folder / file).read_bytes())
            (home.folder / file).chmod(0o600)
        return Owner(home, join(home, invite, url=None, patience_s=PATIENCE_S).federation)

    both = restored("both", "master.key", "master-1.key")
    old, new = restored("old", "master.key"), restored("new", "master-1.key")
    found = {
        each.home.folder.name: [
            (one.concept, one.is_new) for one in recover(each.home, patience_s=PATIENCE_S)
        ]
        for each in (both, old, new)
    }

    assert found == {
        "both": [("anna", True), ("bert", True)],
        "old": [("anna", True)],
        "new": [("bert", True)],
    }
    assert [both.saved(name).epoch for name in ("anna", "bert")] == [0, 1]
    assert {both.lease("cleo").counter, both.masters.newest().epoch} == {1}, "no key serves twice"
    with pytest.raises(Refused) as refused:
        old.lease("dora")
    assert refused.value.code == "rotated"
    assert not (new.home.folder / "master.key").exists(), "no master is drawn where there is one"
    assert old.withdraw("anna").leaf < both.withdraw("bert").leaf


def test_a_kill_at_any_step_is_mended_by_running_again(coordinator, tmp_path):
    """SIGKILL before each file that a rotation opens, makes or renames, in turn.

    After each: what was contributed answers, and once it ran to its end the newest master's key is
    the member, the key before is not, and nothing half done lies about.
    """
    count = 0
    while True:
        owner = Owner.joined(tmp_path / f"home-{count}", coordinator.invite())
        name = "bird-" + "y" * (count + 1)
        session, before = owner.lease(name), member(owner)
        command = [sys.executable, "-P", "-c", KILLED, str(count), str(owner.home.folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        now = turned(owner)

        assert now == member(owner) != before
        assert not list(owner.home.folder.glob("*next*"))
        owner.give_back(session)
        again = owner.lease(name)
        assert again.epoch >= 1
        owner.give_back(again)
        count += 1

    assert int(done.stdout) == 0
    assert count >= 8


def test_a_refused_rotation_changes_nothing_here(coordinator, tmp_path):
    """Somebody else rotated the key away: said, the old master stays newest, a second try too."""
    owner = Owner.joined(tmp_path / "home", coordinator.invite())
    thief = Home.at(tmp_path / "thief")
    thief.create()
    for name in ("master.key", "federation.json"):
        (thief.folder / name).write_bytes((owner.home.folder / name).read_bytes())
        (thief.folder / name).chmod(0o600)
    rotate(thief, patience_s=PATIENCE_S)

    for _ in range(2):
        with pytest.raises(Refused, match="replaced by another one") as refused:
            turned(owner)
        assert "tell the operator" in refused.value.fix
    assert owner.masters.newest().epoch == 0


@pytest.mark.parametrize("name", ["master.key", "master-1.key"])
def test_a_master_that_others_can_read_is_refused(coordinator, tmp_path, name):
    """Each of them signs for this client: none is used while its file is open."""
    owner = Owner.joined(tmp_path / "home", coordinator.invite())
    turned(owner)
    (owner.home.folder / name).chmod(0o640)

    with pytest.raises(InputError, match="mode 0640"):
        owner.masters.all()


def test_the_command_says_what_to_keep_and_no_secret(coordinator, tmp_path):
    """Text and JSON; the file that is named is there; neither prints what is in it."""
    owner = Owner.joined(tmp_path / "home", coordinator.invite())
    place = str(owner.home.folder)

    text = run("client", "rotate", "--home", place).stdout
    told = run("client", "rotate", "--home", place, "--json").stdout

    facts = json.loads(told)
    assert facts["old_member"] in text
    assert facts["member"] == member(owner)
    assert Path(facts["file"]).name == "master-2.key"
    assert not [each for each in Masters(owner.home).all() if each.secret.hex() in text + told]
