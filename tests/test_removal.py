"""How contributions and their blobs leave: by their client's word, once, and not too early."""

import fcntl
from dataclasses import replace

import pytest

from orthofed.coordinator import slot_rows, upload_rows
from orthofed.coordinator.removal import Removal
from orthofed.coordinator.sweeper import removal_lock
from orthofed.core.document import sign
from orthofed.core.errors import Refused, VerificationFailed
from orthofed.core.receipt import verify_receipt
from orthofed.core.withdrawal import Withdrawal
from orthofed.proto import wire

from .member import Leased, Member
from .seeded import Bug
from .serving import Running, founded, running


@pytest.fixture
def coordinator(tmp_path):
    with running(founded(tmp_path)) as started:
        yield started


def contributed(coordinator: Running, name: str = "anna") -> tuple[Member, Leased, int, str]:
    """Lease and contribute; return member, lease, leaf and the blob's name."""
    member = coordinator.member()
    lease = member.lease(name, (f"{name}-k7",))
    packed = member.pack(lease, seed=sum(name.encode()))
    leaf = member.check(member.contribute(packed)).index
    upload = coordinator.house.store.run(lambda db: upload_rows.at(db, lease.slot, lease.fence))
    assert upload is not None
    return member, lease, leaf, upload.blob


def word(coordinator: Running, lease: Leased, leaf: int, **changed) -> bytes:
    facts = coordinator.house.facts
    said = Withdrawal(lease.key.public_hex, facts.spec.id, leaf, facts.log, t=1_790_000_000)
    return sign("withdrawal", replace(said, **changed).body(), [lease.key]).to_bytes()


def phase(coordinator: Running, lease: Leased) -> str:
    return coordinator.house.store.run(slot_rows.every)[lease.slot].phase


def test_a_withdrawal_before_any_release_frees_slot_and_blob(coordinator):
    """The receipt proves the leaf; a retry gets the same one; status says withdrawn."""
    member, lease, leaf, blob = contributed(coordinator)
    removal = Removal(coordinator.house)
    asked = word(coordinator, lease, leaf)

    receipt = removal.withdraw(asked)
    again = removal.withdraw(asked)
    swept = coordinator.house.sweep()

    facts = coordinator.house.facts
    proved = verify_receipt(receipt, log=facts.log, ledger_key=facts.ring.ledger)
    assert proved.leaf["kind"] == "withdrawal"
    assert again == receipt
    assert phase(coordinator, lease) == "free"
    assert member.status(lease).state == "withdrawn"
    assert (swept, coordinator.folder.blob(blob).exists()) == (1, False)


def test_a_released_contribution_keeps_slot_and_blob_until_a_release_without_it(coordinator):
    """I5: emptying, blob there; after the next release the slot is free and the blob is gone."""
    _, lease, leaf, blob = contributed(coordinator)
    contributed(coordinator, "bert")
    coordinator.release()
    Removal(coordinator.house).withdraw(word(coordinator, lease, leaf))
    coordinator.house.sweep()
    before = (phase(coordinator, lease), coordinator.folder.blob(blob).exists())

    made = coordinator.release()

    assert before == ("emptying", True)
    assert made["concepts"] == 1
    assert (phase(coordinator, lease), coordinator.folder.blob(blob).exists()) == ("free", False)


def test_nobody_withdraws_what_is_not_its_own(coordinator):
    """Another client's leaf, a lease's leaf, another log, a foreign signature: all refused."""
    _, lease, leaf, _ = contributed(coordinator)
    _, other, _, _ = contributed(coordinator, "bert")
    removal = Removal(coordinator.house)

    for asked in (
        word(coordinator, other, leaf),
        word(coordinator, lease, leaf - 1),
        word(coordinator, lease, leaf, log="0" * 64),
    ):
        with pytest.raises(Refused):
            removal.withdraw(asked)
    with pytest.raises(VerificationFailed):
        removal.withdraw(word(coordinator, lease, leaf, client=other.key.public_hex))
    assert phase(coordinator, lease) == "filled"


def test_anothers_word_is_not_sent_for_it(coordinator):
    """T2: a signed word that somebody came by is no word of whoever calls with it."""
    _, lease, leaf, _ = contributed(coordinator)
    _, other, _, _ = contributed(coordinator, "bert")
    request = wire.WithdrawRequest(word(coordinator, lease, leaf))
    removal = Removal(coordinator.house)

    with pytest.raises(Refused) as refused:
        removal.asked(other.key.public_hex, request)

    assert refused.value.code == "not-found"
    assert phase(coordinator, lease) == "filled"
    assert removal.asked(lease.key.public_hex, request).receipt


def test_a_rejection_frees_the_slot_and_keeps_the_blob(coordinator):
    """The operator's word, twice: once is enough; the bytes stay for whoever asks why."""
    member, lease, leaf, blob = contributed(coordinator)
    removal = Removal(coordinator.house)

    removal.reject(leaf, why="not what it says")
    removal.reject(leaf, why="again")
    coordinator.house.sweep()

    assert phase(coordinator, lease) == "free"
    assert member.status(lease).why == "not what it says"
    assert coordinator.folder.blob(blob).exists()


def test_blobs_without_a_row_go_and_those_of_an_upload_under_way_stay(coordinator):
    """A kill between link and COMMIT: kept while its lease stands, removed once that is lost."""
    member = coordinator.member()
    lease = member.lease()
    packed = member.pack(lease)
    member.begin(packed)
    house = coordinator.house
    mine = house.store.run(lambda db: upload_rows.at(db, lease.slot, lease.fence)).blob
    coordinator.folder.blob(mine).write_bytes(b"linked, then killed")
    coordinator.folder.blob("e" * 64).write_bytes(b"nobody's")

    first = house.sweep()
    stays = coordinator.folder.blob(mine).exists()
    coordinator.clock.moved_s += 10**6
    for _ in range(house.facts.spec.capacity):  # until the late slot is given to somebody else
        if house.store.run(slot_rows.every)[lease.slot].fence == lease.fence:
            name = f"c{_}x"
            coordinator.member().lease(name, (f"trig-{name}",))

    assert (first, stays, house.sweep()) == (1, True, 1)


def blob_swept_during_backup(coordinator: Running) -> bool:
    """Hold the lock as a backup does and sweep; return whether a blob went meanwhile."""
    _, lease, leaf, blob = contributed(coordinator)
    Removal(coordinator.house).withdraw(word(coordinator, lease, leaf))
    with removal_lock(coordinator.folder, fcntl.LOCK_SH):
        coordinator.house.sweep()
        return not coordinator.folder.blob(blob).exists()


def test_no_blob_goes_while_a_backup_is_made(coordinator):
    """The backup holds the lock: nothing is removed; afterwards it is."""
    assert not blob_swept_during_backup(coordinator)
    assert coordinator.house.sweep() == 1


def test_a_full_disk_can_be_swept(coordinator):
    """No name is made by a sweep: its lock is there from the start, before the disk was full."""
    assert coordinator.folder.removal_lock.is_file()


@pytest.mark.parametrize("name", ["removal-during-backup"])
def test_a_seeded_bug_of_removal_is_caught(coordinator, name, monkeypatch):
    """The sweeper does not ask for the lock: the blob goes under the backup's hands."""
    with Bug.named(name).in_process():
        from orthofed.coordinator import house, sweeper  # noqa: PLC0415  # the patched one

        monkeypatch.setattr(house, "sweep", sweeper.sweep)
        assert blob_swept_during_backup(coordinator)
