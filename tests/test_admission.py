"""Admission end to end: quarantine with a reason, approve, reject, and the ledger."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from orthofed.coordinator import contribution_rows, publications, slot_rows
from orthofed.coordinator.rowcheck import check_rows
from orthofed.core.errors import InputError, Refused
from orthofed.core.leaf import parse_leaf
from orthofed.core.quantise import quantise
from orthofed.core.sizes import _norms, _share
from orthofed.core.standing import standings

from .lenient import ANYTHING
from .member import Leased, Member, random_blob
from .serving import Running, founded, running

LOUD = replace(ANYTHING, embedding_percent=400)


@pytest.fixture
def coordinator(tmp_path):
    with running(founded(tmp_path, policy=LOUD)) as started:
        yield started


def contributed(
    coordinator: Running, name: str = "anna", *, size: float = 0.02, loud: bool = False
) -> tuple[Member, Leased, int]:
    """Contribute random numbers; ``loud``: with vectors longer than any word's."""
    member = coordinator.member()
    lease = member.lease(name, (f"{name}-k7",))
    blob = random_blob(
        member.spec(),
        lease.vectors,
        seed=sum(name.encode()),
        size=size,
        embed=9.0 if loud else size,
    )
    leaf = member.check(member.contribute(member.pack(lease, blob=blob))).index
    return member, lease, leaf


def admissions(coordinator: Running) -> list[tuple[object, object, object]]:
    """Return what the ledger's admissions say: leaf, verdict, why."""
    bodies = coordinator.house.store.run(
        lambda db: [row[0] for row in db.execute("SELECT body FROM leaf ORDER BY idx")]
    )
    said = [parse_leaf(body) for body in bodies]
    return [(each["leaf"], each["verdict"], each["why"]) for each in said if "verdict" in each]


def test_a_suspect_contribution_is_kept_out_and_its_owner_reads_why(coordinator):
    """Stored, receipted, in the ledger; in no release; the reason names measure, bound, advice."""
    _, _, fine = contributed(coordinator)
    member, lease, leaf = contributed(coordinator, "bert", loud=True)

    made = coordinator.release()

    told = member.status(lease)
    assert told.state == "quarantined"
    assert "allowed are 400 %" in told.why
    assert "token_rate" in told.why
    assert (told.leaf, bool(told.receipt)) == (leaf, True)
    assert made["concepts"] == 1
    plan = coordinator.house.store.run(publications.newest).plan
    assert [item.leaf for item in plan.included] == [fine]
    assert plan.left_out == ((leaf, "quarantined"),)
    assert admissions(coordinator) == [(leaf, "quarantined", "embedding")]


def test_an_approved_contribution_is_in_the_next_release(coordinator):
    """Once more changes nothing; its owner reads no reason any more."""
    member, lease, leaf = contributed(coordinator, loud=True)

    first = coordinator.desk.ask("approve", {"leaf": leaf})
    again = coordinator.desk.ask("approve", {"leaf": leaf})

    assert (first, again) == ({"was": "quarantined"}, {"was": "accepted"})
    assert (member.status(lease).state, member.status(lease).why) == ("accepted", "")
    assert coordinator.release()["concepts"] == 1
    assert admissions(coordinator)[1:] == [(leaf, "approved", "operator")]


def test_a_rejected_contribution_gives_up_its_slot_and_cannot_come_back(coordinator):
    """The operator's words reach its owner and stand in no ledger leaf (T27)."""
    member, lease, leaf = contributed(coordinator, loud=True)

    coordinator.desk.ask("reject", {"leaf": leaf, "why": "it draws somebody else"})

    with pytest.raises(Refused) as refused:
        coordinator.desk.ask("approve", {"leaf": leaf})
    assert refused.value.code == "out-for-good"
    assert member.status(lease).why == "it draws somebody else"
    assert coordinator.house.store.run(slot_rows.every)[lease.slot].phase == "free"
    bodies = coordinator.house.store.run(
        lambda db: [row[0] for row in db.execute("SELECT body FROM leaf")]
    )
    assert not [body for body in bodies if b"somebody" in body]


@pytest.mark.parametrize(
    ("why", "named"),
    [
        ("a\ttab", "U+0009"),
        ("\u009b2J", "U+009B"),
        ("\u202eon", "U+202E"),
        (" \n", "of 0 "),
        ("x" * 1_001, "of 1001 "),
    ],
)
def test_a_reason_that_its_owner_could_not_read_is_refused_where_it_is_typed(
    coordinator, why, named
):
    """The character is named, and nothing is rejected."""
    member, lease, leaf = contributed(coordinator)

    with pytest.raises(InputError, match=re.escape(named)) as refused:
        coordinator.desk.ask("reject", {"leaf": leaf, "why": why})

    assert refused.value.code == "bad-reason"
    assert member.status(lease).state == "accepted"


def test_a_reason_of_several_lines_arrives_with_our_line_ends(coordinator):
    """A form of a browser ends lines with CR and LF."""
    member, lease, leaf = contributed(coordinator)

    coordinator.desk.ask("reject", {"leaf": leaf, "why": " one\r\ntwo\r"})

    assert member.status(lease).why == "one\ntwo"


def test_a_reason_that_an_earlier_version_stored_does_not_hide_the_status(coordinator):
    """It was not checked then: the coordinator cleans what it sends, so its owner can read it."""
    member, lease, leaf = contributed(coordinator)
    stored = "a\ttab, \u009b2J" + "x" * 2_000
    coordinator.house.board.run(
        lambda turn: contribution_rows.set_state(turn.db, leaf, "rejected", why=stored)
    )

    said = member.status(lease)

    assert said.state == "rejected"
    assert said.why.startswith("a tab,  2Jxxx")
    assert len(said.why) == 1_024


def test_the_list_shows_figures_and_reasons(coordinator):
    """What `orthofed coordinator contributions` prints."""
    contributed(coordinator)
    _, lease, leaf = contributed(coordinator, "bert", loud=True)

    rows = coordinator.desk.ask("contributions", {})["contributions"]

    assert [row["state"] for row in rows] == ["accepted", "quarantined"]
    assert (rows[1]["leaf"], rows[1]["slot"], rows[1]["concept"]) == (leaf, lease.slot, "bert")
    assert rows[1]["figures"]["embedding_percent"] > 400
    assert rows[0]["figures"]["norm_percent"] > 0
    json.dumps(rows)


def test_nothing_that_is_no_contribution_can_be_judged(coordinator):
    """Leaf 0 is the spec."""
    for op in ("approve", "reject"):
        with pytest.raises(Refused) as refused:
            coordinator.desk.ask(op, {"leaf": 0, "why": "x"})
        assert refused.value.code == "not-found"


def test_states_survive_a_restart_and_follow_from_the_ledger(tmp_path):
    """Rows and leaves agree; a database changed by hand is found (rowcheck.py)."""
    folder = founded(tmp_path, policy=LOUD)
    with running(folder) as before:
        _, _, leaf = contributed(before, loud=True)
        _, _, other = contributed(before, "bert", loud=True)
        before.desk.ask("approve", {"leaf": other})

    with running(folder) as after:
        states = {e.leaf: e.state for e in after.house.store.run(contribution_rows.every)}
        assert states == {leaf: "quarantined", other: "accepted"}
        assert not [*after.house.store.run(lambda db: list(check_rows(db)))]
        after.house.store.run(
            lambda db: contribution_rows.set_state(db, leaf, "accepted", why="by hand")
        )
        found = after.house.store.run(lambda db: list(check_rows(db)))

    assert found == [f"contribution {leaf} is accepted, the ledger has it quarantined"]


def test_a_members_first_contribution_can_be_made_to_wait(tmp_path):
    """`approve_first`: until one of its contributions stands, each waits for the operator."""
    policy = replace(ANYTHING, approve_first=True)
    with running(founded(tmp_path, policy=policy)) as coordinator:
        member, lease, leaf = contributed(coordinator)
        waits = member.status(lease)
        coordinator.desk.ask("approve", {"leaf": leaf})
        second = member.lease("bert", ("bert-k7",))
        member.contribute(member.pack(second, seed=5))

        assert (waits.state, member.status(second).state) == ("quarantined", "accepted")
        assert "approval" in waits.why


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"norm_percent": 0}, "it is 1 to 1000000"),
        ({"norm_percent": 1.5}, "is a number"),
        ({"norm_percent": True}, "is a number"),
        ({"approve_first": 1}, "is true or false"),
        ({"norm": 1}, "unknown key admission.norm"),
    ],
)
def test_a_threshold_that_is_misread_is_an_error(tmp_path, table, says):
    """A typing error must not switch a gate off."""
    folder = founded(tmp_path)
    text = folder.settings_file.read_text().partition("[admission]")[0]
    lines = [f"{key} = {str(value).lower()}" for key, value in table.items()]
    folder.settings_file.write_text(text + "[admission]\n" + "\n".join(lines))

    with pytest.raises(InputError) as refused:
        folder.settings()

    assert says in refused.value.what
    assert refused.value.code == "bad-settings"


def test_the_settings_file_says_every_threshold(tmp_path):
    """What init writes is read back."""
    assert founded(tmp_path).settings().admission == ANYTHING


def test_a_cap_holds_to_the_last_bit_in_every_layer(coordinator):
    """T12: at the cap it is taken, a millionth above it is refused, whichever layer it is."""
    rng = np.random.default_rng(1)
    for path, limit in coordinator.house.facts.norms.items():
        tensor = quantise(rng.standard_normal((24, 4)).astype(np.float32) * 0.01)
        norm = _norms(tensor.q[None], [tensor.exponent])[0]

        assert _share(norm, norm, path, 100) == pytest.approx(1.0)
        with pytest.raises(Refused):
            _share(norm, norm * (1 - 1e-6), path, 100)
        assert limit > 0


def test_the_last_leaf_decides_how_a_contribution_stands():
    """Old ledgers have no admissions; a withdrawal ends everything."""
    contribution = (5, {"kind": "contribution"})

    def said(index: int, verdict: str) -> tuple[int, dict[str, object]]:
        return index, {"kind": "admission", "leaf": 5, "verdict": verdict, "why": "x"}

    gone = (9, {"kind": "withdrawal", "doc": {"body": {"leaf": 5}}})
    assert standings([contribution]) == {5: "accepted"}
    assert standings([contribution, said(6, "quarantined")]) == {5: "quarantined"}
    assert standings([contribution, said(6, "quarantined"), said(7, "approved")]) == {5: "accepted"}
    assert standings([contribution, said(6, "rejected"), gone]) == {5: "withdrawn"}
