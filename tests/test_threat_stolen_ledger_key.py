"""T25 at home: what the old ledger key signs after a rotation, no command of an owner believes.

The thief runs the very coordinator: its database, its certificate and its code, with the stolen
key in place of the new one. So keyrings and proofs are genuine, and receipts are not.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from orthofed.client import pinned
from orthofed.client.recovery import recover
from orthofed.client.status import status_of
from orthofed.client.train_command import train_concept
from orthofed.client.train_options import TrainOptions
from orthofed.client.trust import TrustedFederation, placed, trusted_federation
from orthofed.coordinator import keyring_proofs
from orthofed.coordinator.keyfile import find_key, load_key
from orthofed.coordinator.rowcheck import check_rows
from orthofed.core.document import parse
from orthofed.core.errors import VerificationFailed
from orthofed.core.keys import SigningKey
from orthofed.core.leaf import document_leaf
from orthofed.proto import methods, wire

from .coordinator_process import run
from .owner import PATIENCE_S, Owner
from .rotating import forged_receipt, rotate
from .serving import Running, founded, running


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Running]:
    with running(founded(tmp_path)) as started:
        yield started


def robbed(coordinator: Running) -> SigningKey:
    """Rotate the ledger key away; return the old one, which somebody has."""
    stolen = load_key(coordinator.folder.keys, "ledger")
    rotate(coordinator, ledger=True)
    return stolen


def load_key_now(coordinator: Running) -> SigningKey:
    """Return the ledger key of the newest keyring."""
    return find_key(coordinator.folder.keys, "ledger", (coordinator.house.facts.ring.ledger,))


def train(owner: Owner, concept: str) -> None:
    """Run `orthofed client train` for what is packed and approved: it uploads and is done."""
    nowhere = owner.home.folder / "none"
    options = TrainOptions(
        concept=concept,
        noun="person",
        images=nowhere,
        base=nowhere,
        triggers=(f"{concept}-k7",),
        vectors=1,
    )
    train_concept(
        owner.home, options, report=lambda _: None, ask=lambda _: True, patience_s=PATIENCE_S
    )


def reply_of(coordinator: Running) -> wire.SpecReply:
    link = coordinator.member().link
    return link.call(methods.GET_SPEC, wire.SpecRequest(), wire.SpecReply)


def federation_of(coordinator: Running, proofs: tuple[bytes, ...]) -> TrustedFederation:
    reply = reply_of(coordinator)
    trusted = trusted_federation(coordinator.house.facts.log, reply.spec, reply.keyrings)
    return placed(trusted, reply.keyrings, proofs)


def test_what_a_stolen_ledger_key_signs_is_refused_by_train_status_withdraw_and_recover(
    coordinator, tmp_path
):
    """One contribution from before the rotation, one that the thief gave a receipt for.

    Train keeps no receipt; status says that none of the pinned ledger is there, withdraw takes no
    receipt for the withdrawal, recover none for the contribution. With the true key train ends.
    """
    owner = Owner.joined(tmp_path / "home", coordinator.invite())
    owner.contribute("anna")
    stolen = robbed(coordinator)
    mine = load_key_now(coordinator)
    owner.pack("bert")
    coordinator.house.ledger.take_over(stolen)

    with pytest.raises(VerificationFailed, match=r"receipt: .*not signed by this ledger"):
        train(owner, "bert")
    told = {row["concept"]: row for row in status_of(owner.home)["concepts"]}
    with pytest.raises(
        VerificationFailed, match=r"withdrawal receipt: .*not signed by this ledger"
    ):
        owner.withdraw("anna")
    with pytest.raises(VerificationFailed, match=r"receipt: .*not signed by this ledger"):
        recover(owner.home, patience_s=PATIENCE_S)

    assert not (owner.home.run("bert") / "receipt").exists()
    assert owner.saved("bert").phase == "approved"
    assert (told["anna"]["state"], told["anna"]["promise"]) == ("accepted", "kept")
    assert (told["bert"]["state"], told["bert"]["promise"]) == ("unknown", "broken")
    assert "not signed by this ledger" in told["bert"]["why"]
    assert owner.saved("anna").phase == "withdrawing"
    coordinator.house.ledger.take_over(mine)
    owner.pack("cleo")
    train(owner, "cleo")
    assert owner.saved("cleo").phase == "receipted"


def test_a_kept_receipt_by_the_stolen_key_is_told_even_if_the_coordinator_honours_it(
    coordinator, tmp_path
):
    """A home of an earlier version kept it unchecked: equal bytes are no proof."""
    owner = Owner.joined(tmp_path / "home", coordinator.invite())
    coordinator.house.ledger.take_over(robbed(coordinator))
    owner.contribute("bert")

    (row,) = status_of(owner.home)["concepts"]
    with pytest.raises(VerificationFailed, match="not signed by this ledger"):
        owner.withdraw("bert")

    assert (row["state"], row["promise"]) == ("unknown", "broken")


def test_a_home_does_not_go_back_behind_a_keyring_that_it_has_seen(coordinator, tmp_path):
    """T16: the thief hides the second keyring, so that its key would be the one in force."""
    owner = Owner.joined(tmp_path / "home", coordinator.invite())
    owner.contribute("anna")
    stolen = robbed(coordinator)
    status_of(owner.home)
    seen = len(owner.home.keyrings())
    facts = coordinator.house.facts
    coordinator.house.facts = replace(facts, keyrings=facts.keyrings[:1], keyring_proofs=())
    coordinator.house.ledger.take_over(stolen)

    with pytest.raises(VerificationFailed, match="do not continue the 2 seen before"):
        owner.withdraw("anna")
    with pytest.raises(VerificationFailed, match="do not continue"):
        Owner.joined(owner.home.folder, coordinator.invite())
    (row,) = status_of(owner.home)["concepts"]

    assert seen == 2
    assert "do not continue" in row["why"]
    assert owner.saved("anna").phase == "receipted"


def test_a_home_takes_no_keyring_that_has_run_out(coordinator, tmp_path, monkeypatch):
    """The bound of a thief who keeps newer keyrings from a home: a year, as founded; then nothing.

    The home is told what is wrong before anything is sent in its name.
    """
    owner = Owner.joined(tmp_path / "home", coordinator.invite())
    owner.contribute("anna")
    later = SimpleNamespace(time=lambda: time.time() + 366 * 86_400)
    monkeypatch.setattr(pinned, "time", later)

    with pytest.raises(VerificationFailed, match="check failed: expiry: keyring 1 ran out"):
        owner.withdraw("anna")
    (row,) = status_of(owner.home)["concepts"]

    assert (row["state"], owner.saved("anna").phase) == ("unknown", "receipted")
    assert "ran out" in row["why"]


def test_the_place_of_a_keyring_cannot_be_moved_by_an_older_key(coordinator):
    """Missing, too many, in another order, of another leaf, by the stolen key: each is refused."""
    stolen = robbed(coordinator)
    rotate(coordinator, release=True)
    reply = reply_of(coordinator)
    second, third = reply.keyring_proofs
    body = document_leaf(parse(reply.keyrings[1], kind="keyring"))
    moved = forged_receipt(stolen, coordinator.house.facts.log, body, 60)

    later = document_leaf(parse(reply.keyrings[2], kind="keyring"))
    mine = load_key_now(coordinator)
    late_and_early = tuple(
        forged_receipt(mine, coordinator.house.facts.log, leaf, size)
        for leaf, size in ((body, 60), (later, 40))
    )

    assert federation_of(coordinator, (second, third)).keyring_leaves == (1, 2, 3)
    for proofs, said in (
        ((), "0 proofs for 3 keyrings"),
        ((second,), "1 proofs"),
        ((second, third, third), "3 proofs"),
        ((third, second), "another one than the keyring's"),
        ((moved, third), "not signed by this ledger"),
        (late_and_early, "follows leaf 59"),
    ):
        with pytest.raises(VerificationFailed, match=f"check failed: keyring proof: .*{said}"):
            federation_of(coordinator, proofs)


def test_a_start_proves_the_keyrings_of_an_earlier_version(tmp_path):
    """Formats before 5 had none: the first start makes them, once, and an owner goes on."""
    folder = founded(tmp_path)
    with running(folder) as coordinator:
        rotate(coordinator, ledger=True)
        owner = Owner.joined(tmp_path / "home", coordinator.invite())
        coordinator.house.store.run(lambda db: db.execute("DELETE FROM keyring_proof"))
        assert not list(coordinator.house.store.run(lambda db: [*check_rows(db)]))
    with running(folder) as coordinator:
        found = coordinator.house.store.run(keyring_proofs.stored)
        joined = Owner.joined(tmp_path / "other", coordinator.invite())
        joined.contribute("anna")
        (row,) = status_of(joined.home)["concepts"]

    assert len(found) == 1
    assert owner.federation.keyring_leaves == joined.federation.keyring_leaves == (1, 2)
    assert row["promise"] == "kept"


def test_the_doctor_names_a_proof_of_another_place(tmp_path):
    """The proofs of two keyrings, exchanged: what is told to homes is checked too."""
    folder = founded(tmp_path)
    with running(folder) as coordinator:
        rotate(coordinator, ledger=True)
        rotate(coordinator, release=True)

        def exchange(db) -> None:
            second, third = keyring_proofs.stored(db)
            for n, proof in ((2, third), (3, second)):
                db.execute("UPDATE keyring_proof SET proof = ? WHERE n = ?", (proof, n))

        coordinator.house.store.run(exchange)

    done = run("doctor", str(folder.root), "--json", check=False)
    told = [each["what"] for each in json.loads(done.stdout)["findings"]]

    assert done.returncode == 4
    assert told == [
        "the proof of keyring 2 is of leaf 3, another one",
        "the proof of keyring 3 is of leaf 2, another one",
    ]
