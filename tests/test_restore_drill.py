"""The restore drill: a backup under load, everything destroyed, restored, every receipt accounted.

A real coordinator, real sockets, four clients that upload as fast as they can while the backup is
made. Receipts handed out before it began are honoured afterwards; one that is newer is lost, and
its owner's `client status` and an independent mark say so.
"""

import hashlib
import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orthofed.client import join as joining
from orthofed.client import state
from orthofed.client.home import Home, write_whole
from orthofed.client.masters import Masters
from orthofed.client.session import Session
from orthofed.client.status import status_of
from orthofed.core.errors import OrthoFedError, Refused
from orthofed.core.invite import Invite

from .coordinator_process import Coordinator, run, wide_base
from .member import Member, Packed, Wire

pytestmark = pytest.mark.long

CLIENTS = 4
EACH = 3


@dataclass
class Acknowledged:
    """One receipt that somebody holds, and when it came."""

    member: Member
    packed: Packed
    receipt: bytes
    at_s: float


@dataclass
class Load:
    """Clients that upload until told to stop; every receipt is written down as it comes."""

    invite: str
    acknowledged: list[Acknowledged] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, client: int) -> None:
        for i in range(EACH):
            if self.stop.is_set():
                return
            member = Member.joined(self.invite)
            name = f"load{client}n{i}"
            lease = member.lease(name, (f"word-{name}",))
            packed = member.pack(lease, seed=100 * client + i)
            receipt = patiently(member, packed)
            self.acknowledged.append(Acknowledged(member, packed, receipt, time.monotonic()))


def patiently(member: Member, packed: Packed) -> bytes:
    """Contribute, and come back when the coordinator says that it is busy."""
    while True:
        try:
            return member.contribute(packed)
        except Refused as error:
            if error.code != "busy":
                raise
            time.sleep(0.05)


def owner_with_receipt(home: Home, invite: str, name: str) -> None:
    """Join, lease and contribute as `client train` does, but for the training; keep the receipt."""
    joining.join(home, invite, url=None, patience_s=30)
    log, master = home.membership().log, Masters(home).newest()
    counter = Masters(home).next_counter(master)
    member = Member(Wire(Invite.from_text(invite)), master.member(log))
    key = master.client(log, counter)
    lease = member.lease(name, (f"word-{name}",), key=key)
    packed = member.pack(lease, seed=sum(name.encode()))
    receipt = member.contribute(packed)
    folder = home.run(name)
    digests = {}
    files = {state.BLOB: packed.blob, state.MANIFEST: packed.document, state.RECEIPT: receipt}
    for file, data in files.items():
        write_whole(folder / file, data)
        digests[file] = hashlib.sha256(data).hexdigest()
    session = Session(
        name,
        (f"word-{name}",),
        (1,),
        "thing",
        "0" * 32,
        counter,
        phase="receipted",
        slot=lease.slot,
        fence=lease.fence,
        blob=digests[state.BLOB],
        document=digests[state.MANIFEST],
        receipt=digests[state.RECEIPT],
    )
    state.save(folder, session)


def until_marked(mark: Path, *, leaves: int) -> None:
    """Wait until the mark on the other volume knows so many leaves: a thread writes it."""
    end_s = time.monotonic() + 60
    while json.loads(mark.read_bytes())["size"] < leaves:
        assert time.monotonic() < end_s, mark.read_text()
        time.sleep(0.05)


def promise(home: Home) -> tuple[str, str]:
    (row,) = status_of(home)["concepts"]
    return row["promise"], row["why"]


@dataclass
class Drill:
    folder: Path
    coordinator: Coordinator
    load: Load
    early: Home
    late: Home
    began_s: float
    ended_s: float
    made: dict
    restored: dict
    refused: tuple[int, str]
    forked: dict


@pytest.fixture(scope="module")
def drill(tmp_path_factory):
    """Do the whole drill once; the tests look at what came of it."""
    folder = tmp_path_factory.mktemp("drill")
    base = wide_base(folder / "base")
    mark = folder / "other-volume" / "mark"
    mark.parent.mkdir()
    options = ("--rank", "5", "--high-water", str(mark))
    with Coordinator.found(folder / "fed", base, *options) as coordinator:
        load = Load(coordinator.invite(uses=100))
        early, late = Home.at(folder / "early"), Home.at(folder / "late")
        owner_with_receipt(early, load.invite, "early-bird")
        with ThreadPoolExecutor(CLIENTS) as pool:
            running = [pool.submit(load.run, client) for client in range(CLIENTS)]
            while len(load.acknowledged) < CLIENTS:
                time.sleep(0.02)
            began_s = time.monotonic()
            made = run(
                "coordinator", "backup", str(folder / "fed"), "-o", str(folder / "backup"), "--json"
            )
            ended_s = time.monotonic()
            for each in running:
                each.result()
        owner_with_receipt(late, load.invite, "late-comer")
        until_marked(mark, leaves=2 + 2 * (2 + CLIENTS * EACH))  # it follows a receipt (heads.py)
        coordinator.kill()
        shutil.copytree(folder / "fed" / "keys", folder / "keys")
        shutil.rmtree(folder / "fed")
        restored = run(
            *("coordinator", "restore", str(folder / "backup"), str(folder / "fed")),
            *("--keys", str(folder / "keys"), "--json"),
        )
        refused = run(
            *("coordinator", "serve", str(folder / "fed"), "--listen", "127.0.0.1:0"), check=False
        )
        forked = run("coordinator", "fork", str(folder / "fed"), "--yes", "--json")
        coordinator.start()
        yield Drill(
            folder,
            coordinator,
            load,
            early,
            late,
            began_s,
            ended_s,
            json.loads(made.stdout),
            json.loads(restored.stdout),
            (refused.returncode, refused.stderr),
            json.loads(forked.stdout),
        )


def test_every_receipt_from_before_the_backup_is_honoured(drill, capsys):
    """The same bytes again for each of them; a load was on while the backup was made."""
    before = [each for each in drill.load.acknowledged if each.at_s < drill.began_s]
    during = [e for e in drill.load.acknowledged if drill.began_s <= e.at_s < drill.ended_s]

    answers = [again(each) for each in before]
    later = [e for e in drill.load.acknowledged if e.at_s >= drill.began_s]
    kept_later = sum(again(each) == each.receipt for each in later)

    with capsys.disabled():
        print(
            f"\n{len(before)} receipts before, {len(during)} during and {len(later) - len(during)}"
            f" after the backup; honoured {len(before)} and {kept_later} of the later ones"
        )
    assert answers == [each.receipt for each in before]
    assert len(before) >= CLIENTS
    assert drill.made["leaves"] == drill.restored["leaves"]


def again(each: Acknowledged) -> bytes:
    """Ask for the receipt once more, as a client that never got it would."""
    try:
        return each.member.commit(each.packed).receipt
    except OrthoFedError:
        return b""


def test_an_owner_whose_receipt_is_older_sees_it_kept(drill):
    """`client status` compares the receipt with what the coordinator has: the same."""
    assert promise(drill.early) == ("kept", "")


def test_an_owner_whose_receipt_is_newer_is_told_that_it_was_lost(drill):
    """The leaf that was promised, the size of the restored ledger, and where the proof lies."""
    kept, why = promise(drill.late)
    printed = run("client", "status", "--home", str(drill.late.folder)).stdout

    assert kept == "broken"
    assert "lost it" in why
    assert str(drill.restored["leaves"]) in why
    assert "receipt broken" in printed
    assert "is the proof" in printed


def test_a_mark_on_another_volume_refuses_the_restored_database_until_the_operator_says_so(drill):
    """Exit code 4 with the way out; `fork` goes on, and says in public how much is lost."""
    code, told = drill.refused
    forks = json.loads((drill.folder / "fed" / "public" / "forks.json").read_text())

    assert drill.restored["lost"] > 0
    assert code == 4
    assert "orthofed coordinator fork" in told
    assert drill.forked["lost"] == drill.restored["lost"]
    assert forks[0]["kept"] == drill.restored["leaves"]


def test_the_restored_coordinator_goes_on(drill):
    """It is healthy to the byte, and takes a new contribution."""
    member = Member.joined(drill.coordinator.invite())
    receipt = member.contribute(member.pack(member.lease("afterwards", ("word-after",))))

    found = json.loads(run("doctor", str(drill.folder / "fed"), "--json").stdout)

    assert member.check(receipt).leaf["kind"] == "contribution"
    assert found["healthy"]
    assert found["files"] > len(drill.load.acknowledged) // 2
