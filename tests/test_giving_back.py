"""`orthofed client give-back` against a real coordinator: the slot is free, the work stays."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orthofed.client.giving_back import GivenBack, give_back
from orthofed.client.session import Session
from orthofed.client.state import BLOB
from orthofed.coordinator import slot_rows
from orthofed.core.errors import InputError

from .owner import PATIENCE_S, Owner
from .serving import Running, founded, running


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Running]:
    with running(founded(tmp_path)) as started:
        yield started


@pytest.fixture
def owner(coordinator: Running, tmp_path: Path) -> Owner:
    return Owner.joined(tmp_path / "home", coordinator.invite())


def phase(coordinator: Running, session: Session) -> str:
    return coordinator.house.store.run(slot_rows.every)[session.slot].phase


def given(owner: Owner) -> GivenBack:
    return give_back(owner.home, "anna", patience_s=PATIENCE_S)


def test_a_lease_is_given_back_and_the_concept_can_begin_anew(
    coordinator: Running, owner: Owner
) -> None:
    """The name stays its owner's; the next lease has a client key and a request of its own."""
    session = owner.lease("anna")

    done = given(owner)
    free, fresh = phase(coordinator, session), owner.saved("anna")
    again = owner.ask(fresh)

    assert (done.slot, done.fence, free) == (session.slot, session.fence, "free")
    assert fresh.phase == "joined"
    assert (fresh.request, fresh.counter) != (session.request, session.counter)
    assert (again.slot, again.fence) == (session.slot, session.fence + 1)


def test_what_was_made_is_set_aside(coordinator: Running, owner: Owner) -> None:
    """Packed, approved, and not a byte of it sent: the blob lies beside the fresh session."""
    session = owner.pack("anna")
    blob = (owner.home.run("anna") / BLOB).read_bytes()

    given(owner)

    (kept,) = owner.home.run("anna").glob(f"lost-{session.fence}-{session.slot}-*/{BLOB}")
    assert kept.read_bytes() == blob
    assert not (owner.home.run("anna") / BLOB).exists()
    assert phase(coordinator, session) == "free"


def test_what_the_coordinator_took_stays(coordinator: Running, owner: Owner) -> None:
    """Killed between COMMIT and the receipt: the way out is a withdrawal, and it is named."""
    session = owner.send(owner.pack("anna"), keep=False)

    with pytest.raises(InputError, match="client withdraw anna") as refused:
        given(owner)

    assert refused.value.code == "nothing-to-give-back"
    assert phase(coordinator, session) == "filled"
    assert owner.saved("anna") == session


def test_a_slot_that_somebody_else_has_is_let_go(
    coordinator: Running, owner: Owner, tmp_path: Path
) -> None:
    """Given back on the way to a kill, and leased to another member meanwhile: theirs stays."""
    session = owner.lease("anna")
    owner.give_back(session)
    other = Owner.joined(tmp_path / "other", coordinator.invite())
    theirs = other.lease("bert")

    given(owner)

    assert (theirs.slot, phase(coordinator, theirs)) == (session.slot, "leased")
    assert owner.saved("anna").phase == "joined"


@pytest.mark.parametrize("stage", ["absent", "joined", "receipted"])
def test_without_a_lease_there_is_nothing_to_give_back(owner: Owner, stage: str) -> None:
    if stage == "joined":
        owner.lease("anna")
        given(owner)
    elif stage == "receipted":
        owner.contribute("anna")

    with pytest.raises(InputError) as refused:
        given(owner)

    assert refused.value.code == "nothing-to-give-back"


def test_the_command_prints_one_object(owner: Owner) -> None:
    session = owner.lease("anna")
    words = [sys.executable, "-P", "-m", "orthofed", "client", "give-back", "anna", "--json"]

    done = subprocess.run(
        [*words, "--home", str(owner.home.folder)], capture_output=True, text=True, check=True
    )

    assert json.loads(done.stdout) == {
        "schema": "orthofed.give-back/1",
        "concept": "anna",
        "slot": session.slot,
        "fence": session.fence,
    }
