"""A member changes its key; whoever stole the old one gains nothing by it (T2, T3, T25)."""

import secrets
from collections.abc import Iterator

import pytest

from orthofed.coordinator import members
from orthofed.coordinator.revocation import Terms, revoke
from orthofed.coordinator.rowcheck import check_rows
from orthofed.core.document import sign
from orthofed.core.errors import LeaseLost, OrthoFedError
from orthofed.core.keys import SigningKey
from orthofed.core.member_rotation import MemberRotation
from orthofed.proto import methods, wire

from .besieged import Besieged, Recorder, besieged
from .forked import copied, founded
from .member import Leased, Member


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return founded(tmp_path_factory.mktemp("stolen"), slots=16, kib=4)


@pytest.fixture
def siege(made, tmp_path) -> Iterator[Besieged]:
    with besieged(copied(made, tmp_path / "fed")) as begun:
        yield begun
        assert not list(begun.house.store.run(lambda db: [*check_rows(db)]))


def fresh() -> SigningKey:
    return SigningKey.from_seed(secrets.token_bytes(32))


def word(old: SigningKey, new: SigningKey, log: str, *signers: SigningKey) -> bytes:
    """Return the rotation of ``old`` to ``new``, by both unless others sign."""
    said = MemberRotation(log, old.public_hex, new.public_hex)
    return sign("rotation", said.body(), signers or (old, new)).to_bytes()


def ask(member: Member, document: bytes, key: SigningKey | None = None) -> wire.RotateReply:
    request = wire.RotateRequest(document)
    return member.link.call(methods.ROTATE, request, wire.RotateReply, key or member.key)


def code(act, *args, **kwargs) -> str:
    try:
        act(*args, **kwargs)
    except OrthoFedError as error:
        return error.code
    return "answered"


def renew(member: Member, lease: Leased) -> wire.RenewReply:
    request = wire.RenewRequest(lease.slot, lease.fence, 7)
    return member.link.call(methods.RENEW, request, wire.RenewReply, lease.key)


def test_a_stolen_old_member_key_gains_nothing_after_the_rotation(siege):
    """The thief leases, rotates to a key of its own, joins, and asks for the owner's names.

    Rows and deadlines are what they were; the owner goes on under the new key.
    """
    owner = siege.member()
    kept = owner.lease("wren", ("wren-k7",))
    owner.contribute(owner.pack(kept))
    now = owner.rotate()
    thief, accomplice = Member(Recorder(siege.service, owner.invite, siege.clock)), siege.member()
    thief.key = owner.key
    before = siege.state()

    said = [
        code(thief.lease, "robin", ("robin-k7",)),
        code(ask, thief, word(owner.key, fresh(), owner.invite.log)),
        code(ask, thief, word(owner.key, accomplice.key, owner.invite.log)),
        code(ask, thief, word(now.key, fresh(), owner.invite.log, owner.key)),
        code(ask, thief, word(now.key, fresh(), owner.invite.log, owner.key), owner.key),
        code(thief.join),
        code(accomplice.lease, "wren", ("robin-k7",)),
    ]

    assert said == [*["rotated"] * 3, *["bad-field"] * 2, "answered", "name-taken"]
    assert siege.state() == before
    assert now.lease("robin", ("robin-k7",)).slot != kept.slot


def test_a_captured_rotation_is_good_for_nothing_again(siege):
    """T3: the very call is replayed, and its document sent anew, before and after the next one."""
    owner = siege.member()
    assert isinstance(owner.link, Recorder)
    now = owner.rotate()
    call = owner.link.calls[-1]
    document = wire.RotateRequest.from_bytes(call.body).document
    before = siege.state()

    assert siege.refusal(call).code == "replayed"
    assert code(ask, owner, document) == "answered"
    assert siege.state() == before
    last = now.rotate()
    before = siege.state()
    assert code(ask, owner, document) == "answered"
    assert siege.state() == before
    assert code(now.lease) == "rotated"
    assert last.lease()


def test_a_forged_rotation_changes_nothing(siege):
    """One signature of two, another's, another ledger, a used key, another caller: all refused."""
    owner, other = siege.member(), siege.member()
    lease = other.lease("robin", ("robin-k7",))
    log, new = owner.invite.log, fresh()
    before = siege.state()

    forged = [
        word(owner.key, new, log, owner.key),
        word(owner.key, new, log, new),
        word(owner.key, new, log, owner.key, other.key),
        word(owner.key, new, log, owner.key, new, other.key),
        word(owner.key, new, "0" * 64),
        word(owner.key, owner.key, log),
        word(owner.key, other.key, log),
        word(owner.key, lease.key, log),
        word(other.key, new, log),
        sign("join", MemberRotation(log, owner.key.public_hex, new.public_hex).body(), (new,)),
    ]
    said = [
        code(ask, owner, each if isinstance(each, bytes) else each.to_bytes()) for each in forged
    ]
    said.append(code(ask, owner, word(owner.key, new, log), new))

    assert "answered" not in said
    assert said[6:8] == ["key-used"] * 2
    assert said[-1] == "not-your-role"
    assert siege.state() == before


def test_leases_names_and_quotas_move_and_live_leases_run_on(siege):
    """Overlap: the old client key renews, uploads, commits; T1: the new key has no second lease."""
    owner = siege.member()
    first = owner.lease("wren", ("wren-k7",), request="ab" * 16)
    now = owner.rotate()

    assert code(now.lease, "robin", ("robin-k7",)) == "quota-used"
    again = now.lease("wren", ("wren-k7",), key=first.key, request="ab" * 16)
    assert (again.slot, again.fence) == (first.slot, first.fence)
    assert renew(owner, first).ttl_s > 0
    receipt = owner.contribute(owner.pack(first))
    leaf = owner.check(receipt).index
    used = siege.house.store.run(lambda db: db.execute("SELECT member FROM lease").fetchall())
    assert used == [(now.key.public_hex,)]
    assert now.withdraw(first, leaf)
    assert now.lease("wren", ("wren-k7",)).fence > 0, "its own names are its own"
    assert owner.status(first).state == "withdrawn"


def test_the_rotation_outlives_a_restart_and_a_lease_in_memory(made, tmp_path):
    """Slots in memory and rows know the new key alone: one live lease, before and after."""
    folder = copied(made, tmp_path / "fed")
    with besieged(folder) as siege:
        owner = siege.member()
        owner.lease("wren", ("wren-k7",))
        now = owner.rotate()
        invite = owner.invite
    with besieged(folder) as siege:
        owner.link = now.link = Recorder(siege.service, invite, siege.clock)

        assert code(owner.lease, "robin", ("robin-k7",)) == "rotated"
        assert code(now.lease, "robin", ("robin-k7",)) == "quota-used"
        assert code(now.rotate) == "answered"


def test_the_thief_who_rotates_first_is_put_out_by_any_of_its_keys(siege):
    """The owner's key is dead then; the operator revokes the member by the digits the owner knows.

    The thief's key leases nothing more, rotates no more, and what it holds is over.
    """
    owner = siege.member()
    thief = owner.rotate()
    lease = thief.lease("wren", ("wren-k7",))
    assert code(owner.rotate) == "rotated"

    done = revoke(siege.house, owner.key.public_hex[:8], Terms(why="stolen"))

    assert (done["member"], done["ended"]) == (thief.key.public_hex, [lease.slot])
    assert code(thief.lease, "robin", ("robin-k7",)) == "revoked"
    assert code(thief.rotate) == "revoked"
    assert code(renew, thief, lease) == "revoked"
    with pytest.raises(LeaseLost):
        siege.house.board.check_held(lease.key.public_hex, lease.slot, lease.fence)
    (row,) = [row for row in siege.desk.ask("members", {})["members"] if row["replaced"]]
    assert (row["replaced"], row["state"]) == ([owner.key.public_hex], "revoked")


def test_a_member_rotates_a_few_times_a_day(siege):
    """Each rotation stays in the database for ever: three a day, whatever key asks."""
    owner = siege.member()
    for _ in range(3):
        owner = owner.rotate()

    assert code(owner.rotate) == "quota-used"
    siege.pass_s(86_400)
    assert code(owner.rotate) == "answered"
    assert siege.house.store.run(lambda db: len(members.rotations(db))) == 4


def test_a_rotation_keeps_the_invites_standing(siege):
    """Who may use the operator's own slots still may; an invite is not spent again."""
    invite = siege.desk.invite(1, 7, operator=True)["invite"]
    owner = Member(Recorder(siege.service, siege.invite().from_text(invite), siege.clock))
    owner.join()
    now = owner.rotate()

    found = siege.house.store.run(members.all_members)

    assert [(each.key, each.operator) for each, _ in found] == [(now.key.public_hex, True)]
    assert siege.house.store.run(lambda db: members.invite_uses(db, now.key.public_hex)) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE rotation SET document = (SELECT document FROM rotation LIMIT 1)", "another one's"),
        ("UPDATE lease SET member = (SELECT old FROM rotation LIMIT 1)", "still its own"),
    ],
)
def test_the_doctor_names_rotations_that_were_changed_by_hand(made, tmp_path, change, said):
    """Another member's word under a rotation; a lease that did not move."""
    with besieged(copied(made, tmp_path / "fed")) as siege:
        for name in ("wren", "gull"):
            owner = siege.member().rotate()
            owner.contribute(owner.pack(owner.lease(name, (f"{name}-k7",))))

        siege.house.store.run(lambda db: db.execute(change))

        found = siege.house.store.run(lambda db: [*check_rows(db)])
    assert any(said in each for each in found)
