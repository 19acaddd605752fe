"""A corrective round: an own slot once more, its contribution live until the new one is in.

Over real gRPC; what is learnt is random numbers (member.py). The client's side of it:
test_corrective_training.py.
"""

import json

import pytest

from orthofed.client.contributions import Contributions
from orthofed.client.rebuild import Rebuild
from orthofed.client.verify import verify_folder
from orthofed.coordinator import contribution_rows, publications, verdicts
from orthofed.coordinator.base import BaseFolder
from orthofed.coordinator.listing import listed
from orthofed.coordinator.order_desk import Wish, give, listed_orders
from orthofed.coordinator.policy import Policy
from orthofed.coordinator.removal import Removal
from orthofed.coordinator.revocation import Terms, revoke
from orthofed.coordinator.rowcheck import check_rows
from orthofed.core.document import sign
from orthofed.core.errors import OrthoFedError, Refused, VerificationFailed
from orthofed.core.keys import SigningKey
from orthofed.core.leaf import parse_leaf
from orthofed.core.standing import standings

from .member import Given, Leased, Member
from .serving import Running, founded, running
from .test_rebuild import pull


@pytest.fixture
def fed(tmp_path):
    with running(founded(tmp_path)) as coordinator:
        yield coordinator
        assert wrong(coordinator) == []


def wrong(fed: Running) -> list[str]:
    """Return what the rows' check says, and where the ledger says something else than a row."""
    found = fed.house.store.run(lambda db: list(check_rows(db)))
    bodies = fed.house.store.run(lambda db: [r[0] for r in db.execute("SELECT body FROM leaf")])
    by_ledger = standings((index, parse_leaf(body)) for index, body in enumerate(bodies))
    return found + [f"{by_ledger} {states(fed)}" for _ in (1,) if by_ledger != states(fed)]


def states(fed: Running) -> dict[int, str]:
    entries = fed.house.store.run(contribution_rows.every)
    return {entry.leaf: entry.state for entry in entries}


def taught(member: Member, concept: str = "anna", *, seed: int = 0) -> tuple[Leased, int]:
    lease = member.lease(concept, (f"{concept}-k7",))
    return lease, member.check(member.contribute(member.pack(lease, seed=seed))).index


def again(member: Member, lease: Leased, leaf: int) -> Leased:
    given = Given(leaf, lease.key)
    return member.lease(lease.concept, lease.triggers, replaces=given)


def corrected(member: Member, lease: Leased, leaf: int, *, seed: int = 1) -> tuple[Leased, int]:
    new = again(member, lease, leaf)
    return new, member.check(member.contribute(member.pack(new, seed=seed))).index


def released(fed: Running) -> set[int]:
    newest = fed.house.store.run(publications.newest)
    assert newest is not None
    return {item.leaf for item in newest.plan.included}


def phase(fed: Running, slot: int) -> str:
    return fed.house.board.state.slots[slot].phase


def held_blobs(fed: Running) -> set[str]:
    return {path.name for path in fed.folder.blobs.glob("*/*")}


def test_the_new_contribution_takes_the_old_ones_place(fed, tmp_path):
    """Own slot, fence 2; the newest release holds the old one until the next holds the new one."""
    ana, ben = fed.member(), fed.member()
    lease, old = taught(ana)
    _, other = taught(ben, "bert", seed=5)
    fed.release()

    new = again(ana, lease, old)
    while_leased = phase(fed, lease.slot), states(fed), released(fed)
    packed = ana.pack(new, seed=1)
    leaf = ana.check(ana.contribute(packed)).index
    at_home = ana.status(lease).state, ana.status(new).state
    still = released(fed)
    fed.release()

    assert (new.slot, new.fence) == (lease.slot, lease.fence + 1)
    assert while_leased == ("revising", {old: "accepted", other: "accepted"}, {old, other})
    assert still == {old, other}
    assert at_home == ("superseded", "accepted")
    assert phase(fed, lease.slot) == "filled"
    assert released(fed) == {other, leaf}
    assert states(fed) == {old: "superseded", other: "accepted", leaf: "accepted"}
    newest = fed.house.store.run(publications.newest)
    assert newest is not None
    assert newest.plan.left_out == ((old, "superseded"),)
    for n in (1, 2):  # the older release too: its blob is kept until the concept is withdrawn
        pull(fed, tmp_path / f"release-{n}", n)
        release = verify_folder(tmp_path / f"release-{n}").release
        base = BaseFolder(fed.folder.settings().base)
        assert Rebuild(Contributions(tmp_path / f"release-{n}", release)).run(base) > 0


@pytest.mark.parametrize("said", ["quarantined", "rejected"])
def test_while_the_new_one_is_kept_out_the_old_one_stands(fed, said):
    """The operator approves it after quarantine, and only then it takes the place."""
    ana = fed.member()
    lease, old = taught(ana)
    new, leaf = corrected(ana, lease, old)

    say(fed, leaf, said)
    kept_out = states(fed)
    fed.release()

    assert kept_out == {old: "accepted", leaf: said}
    assert released(fed) == {old}
    assert fed.house.board.state.slots[lease.slot].kept == lease.fence
    if said == "quarantined":
        verdicts.approve(fed.house, leaf)
        assert states(fed) == {old: "superseded", leaf: "accepted"}
        assert fed.house.board.state.slots[lease.slot].kept == new.fence
        fed.release()
        assert released(fed) == {leaf}
    else:
        corrected(ana, lease, old, seed=2)  # another try, from the one that stands


def say(fed: Running, leaf: int, verdict: str) -> None:
    if verdict == "rejected":
        Removal(fed.house).reject(leaf, why="no")
        return
    fed.house.board.run(
        lambda turn: verdicts.say(turn, fed.house, leaf, "quarantined", code="norm", why="loud")
    )


def test_what_is_left_of_a_concept_empties_its_slot_when_all_is_rejected(fed):
    """The new one, then the old one, which had its place again; a second round came between."""
    ana, ben = fed.member(), fed.member()
    lease, old = taught(ana)
    second, leaf = corrected(ana, lease, old)
    third, last = corrected(ana, second, leaf, seed=2)
    assert states(fed) == {old: "superseded", leaf: "superseded", last: "accepted"}
    with pytest.raises(Refused) as refused:
        verdicts.approve(fed.house, leaf)
    assert refused.value.code == "superseded"

    for gone, held in ((last, second), (leaf, lease)):
        Removal(fed.house).reject(gone, why="no")
        assert fed.house.board.state.slots[lease.slot].kept == held.fence
    Removal(fed.house).reject(old, why="no")

    assert phase(fed, lease.slot) == "free"
    assert set(states(fed).values()) == {"rejected"}
    assert ben.lease("bert", ("bert-k7",)).fence == third.fence + 1


def test_nobody_else_gets_the_slot_however_late_the_owner_is(tmp_path):
    """Every slot is taken. Given back, late, revoked: the contribution stands, the slot is kept."""
    folder = founded(tmp_path)
    with running(folder) as fed:
        ana = fed.member()
        lease, old = taught(ana)
        capacity = len(fed.house.board.state.slots)
        for number in range(capacity - 1):
            taught(fed.member(), f"bird-{number}", seed=number + 3)
        new = again(ana, lease, old)
        ana.give_back(new)
        ana.give_back(new)  # a resend
        assert refusal(lambda: ana.contribute(ana.pack(new, seed=1))) == "lease-lost"
        late = again(ana, lease, old)
        assert refusal(lambda: again(ana, lease, old)) == "quota-used"
        fed.clock.moved_s += 100_000
        ben = fed.member()
        assert refusal(lambda: ben.lease("bert", ("bert-k7",))) == "no-free-slot"
        newest = again(ana, lease, old)  # overtakes its own late lease
        assert refusal(lambda: ana.contribute(ana.pack(late, seed=1))) == "lease-lost"
        assert states(fed)[old] == "accepted"
        revoke(fed.house, ana.key.public_hex[:16], Terms())
        assert refusal(lambda: ana.contribute(ana.pack(newest, seed=1))) == "revoked"
        assert phase(fed, lease.slot) == "filled"
        assert refusal(lambda: ben.lease("bert", ("bert-k7",))) == "no-free-slot"
        assert states(fed)[old] == "accepted"
        assert wrong(fed) == []


def refusal(ask) -> str:
    with pytest.raises(OrthoFedError) as refused:
        ask()
    return refused.value.code


def test_a_late_commit_counts_while_the_owner_did_not_ask_anew(fed):
    """Nobody else can need the slot."""
    ana = fed.member()
    lease, old = taught(ana)
    new = again(ana, lease, old)
    fed.clock.moved_s += 100_000

    leaf = ana.check(ana.contribute(ana.pack(new, seed=1))).index

    assert states(fed) == {old: "superseded", leaf: "accepted"}


def test_only_its_owner_and_only_what_stands_is_corrected(fed):
    """Another member, another name, another leaf, what waits, what is private or out (T2, T20)."""
    ana, ben = fed.member(), fed.member()
    lease, old = taught(ana)
    theirs, other = taught(ben, "bert", seed=3)

    assert refusal(lambda: again(ben, lease, old)) == "not-correctable"
    assert refusal(lambda: again(ana, theirs, other)) == "not-correctable"
    assert refusal(lambda: again(ana, lease, other)) == "not-correctable"
    for leaf in (2, 99):
        assert refusal(lambda leaf=leaf: again(ana, lease, leaf)) == "not-correctable"
    for changed in ({"concept": "ann-b"}, {"triggers": ("anna-k8",)}, {"vectors": (2,)}):
        asked = {"concept": "anna", "triggers": ("anna-k7",), **changed}
        given = Given(old, lease.key)
        code = refusal(lambda asked=asked, given=given: ana.lease(**asked, replaces=given))
        assert code == "not-correctable"
    fed.clock.moved_s += 60  # a key may ask once a second
    say(fed, old, "quarantined")
    assert refusal(lambda: again(ana, lease, old)) == "not-correctable"
    ana.withdraw(lease, old)
    assert refusal(lambda: again(ana, lease, old)) == "not-correctable"
    assert refusal(lambda: ana.lease("anna", ("anna-k7",), key=lease.key)) == "key-used"


def test_a_manifest_that_replaces_is_signed_by_both_keys(fed):
    """T4: without the old key, with a stranger's, for another leaf, without the field: refused."""
    ana, eve = fed.member(), SigningKey.from_seed(b"e" * 32)
    lease, old = taught(ana)
    new = again(ana, lease, old)
    good = ana.pack(new, seed=1)
    body = json.loads(good.document)["body"]

    def sent(body: dict[str, object], *keys: SigningKey) -> str:
        document = sign("contribution", body, keys).to_bytes()
        return refusal(lambda: ana.begin(type(good)(new, document, good.blob)))

    stranger = {**body, "replaces": {"client": eve.public_hex, "leaf": old}}
    plain = {name: value for name, value in body.items() if name != "replaces"}
    assert sent(body, new.key) == "bad-field"
    assert sent(body, lease.key) == "bad-field"
    assert sent(body, new.key, lease.key, eve) == "bad-field"
    assert sent(stranger, new.key, eve) == "manifest-differs"
    assert sent({**body, "replaces": {**body["replaces"], "leaf": 2}}, new.key, lease.key) == (
        "manifest-differs"
    )
    assert sent(plain, new.key) == "manifest-differs"
    own = {"client": new.key.public_hex, "leaf": old}
    assert sent({**body, "replaces": own}, new.key) == "bad-field"
    forged = json.loads(good.document)
    forged["sigs"][0]["sig"] = forged["sigs"][1]["sig"]
    text = json.dumps(forged, separators=(",", ":"), sort_keys=True).encode()
    assert refusal(lambda: ana.begin(type(good)(new, text, good.blob))) == "bad-signature"
    ana.contribute(good)


@pytest.mark.parametrize("by", ["old", "new"])
def test_a_withdrawal_takes_out_the_concept_as_if_it_never_was(fed, by):
    """Whichever leaf is named: the bytes of the release before it came, and both blobs gone."""
    ana, ben = fed.member(), fed.member()
    taught(ben, "bert", seed=9)
    fed.release()
    lease, old = taught(ana)
    fed.release()
    new, leaf = corrected(ana, lease, old)
    fed.release()
    before, words = held_blobs(fed), [(lease, old), (new, leaf)]
    if by == "new":
        words.reverse()

    receipt = ana.withdraw(*words[0])
    waits = phase(fed, lease.slot), held_blobs(fed)
    fed.release()

    assert ana.withdraw(*words[0]) == receipt
    assert refusal(lambda: ana.withdraw(*words[1])) == "withdrawn"
    assert waits == ("emptying", before)
    assert states(fed)[old] == states(fed)[leaf] == "withdrawn"
    assert tensors(fed, 1) == tensors(fed, 4) != tensors(fed, 3)
    assert len(before - held_blobs(fed)) == 2
    assert phase(fed, lease.slot) == "free"
    assert ana.lease("anna", ("anna-k7",)).slot == lease.slot


def tensors(fed: Running, n: int) -> dict[str, bytes]:
    """Return each tensor file of a release behind its header, which names the release."""
    folder = fed.folder.releases / str(n)
    found = {}
    for path in folder.rglob("*.safetensors"):
        data = path.read_bytes()
        name = path.relative_to(folder).as_posix().replace(f"r{n:04}", "r")
        found[name] = data[8 + int.from_bytes(data[:8], "little") :]
    return found


def test_a_plan_that_is_open_stays_what_it_is_until_its_concept_goes(fed):
    """The new one comes, then the owner withdraws, while the plan holds the old one."""
    ana, ben = fed.member(), fed.member()
    taught(ben, "bert", seed=3)
    lease, old = taught(ana)
    plan = fed.desk.ask("plan", {"lambda_1024": None})["plan"]
    new, leaf = corrected(ana, lease, old)
    before = held_blobs(fed)

    assert fed.desk.ask("plan", {"lambda_1024": None})["plan"] == plan
    ana.withdraw(new, leaf)
    fed.house.sweep()

    assert held_blobs(fed) == before  # the build needs the old one still
    assert phase(fed, lease.slot) == "emptying"
    fed.release()
    made = fed.house.store.run(publications.newest)
    assert (made.n, len(made.plan.included)) == (1, 1), "planned anew, without any of it"
    assert {old, leaf} <= {gone for gone, why in made.plan.left_out if why == "withdrawn"}
    assert phase(fed, lease.slot) == "free"
    assert len(held_blobs(fed)) == 1


def test_a_release_that_was_planned_before_a_correction_verifies(fed, tmp_path):
    """Replaced is not taken out: the concept stands, and the next release has its new one."""
    ana = fed.member()
    lease, old = taught(ana)
    fed.desk.ask("plan", {"lambda_1024": None})
    _, leaf = corrected(ana, lease, old)

    fed.release()

    held = []
    for n in (1, 2):
        pull(fed, tmp_path / f"release-{n}", n)
        held.append(verify_folder(tmp_path / f"release-{n}").release.manifest.contributions)
    assert [[index for index, _ in each] for each in held] == [[old], [leaf]]


def test_a_withdrawal_ends_the_corrective_lease(fed):
    """Its upload, half done, counts no more, and its part goes."""
    ana = fed.member()
    lease, old = taught(ana)
    new = again(ana, lease, old)
    packed = ana.pack(new, seed=1)
    ana.begin(packed)

    ana.withdraw(lease, old)

    assert refusal(lambda: ana.contribute(packed)) == "lease-lost"
    assert phase(fed, lease.slot) == "free"
    assert ana.status(new).state == "lost"


def test_a_rotated_key_corrects_what_its_old_one_taught(fed):
    """What a member holds, it holds under its next key."""
    ana = fed.member()
    lease, old = taught(ana)
    ana = ana.rotate()

    _, leaf = corrected(ana, lease, old)

    assert states(fed) == {old: "superseded", leaf: "accepted"}


def test_an_order_to_train_what_stands_is_one_for_a_corrective_round(fed):
    """It names the newest release; the contribution that takes the place closes it."""
    ana = fed.member()
    lease, old = taught(ana)
    wish = Wish(kind="train", member=ana.key.public_hex[:8], concept="anna")
    with pytest.raises(Refused) as early:
        give(fed.house, wish)
    fed.release()

    given = give(fed.house, wish)["order"]
    (seen,) = ana.orders().orders
    _, leaf = corrected(ana, lease, old)

    assert early.value.code == "not-in-release"
    assert (given["release"], seen.release, seen.kind) == (1, 1, "train")
    (done,) = listed_orders(fed.house)
    assert (done["state"], done["leaf"]) == ("done", leaf)


def test_after_a_restart_all_is_as_it_was(tmp_path):
    """A corrective lease with a full term, the live contribution, then the new one."""
    folder = founded(tmp_path)
    with running(folder) as fed:
        ana = fed.member()
        lease, old = taught(ana)
        new = again(ana, lease, old)
        packed, slots = ana.pack(new, seed=1), fed.house.board.state.slots
    with running(folder) as fed:
        held = fed.house.board.state.slots
        told = [(s.phase, s.fence, s.client, s.kept, s.keeper) for s in held]
        ana = Member(type(ana.link)(ana.invite, address=fed.folder.address()), ana.key)
        ana.contribute(packed)
        assert wrong(fed) == []
        assert set(states(fed).values()) == {"superseded", "accepted"}

    assert told == [(s.phase, s.fence, s.client, s.kept, s.keeper) for s in slots]


def test_admission_does_not_take_it_for_a_copy_of_itself(tmp_path):
    """Nearly the same numbers as its own earlier ones; another's copy of them is a copy."""
    folder = founded(tmp_path, policy=Policy(norm_percent=10_000, budget_percent=10_000))
    with running(folder) as fed:
        ana, eve = fed.member(), fed.member()
        lease, old = taught(ana)
        new, leaf = corrected(ana, lease, old, seed=0)
        fresh = eve.lease("evi", ("evi-k7",))
        eve.contribute(eve.pack(fresh, seed=0))

        mine, copy = fed.house.store.run(listed)[1:]
        assert (mine["leaf"], mine["figures"]["copy_percent"]) == (leaf, 0.0)
        assert str(old) not in mine["figures"]["pairs"]
        assert copy["figures"]["copy_percent"] > 99
        assert str(old) not in copy["figures"]["pairs"]
        assert new.slot == lease.slot


def test_a_ledger_that_replaces_what_is_anothers_is_refused():
    """A forged leaf: another slot, another concept, another key, what was withdrawn."""
    first = body(3)
    good = {**body(3, client="b"), "replaces": {"client": "a", "leaf": 4}}
    leaves = [(4, leaf(first)), (6, leaf(good))]

    assert standings(leaves) == {4: "superseded", 6: "accepted"}
    for changed in ({"slot": 2}, {"concept": "bert"}, {"triggers": ["x"]}, {"basis": "z"}):
        with pytest.raises(VerificationFailed):
            standings([(4, leaf(first)), (6, leaf({**good, **changed}))])
    for replaced in ({"client": "c", "leaf": 4}, {"client": "a", "leaf": 3}, {}, 4):
        with pytest.raises(VerificationFailed):
            standings([(4, leaf(first)), (6, leaf({**good, "replaces": replaced}))])
    gone = (5, {"kind": "withdrawal", "doc": {"body": {"leaf": 4}}})
    with pytest.raises(VerificationFailed):
        standings([(4, leaf(first)), gone, (6, leaf(good))])
    gone = (7, gone[1])
    assert standings([*leaves, gone]) == {4: "withdrawn", 6: "withdrawn"}
    with pytest.raises(VerificationFailed):
        standings([*leaves, gone, (8, {"kind": "withdrawal", "doc": {"body": {"leaf": 6}}})])


def body(slot: int, *, client: str = "a") -> dict[str, object]:
    return {"basis": "b", "client": client, "concept": "anna", "slot": slot, "triggers": ["k"]}


def leaf(manifest: dict[str, object]) -> dict[str, object]:
    return {"kind": "contribution", "doc": {"body": manifest}}
