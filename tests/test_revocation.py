"""A revoked member key: what it can do no more, what its owner still can, and that it lasts."""

import json

import pytest

from orthofed.client.renewals import Renewals
from orthofed.client.rotation import rotate
from orthofed.client.session import Session
from orthofed.client.state import save
from orthofed.client.status import status_of
from orthofed.client.status_command import status
from orthofed.coordinator import member_rows
from orthofed.coordinator.control import ControlServer
from orthofed.coordinator.doctor import examine
from orthofed.coordinator.leases import step
from orthofed.coordinator.members import find_member
from orthofed.coordinator.revocation import Terms, revoke
from orthofed.coordinator.rowcheck import check_rows
from orthofed.coordinator.slot_events import Ask, Commit, Free, Grant, Refuse, Renew, Revoke
from orthofed.coordinator.slots import Slot, Slots
from orthofed.core.errors import InputError, OrthoFedError, Refused
from orthofed.core.leaf import parse_leaf
from orthofed.proto import methods, wire

from .coordinator_process import run
from .member import Leased, Member, Packed, Wire
from .owner import PATIENCE_S, Owner
from .serving import Running, founded, running


@pytest.fixture
def folder(tmp_path):
    return founded(tmp_path)


@pytest.fixture
def coordinator(folder):
    with running(folder) as started:
        yield started


def contributed(coordinator: Running, name: str) -> tuple[Member, Leased, int]:
    member = coordinator.member()
    lease = member.lease(name, (f"{name}-k7",))
    return member, lease, _index(member.contribute(member.pack(lease, seed=len(name))))


def _index(receipt: bytes) -> int:
    return int(receipt.partition(b"\nindex ")[2].partition(b"\n")[0])


def renew(member: Member, lease: Leased) -> wire.RenewReply:
    request = wire.RenewRequest(lease.slot, lease.fence, 7)
    return member.link.call(methods.RENEW, request, wire.RenewReply, lease.key)


def code_of(act, *args, **kwargs) -> tuple[str, str]:
    """Return code and gRPC status of a refusal; the first argument's owner made the call."""
    try:
        act(*args, **kwargs)
    except OrthoFedError as error:
        member: Member = act.__self__ if hasattr(act, "__self__") else args[0]
        return error.code, member.link.last_trailers["status"]
    return "answered", ""


REVOKED = ("revoked", "PERMISSION_DENIED")


def half_sent(coordinator: Running) -> tuple[Member, Leased, Packed]:
    """Return a member that has leased, begun an upload and sent all of it but the commit."""
    member = coordinator.member()
    lease = member.lease("wren", ("wren-k7",))
    packed = member.pack(lease)
    member.begin(packed)
    for index in range(len(packed.chunks)):
        member.put(packed, index)
    return member, lease, packed


def test_a_revoked_member_leases_renews_uploads_and_commits_nothing(coordinator):
    """T1: one half through its upload: each call is refused; the slot is somebody else's then."""
    member, lease, packed = half_sent(coordinator)
    size = coordinator.desk.status()["ledger_size"]

    done = revoke(coordinator.house, member.key.public_hex, Terms(why="it squats"))

    assert (done["was"], done["ended"]) == ("standing", [lease.slot])
    assert code_of(member.lease, "robin", ("robin-k7",)) == REVOKED
    assert code_of(renew, member, lease) == REVOKED
    assert code_of(member.begin, packed) == REVOKED
    assert code_of(member.begin, member.pack(lease, seed=9)) == REVOKED
    assert code_of(member.put, packed, 0) == REVOKED
    assert code_of(member.commit, packed) == REVOKED
    assert coordinator.desk.status()["ledger_size"] == size, "no leaf, and none for the revocation"
    assert member.status(lease).state == "lost"
    assert "it squats" in member.status(lease).why
    other = coordinator.member().lease("gull", ("gull-k7",))
    assert (other.slot, other.fence) == (lease.slot, lease.fence + 1)
    assert code_of(member.commit, packed) == REVOKED
    assert not list(coordinator.house.store.run(lambda db: [*check_rows(db)]))


def test_an_owners_training_ends_at_its_next_renewal_and_withdraw_goes_on(coordinator, tmp_path):
    """By the client's own code: the reason stops the renewals, the withdrawal has its receipt."""
    owner = Owner.joined(tmp_path / "home", coordinator.invite())
    owner.contribute("wren")
    session = owner.lease("robin")
    revoke(coordinator.house, status_of(owner.home)["member"], Terms(why="it squats"))

    with (
        owner.channel() as channel,
        pytest.raises(Refused, match="revoked this member key: it squats") as refused,
        Renewals(
            channel,
            key=owner.key(session),
            slot=session.slot,
            fence=session.fence,
            ttl_s=session.ttl_s,
            on_trouble=lambda _: None,
        ),
    ):
        pass
    rows = {row["concept"]: row for row in status_of(owner.home)["concepts"]}

    assert refused.value.exit_code == 3
    assert "client withdraw" in refused.value.fix
    assert (rows["robin"]["state"], rows["wren"]["promise"]) == ("lost", "kept")
    assert owner.withdraw("wren").receipt.is_file()
    assert code_of_rotation(owner) == "revoked"


def test_status_prints_what_it_was_told_as_text(coordinator, tmp_path, capsys):
    """T8: a reason with escapes and reversed letters moves no cursor; its lines stay lines."""
    owner = Owner.joined(tmp_path / "home", coordinator.invite())
    told = "no\u009b2J\nand \u202eno"
    session = Session("robin", ("robin-k7",), (1,), "bird", "aa" * 16, 4, why=told)
    save(owner.home.run("robin"), session)

    status(owner.home.folder)

    assert "    no\\x9b2J\n    and \\u202eno\n" in capsys.readouterr().out


def code_of_rotation(owner: Owner) -> str:
    with pytest.raises(Refused) as refused:
        rotate(owner.home, patience_s=PATIENCE_S)
    return refused.value.code


def test_the_same_lease_request_is_refused_too(coordinator):
    """A resend gives the same lease to whoever stands; to a revoked key it gives nothing."""
    member = coordinator.member()
    lease = member.lease(request="ab" * 16)
    revoke(coordinator.house, member.key.public_hex, Terms())

    again = {"key": lease.key, "request": "ab" * 16}

    assert code_of(member.lease, **again) == REVOKED


def test_what_was_contributed_stays_its_owners(coordinator):
    """Status and withdraw answer as before, and a receipt is given whenever it is asked for (I4).

    Without `reject` the contribution is in the next release.
    """
    member, lease, leaf = contributed(coordinator, "wren")
    packed = member.pack(lease, seed=len("wren"))
    done = revoke(coordinator.house, member.key.public_hex, Terms())
    made = coordinator.release()

    assert (done["kept"], done["rejected"], made["concepts"]) == ([leaf], [], 1)
    assert member.status(lease).state == "accepted"
    assert _index(member.commit(packed).receipt) == leaf
    assert _index(member.begin(packed).receipt) == leaf
    receipt = member.withdraw(lease, leaf)
    assert member.withdraw(lease, leaf) == receipt
    assert member.status(lease).state == "withdrawn"


def test_with_reject_its_contributions_leave_by_admission_leaves(coordinator):
    """Two of its contributions go, one it withdrew and another member's stay as they are."""
    member, first, one = contributed(coordinator, "wren")
    second = member.lease("robin", ("robin-k7",))
    two = _index(member.contribute(member.pack(second, seed=2)))
    third = member.lease("gull", ("gull-k7",))
    three = _index(member.contribute(member.pack(third, seed=3)))
    member.withdraw(third, three)
    _, _, others = contributed(coordinator, "heron")
    revoke(coordinator.house, member.key.public_hex, Terms())

    done = revoke(coordinator.house, member.key.public_hex, Terms(reject=True))
    again = revoke(coordinator.house, member.key.public_hex, Terms(reject=True))

    assert (done["was"], done["rejected"]) == ("revoked", [one, two])
    assert again["rejected"] == []
    rows = coordinator.house.store.run(lambda db: db.execute("SELECT body FROM leaf").fetchall())
    leaves = [parse_leaf(body) for (body,) in rows]
    said = [(leaf["leaf"], leaf["verdict"]) for leaf in leaves if leaf["kind"] == "admission"]
    assert said == [(one, "rejected"), (two, "rejected")]
    assert not any(member.key.public_hex.encode() in body for (body,) in rows)
    assert member.status(first).why == "the operator revoked this member key"
    assert coordinator.release()["concepts"] == 1
    listed = coordinator.desk.ask("contributions", {})["contributions"]
    assert {row["leaf"]: row["revoked"] for row in listed} == {
        one: True,
        two: True,
        three: True,
        others: False,
    }


def test_the_doctor_names_a_lease_of_a_revoked_member(coordinator):
    """Rows that were changed by hand: the slot is leased, its member is out."""
    member = coordinator.member()
    lease = member.lease()
    revocation = "INSERT INTO revocation VALUES (?, 0, '')"

    coordinator.house.store.run(lambda db: db.execute(revocation, (member.key.public_hex,)))

    found = coordinator.house.store.run(lambda db: [*check_rows(db)])
    assert found == [f"slot {lease.slot} is leased to a member that was revoked"]


def test_its_names_are_nobody_elses(coordinator):
    """T23: neither the concept nor a trigger of a revoked member can be had by another key."""
    member = coordinator.member()
    member.lease("wren", ("wren-k7",))
    revoke(coordinator.house, member.key.public_hex, Terms())
    other = coordinator.member()

    for concept, trigger in (("wren", "robin-k7"), ("robin", "wren-k7"), ("robin", "vvren-k7")):
        with pytest.raises(OrthoFedError):
            other.lease(concept, (trigger,))
    assert other.lease("robin", ("robin-k7",))


def test_a_restart_a_backup_and_the_doctor_keep_it(folder, tmp_path):
    """Stopped by the command, served again, copied and restored: revoked in each."""
    with running(folder) as coordinator:
        member, lease, _ = contributed(coordinator, "wren")
        invite = member.invite
    run("coordinator", "revoke", str(folder.root), member.key.public_hex, "--why", "stolen")
    with running(folder) as coordinator:
        link = coordinator.member().link
        member.link = link
        assert link.invite.log == invite.log
        assert code_of(member.lease, "robin", ("robin-k7",)) == REVOKED
        assert member.status(lease).state == "accepted"
    assert examine(folder.root, say=lambda _: None).healthy
    run("coordinator", "backup", str(folder.root), "-o", str(tmp_path / "backup"))
    restored = tmp_path / "restored"
    keys = ("--keys", str(folder.keys))
    run("coordinator", "restore", str(tmp_path / "backup"), str(restored), *keys)

    told = json.loads(run("coordinator", "members", str(restored), "--json").stdout)["members"]

    assert [row["state"] for row in told] == ["revoked", "standing"]
    assert told[0]["why"] == "stolen"


def test_the_commands_name_a_member_by_few_digits_or_by_a_client_key(folder):
    """A running coordinator is asked over its socket, then a stopped one: text and JSON."""
    place = str(folder.root)
    with running(folder) as coordinator:
        member, lease, leaf = contributed(coordinator, "wren")
        other = coordinator.member()
        key = member.key.public_hex
        control = ControlServer(folder.control, lambda _: coordinator.desk)
        text = run("coordinator", "revoke", place, lease.key.public_hex[:12], "--reject").stdout
        control.close()
        assert code_of(member.lease, "robin", ("robin-k7",)) == REVOKED

    again = json.loads(run("coordinator", "revoke", place, key[:8], "--json").stdout)
    closed = run("coordinator", "revoke", place, key, "--close-invite").stdout
    members = run("coordinator", "members", place).stdout
    rows = run("coordinator", "contributions", place).stdout
    status = run("coordinator", "status", place).stdout

    assert f"member {key} is revoked" in text
    assert f"rejected: {leaf}" in text
    assert "lets in 99 more" in text
    assert (again["was"], again["rejected"], again["invite_uses"]) == ("revoked", [], 99)
    assert "closed, it had 99 uses left" in closed
    assert f"{key[:16]}  1 rejected; REVOKED" in members
    assert f"{other.key.public_hex[:16]}  nothing yet" in members
    assert f"member {key[:16]}, REVOKED" in rows
    assert "members: 1 standing, 1 revoked" in status
    with running(folder), pytest.raises(Refused, match="unknown, used up"):
        Member(Wire(member.invite, address=folder.address())).join()


@pytest.mark.parametrize(
    ("digits", "kind", "said"),
    [
        ("abcdef0", InputError, "7 characters"),
        ("ABCDEF01", InputError, "lower-case"),
        ("g" * 8, InputError, "8 to 64"),
        ("a" * 65, InputError, "65 characters"),
        ("0" * 64, Refused, "no member"),
    ],
)
def test_digits_that_name_nobody_are_refused(coordinator, digits, kind, said):
    """Too few, too many, no hex, nobody's: each says what is wanted."""
    coordinator.member()
    with pytest.raises(kind, match=said):
        revoke(coordinator.house, digits, Terms())


def test_digits_of_two_members_are_refused(coordinator):
    """More digits have to be given; then one is meant."""
    coordinator.invite()

    def look(db) -> str:
        (invite,) = db.execute("SELECT key FROM invite").fetchone()
        for last in "01":
            member_rows.add(db, "ab" * 31 + f"0{last}", invite=invite, operator=False)
        with pytest.raises(InputError, match="keys of 2 members"):
            find_member(db, "abababab")
        return find_member(db, "ab" * 31 + "01")

    assert coordinator.house.store.run(look) == "ab" * 31 + "01"


def test_the_machine_ends_what_a_member_leases_and_nothing_else():
    """A late lease is over too: its commit, which would still have counted, counts no more."""
    state = Slots((Slot(),) * 2, ttl_s=900, hold_s=86_400)
    state, _ = step(state, Ask(0, "ana", "a"))
    state, _ = step(state, Ask(0, "ben", "b"))

    state, freed = step(state, Revoke("a"))

    assert freed == (Free(0),)
    assert step(state, Revoke("a"))[1] == ()
    assert isinstance(step(state, Commit("ana", 0, 1))[1][0], Refuse)
    assert isinstance(step(state, Renew(1, "ana", 0, 1, 1))[1][0], Refuse)
    assert step(state, Ask(1, "cid", "c"))[1] == (Grant(0, 2),)
    assert state.slots[1].phase == "leased"
