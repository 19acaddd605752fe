"""`orthofed client withdraw` against a real coordinator: exact, once, and proved.

The federation runs in this process over TLS; homes and calls are the client's own. What is learnt
is random numbers (owner.py), what is released are real files.
"""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orthofed.client.channel import Channel
from orthofed.client.session import Session
from orthofed.client.state import BLOB, WITHDRAWAL, WITHDRAWAL_RECEIPT, save
from orthofed.client.status import status_of
from orthofed.client.trust import trusted_withdrawal
from orthofed.client.withdrawal import withdraw
from orthofed.coordinator import slot_rows
from orthofed.coordinator.cli import app
from orthofed.coordinator.control import ControlServer
from orthofed.coordinator.releasing import publish_newest
from orthofed.coordinator.removal import Removal
from orthofed.core.canonical import decode, encode
from orthofed.core.document import parse, sign
from orthofed.core.errors import InputError, Refused, VerificationFailed
from orthofed.core.release import ReleaseManifest
from orthofed.core.withdrawal import Withdrawal
from orthofed.proto import methods, wire

from .owner import PATIENCE_S, Owner
from .serving import Running, founded, running

LAMBDA = 614


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Running]:
    with running(founded(tmp_path)) as started:
        yield started


def joined(coordinator: Running, path: Path) -> Owner:
    return Owner.joined(path, coordinator.invite())


def kinds(coordinator: Running) -> list[str]:
    rows = coordinator.house.store.run(
        lambda db: db.execute("SELECT kind FROM leaf ORDER BY idx").fetchall()
    )
    return [row[0] for row in rows]


def phase(coordinator: Running, session: Session) -> str:
    return coordinator.house.store.run(slot_rows.every)[session.slot].phase


def blob_of(coordinator: Running, session: Session) -> Path:
    return coordinator.folder.blob(session.blob)


def test_a_withdrawal_gives_a_receipt_that_verifies_offline(coordinator, tmp_path):
    """Lease, upload, withdraw: the home keeps word and receipt, and status shows both."""
    owner = joined(coordinator, tmp_path / "home")
    session = owner.contribute("anna")
    folder = owner.home.run("anna")

    done = owner.withdraw("anna")

    receipt = (folder / WITHDRAWAL_RECEIPT).read_bytes()
    client = owner.key(session).public_hex
    proved = trusted_withdrawal(
        owner.federation, receipt, client=client, leaf=done.contribution.leaf
    )
    assert proved.index == done.leaf
    assert proved.leaf["doc"] == decode((folder / WITHDRAWAL).read_bytes())
    assert hashlib.sha256(receipt).hexdigest() == done.sha256
    (row,) = status_of(owner.home)["concepts"]
    assert (row["phase"], row["state"], row["promise"]) == ("withdrawn", "withdrawn", "kept")
    assert row["withdrawal"] == done.sha256
    with pytest.raises(VerificationFailed):
        trusted_withdrawal(owner.federation, receipt, client=client, leaf=1)


def test_before_any_release_the_slot_is_free_and_the_blob_gone_at_once(coordinator, tmp_path):
    """Nobody ever saw it: nothing is waited for; the ledger keeps the manifest's hash alone."""
    owner = joined(coordinator, tmp_path / "home")
    session = owner.contribute("anna")
    before = blob_of(coordinator, session).exists()

    done = owner.withdraw("anna")

    assert (before, blob_of(coordinator, session).exists()) == (True, False)
    assert phase(coordinator, session) == "free"
    leaves = coordinator.house.store.run(
        lambda db: [row[0] for row in db.execute("SELECT body FROM leaf")]
    )
    blob = (owner.home.run("anna") / BLOB).read_bytes()
    assert session.blob.encode() in leaves[done.contribution.leaf]
    assert not any(blob[at : at + 64] in body for body in leaves for at in range(0, 4096, 64))


def test_asked_twice_at_once_there_is_one_leaf_and_one_receipt(coordinator, tmp_path):
    """Two words of one key in flight together, then one more: all get the first one's receipt."""
    owner = joined(coordinator, tmp_path / "home")
    session = owner.contribute("anna")
    key, facts = owner.key(session), coordinator.house.facts
    leaf = kinds(coordinator).index("contribution")
    said = Withdrawal(key.public_hex, facts.spec.id, leaf, facts.log, t=1_790_000_000)
    receipts: list[bytes] = []

    def ask(channel: Channel, t: int) -> None:
        request = wire.WithdrawRequest(
            sign("withdrawal", replace(said, t=t).body(), [key]).to_bytes()
        )
        reply = channel.call(methods.WITHDRAW, request, wire.WithdrawReply, key=key)
        receipts.append(reply.receipt)

    with owner.channel() as one:  # a home has one sender, so one outbox: its threads share it
        threads = [threading.Thread(target=ask, args=(one, 1_790_000_000 + n)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    done = owner.withdraw("anna")

    assert kinds(coordinator).count("withdrawal") == 1
    assert (len(receipts), len(set(receipts))) == (2, 1)
    assert hashlib.sha256(receipts[0]).hexdigest() == done.sha256


def test_absent_and_forbidden_leaves_get_one_answer(coordinator, tmp_path):
    """T20: another's leaf, a lease's leaf, one that is not there yet: equal status, code and text.

    A word that another key signed, sent by this one, is no better.
    """
    owner, other = joined(coordinator, tmp_path / "a"), joined(coordinator, tmp_path / "b")
    mine, _theirs = owner.contribute("anna", seed=1), other.contribute("bert", seed=2)
    facts = coordinator.house.facts
    leaves = [i for i, kind in enumerate(kinds(coordinator)) if kind == "contribution"]
    key = owner.key(mine)
    said = Withdrawal(key.public_hex, facts.spec.id, leaves[0], facts.log, t=1_790_000_000)
    theirs = other.key(other.saved("bert"))
    words = [
        sign("withdrawal", replace(said, leaf=leaf).body(), [key])
        for leaf in (leaves[1], leaves[0] - 1, 10**6)
    ]
    words.append(sign("withdrawal", replace(said, client=theirs.public_hex).body(), [theirs]))
    words.append(sign("withdrawal", replace(said, log="0" * 64).body(), [key]))

    answers = set()
    with owner.channel() as channel:
        for word in words:
            request = wire.WithdrawRequest(word.to_bytes())
            with pytest.raises(Refused) as refused:
                channel.call(methods.WITHDRAW, request, wire.WithdrawReply, key=key)
            answers.add((refused.value.code, str(refused.value)))

    assert {code for code, _ in answers} == {"not-found"}
    assert len(answers) == 1
    assert "withdrawal" not in kinds(coordinator)


def test_no_release_after_a_withdrawal_holds_it_however_old_its_plan(coordinator, tmp_path):
    """An open plan keeps the slot (I5); the release that comes of it is planned anew, without."""
    anna, bert = joined(coordinator, tmp_path / "a"), joined(coordinator, tmp_path / "b")
    anna.contribute("anna", seed=1)
    session = bert.contribute("bert", seed=2)
    coordinator.desk.ask("plan", {"lambda_1024": 700})
    (coordinator.folder.releases / "1").mkdir()  # as a kill after the build leaves it
    (coordinator.folder.releases / "1" / "bert").write_bytes(b"its concept")

    bert.withdraw("bert")
    during = (phase(coordinator, session), blob_of(coordinator, session).exists())
    made = publish_newest(
        coordinator.folder, coordinator.desk, lambda_1024=None, resume=True, say=lambda _: None
    )

    assert during == ("emptying", True)
    assert (made["n"], made["concepts"], made["new"]) == (1, 1, True)
    assert (phase(coordinator, session), blob_of(coordinator, session).exists()) == ("free", False)
    manifest = manifest_of(coordinator, 1)
    assert manifest.left_out == ((5, "withdrawn"),)
    assert manifest.contributions == ((3, 700),), "the lambda that was asked for"
    assert not (coordinator.folder.releases / "1" / "bert").exists()


def test_what_is_withdrawn_while_its_release_is_built_is_not_published(coordinator, tmp_path):
    """The last look is in the very transaction that publishes."""
    anna, bert = joined(coordinator, tmp_path / "a"), joined(coordinator, tmp_path / "b")
    anna.contribute("anna", seed=1)
    session = bert.contribute("bert", seed=2)
    said: list[str] = []

    def say(what: str) -> None:
        if what == "hashing" and what not in said:
            bert.withdraw("bert")
        said.append(what)

    made = publish_newest(
        coordinator.folder, coordinator.desk, lambda_1024=LAMBDA, resume=False, say=say
    )

    assert [said.count(what) for what in ("hashing", "checking the base model")] == [2, 2]
    assert any("taken out while release 1 was built" in what for what in said)
    assert (made["n"], made["concepts"], made["new"]) == (1, 1, True)
    assert manifest_of(coordinator, 1).left_out == ((5, "withdrawn"),)
    assert phase(coordinator, session) == "free"


def test_a_plan_that_holds_nothing_any_more_is_given_up(coordinator, tmp_path):
    """Nothing is released, and no slot waits for it; until then `status` tells of the plan."""
    owner = joined(coordinator, tmp_path / "home")
    session = owner.contribute("anna")
    coordinator.desk.ask("plan", {"lambda_1024": LAMBDA})
    for built in ("1", ".1.tmp"):  # as kills leave them, before and in a build
        (coordinator.folder.releases / built).mkdir()
        (coordinator.folder.releases / built / "anna").write_bytes(b"her concept")
    owner.withdraw("anna")
    control = ControlServer(coordinator.folder.control, lambda _: coordinator.desk)
    try:
        told = CliRunner().invoke(app, ["status", str(coordinator.folder.root)]).stdout
    finally:
        control.close()
    assert "one more is planned and not out" in told

    with pytest.raises(Refused) as refused:
        coordinator.release(LAMBDA)

    assert refused.value.code == "nothing-to-release"
    assert phase(coordinator, session) == "free"
    assert not coordinator.desk.status()["plan_open"]
    assert [*coordinator.folder.releases.iterdir()] == []


def test_a_release_that_waited_for_another_one_is_not_made_twice(coordinator, tmp_path):
    """Two commands at once: one builds, the other waits and finds nothing new."""
    joined(coordinator, tmp_path / "home").contribute("anna")
    made: dict[str, object] = {}
    said: list[str] = []

    def once(what: str) -> None:
        if what == "hashing":
            other.start()
            wait_until(lambda: "another process" in " ".join(said))

    def publish(who: str, say: Callable[[str], None]) -> None:
        made[who] = publish_newest(
            coordinator.folder, coordinator.desk, lambda_1024=LAMBDA, resume=False, say=say
        )["new"]

    other = threading.Thread(target=publish, args=("waiting", said.append))
    publish("first", once)
    other.join()

    assert made == {"first": True, "waiting": False}
    assert coordinator.desk.status()["newest_release"] == 1


def test_a_disk_without_room_for_the_lock_of_a_release_is_said(coordinator, tmp_path, monkeypatch):
    """R2: it was called a fault of the coordinator's."""
    joined(coordinator, tmp_path / "home").contribute("anna")
    opened = os.open

    def full(path: Path, *rest: int) -> int:
        if path == coordinator.folder.release_lock:
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, *rest)

    monkeypatch.setattr(os, "open", full)

    with pytest.raises(Refused) as caught:
        publish_newest(
            coordinator.folder, coordinator.desk, lambda_1024=LAMBDA, resume=False, say=print
        )

    assert caught.value.code == "no-room"


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def manifest_of(coordinator: Running, n: int) -> ReleaseManifest:
    """Return what a published release says of itself."""
    path = coordinator.folder.releases / str(n) / "manifest.json"
    return ReleaseManifest.from_document(parse(path.read_bytes(), kind="release"))


def test_a_rejected_contribution_can_be_withdrawn_too(coordinator, tmp_path):
    """The operator said no and kept the bytes; the owner's word deletes them."""
    owner = joined(coordinator, tmp_path / "home")
    session = owner.contribute("anna")
    leaf = kinds(coordinator).index("contribution")
    Removal(coordinator.house).reject(leaf, why="not what it says")
    kept = blob_of(coordinator, session).exists()

    owner.withdraw("anna")

    assert (kept, blob_of(coordinator, session).exists()) == (True, False)
    assert status_of(owner.home)["concepts"][0]["state"] == "withdrawn"


def test_a_withdrawn_concept_can_be_taught_anew_by_its_owner_alone(coordinator, tmp_path):
    """reliability.md 3: to replace a contribution, withdraw, then lease again; T23 for others."""
    owner, other = joined(coordinator, tmp_path / "a"), joined(coordinator, tmp_path / "b")
    first = owner.contribute("anna", seed=1)
    coordinator.release(LAMBDA)
    with pytest.raises(Refused) as early:
        owner.lease("anna")
    owner.withdraw("anna")

    with pytest.raises(Refused) as taken:
        other.lease("anna-2", ("anna-k7",))
    second = owner.contribute("anna", seed=2)
    made = coordinator.release(LAMBDA)

    assert (early.value.code, taken.value.code) == ("name-taken", "name-taken")
    assert second.slot != first.slot  # the newest release held the old one still
    assert made["concepts"] == 1
    assert phase(coordinator, first) == "free"


def test_an_upload_whose_receipt_never_arrived_can_be_withdrawn(coordinator, tmp_path):
    """Killed between COMMIT and the receipt's save: the coordinator is asked what became of it."""
    owner = joined(coordinator, tmp_path / "home")
    session = owner.pack("anna")
    owner.send(session, keep=False)

    done = owner.withdraw("anna")

    assert kinds(coordinator)[done.leaf] == "withdrawal"
    assert owner.saved("anna").phase == "withdrawn"


@pytest.mark.parametrize("stage", ["absent", "leased", "approved"])
def test_what_the_coordinator_never_took_cannot_be_withdrawn(coordinator, tmp_path, stage):
    """No such concept, a lease alone, a packed contribution: wrong usage, with the way out."""
    owner = joined(coordinator, tmp_path / "home")
    if stage != "absent":
        (owner.lease if stage == "leased" else owner.pack)("anna")

    with pytest.raises(InputError) as refused:
        owner.withdraw("anna")

    assert refused.value.code == "nothing-to-withdraw"
    assert refused.value.fix
    assert "withdrawal" not in kinds(coordinator)


def test_an_owner_who_says_no_sends_nothing(coordinator, tmp_path):
    """The question names slot and leaf; a no changes nothing, here or there."""
    owner = joined(coordinator, tmp_path / "home")
    session = owner.contribute("anna")
    asked = []

    with pytest.raises(InputError) as refused:
        withdraw(owner.home, "anna", ask=lambda c: bool(asked.append(c)), patience_s=PATIENCE_S)

    assert refused.value.code == "withdrawal-declined"
    assert (asked[0].concept, asked[0].slot) == ("anna", session.slot)
    assert owner.saved("anna").phase == "receipted"
    assert "withdrawal" not in kinds(coordinator)


def test_a_coordinator_that_lost_the_withdrawal_is_told_again(tmp_path):
    """Restored from a copy made before: status says broken, and the same word is sent once more."""
    folder = founded(tmp_path)
    with running(folder) as coordinator:
        owner = joined(coordinator, tmp_path / "home")
        owner.contribute("anna")
    shutil.copytree(folder.data, tmp_path / "copy")
    mark = folder.mark_file().read_bytes()
    with running(folder) as coordinator:
        moved(owner, coordinator)
        first = owner.withdraw("anna")
    shutil.rmtree(folder.data)
    shutil.copytree(tmp_path / "copy", folder.data)
    folder.mark_file().write_bytes(mark)  # as `coordinator fork` does: it goes on from the copy
    word = (owner.home.run("anna") / WITHDRAWAL).read_bytes()
    with running(folder) as coordinator:
        moved(owner, coordinator)
        (row,) = status_of(owner.home)["concepts"]
        second = owner.withdraw("anna")

        assert (row["state"], row["promise"]) == ("accepted", "broken")
        assert "run orthofed client withdraw anna again" in row["why"]
        assert kinds(coordinator).count("withdrawal") == 1
    assert first.contribution == second.contribution
    assert (owner.home.run("anna") / WITHDRAWAL).read_bytes() == word


def moved(owner: Owner, coordinator: Running) -> None:
    """Let the home know the coordinator's new port."""
    path = owner.home.folder / "federation.json"
    record = decode(path.read_bytes())
    assert isinstance(record, dict)
    record["address"] = f"127.0.0.1:{coordinator.server.port}"
    path.write_bytes(encode(record))


KILLED = """
import os, signal, sys
from pathlib import Path
left = int(sys.argv[3])
def hook(event, args):
    global left
    if event == "os.rename":
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
from orthofed.client.home import Home
from orthofed.client.withdrawal import withdraw
print(withdraw(Home.at(Path(sys.argv[1])), sys.argv[2], ask=lambda _: True, patience_s=20).sha256)
"""


def test_a_client_killed_before_any_of_its_renames_goes_on(coordinator, tmp_path):
    """SIGKILL at the first, second, ... name that would appear: a rerun ends with one leaf each.

    A word that is on the disk is the word that is sent, whatever was killed.
    """
    owner = joined(coordinator, tmp_path / "home")
    killed, ended = 0, False
    for number in range(20):
        concept = f"wren{number}x"
        owner.contribute(concept, seed=number)
        ended = killed_withdrawal(owner, concept, number) == 0
        if ended:
            break
        killed += 1
        folder = owner.home.run(concept)
        word = (folder / WITHDRAWAL).read_bytes() if (folder / WITHDRAWAL).exists() else b""

        owner.withdraw(concept)

        assert owner.saved(concept).phase == "withdrawn"
        assert kinds(coordinator).count("withdrawal") == number + 1
        if word and owner.saved(concept).withdrawal == hashlib.sha256(word).hexdigest():
            assert (folder / WITHDRAWAL).read_bytes() == word
    assert killed >= 5
    assert ended


def killed_withdrawal(owner: Owner, concept: str, before: int) -> int:
    """Withdraw in a process that is killed before its rename number ``before``; its exit code."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", KILLED, str(owner.home.folder), concept, str(before)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def test_the_command_asks_explains_and_prints(coordinator, tmp_path):
    """Without a terminal --yes is needed; with it the permitted words, then one JSON object."""
    owner = joined(coordinator, tmp_path / "home")
    session = owner.contribute("anna")
    base = [sys.executable, "-P", "-m", "orthofed", "client", "withdraw", "anna"]
    base += ["--home", str(owner.home.folder), "--json"]

    unasked = subprocess.run(base, capture_output=True, text=True, check=False)
    done = subprocess.run([*base, "--yes"], capture_output=True, text=True, check=False)
    again = subprocess.run([*base, "--yes"], capture_output=True, text=True, check=False)

    assert unasked.returncode == 2
    assert json.loads(unasked.stdout)["error"]["code"] == "option-missing"
    assert done.returncode == again.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == json.loads(again.stdout)
    assert (told["schema"], told["slot"]) == ("orthofed.withdraw/1", session.slot)
    assert (
        "After a withdrawal the next release is byte-identical to one that never had it."
        " Copies already downloaded remain." in done.stderr
    )


def test_the_operator_sees_how_many_left(coordinator, tmp_path):
    """`coordinator status` counts contributions by state."""
    owner = joined(coordinator, tmp_path / "home")
    owner.contribute("anna")
    owner.withdraw("anna")

    assert coordinator.desk.status()["contributions"] == {"withdrawn": 1}


def test_a_home_saved_by_an_earlier_version_is_read(coordinator, tmp_path):
    """A state without the fields of withdrawals loads, and can be withdrawn."""
    owner = joined(coordinator, tmp_path / "home")
    session = owner.contribute("anna")
    folder = owner.home.run("anna")
    save(folder, session)
    body = decode((folder / "state.json").read_bytes().split(b"\n")[0])
    assert isinstance(body, dict)
    saved = body["session"]
    assert isinstance(saved, dict)
    del saved["withdrawal"], saved["withdrawal_receipt"]
    line = encode(body)
    digest = hashlib.sha256(line).hexdigest().encode()
    (folder / "state.json").write_bytes(line + b"\n" + digest + b"\n")

    assert owner.withdraw("anna").contribution.slot == session.slot
