"""One concept, several owners: seats by a share of its first owner, averaged exactly (T29).

Over real gRPC; what is learnt is random numbers (member.py). The client's side of it:
test_shared_training.py.
"""

import secrets
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orthofed.client.contributions import Contributions
from orthofed.client.open_part import open_shares
from orthofed.client.rebuild import Rebuild
from orthofed.client.verify import verify_folder
from orthofed.coordinator import publications
from orthofed.coordinator.base import BaseFolder
from orthofed.core.errors import ContributionRejected, LeaseLost, OrthoFedError, Refused
from orthofed.core.keys import SigningKey
from orthofed.core.layout import unpack
from orthofed.core.merge import residual
from orthofed.core.owners import owner_weights
from orthofed.core.standing import standings

from .member import Given, Leased, Member, Shared, random_blob
from .serving import Running, founded, running
from .test_corrective import phase, released, states, wrong
from .test_rebuild import pull

CONCEPT = ("anna", ("anna-k7",))


@pytest.fixture
def fed(tmp_path):
    with running(founded(tmp_path)) as coordinator:
        yield coordinator
        assert wrong(coordinator) == []


def first(member: Member, *, images: int = 10, seed: int = 0) -> tuple[Leased, int]:
    lease = member.lease(*CONCEPT)
    return lease, member.check(member.contribute(member.pack(lease, seed=seed, count=images))).index


def joined(member: Member, share: Shared, *, images: int, seed: int) -> tuple[Leased, int]:
    lease = member.lease(*CONCEPT, joins=share)
    return lease, member.check(member.contribute(member.pack(lease, seed=seed, count=images))).index


def weights(fed: Running) -> dict[int, int]:
    newest = fed.house.store.run(publications.newest)
    assert newest is not None
    return {item.leaf: item.lambda_1024 for item in newest.plan.included}


def verified(fed: Running, folder, n: int) -> Contributions:
    """Pull a release, verify it and derive every byte anew; return what it was made of."""
    pull(fed, folder, n)
    release = verify_folder(folder).release
    made_of = Contributions(folder, release)
    assert Rebuild(made_of).run(BaseFolder(fed.folder.settings().base)) > 0
    return made_of


def test_the_parts_of_one_concept_are_averaged_exactly_by_their_images(fed, tmp_path):
    """Three owners, 10, 30 and 20 images, beside another concept; every byte follows from them."""
    ana, ben, cleo, dora = (fed.member() for _ in range(4))
    lease, leaf = first(ana, images=10, seed=1)
    share = ana.share(lease, leaf)
    (seat, two), (_, three) = (
        joined(ben, share, images=30, seed=2),
        joined(cleo, share, images=20, seed=3),
    )
    other = dora.lease("dora", ("dora-k7",))
    four = dora.check(dora.contribute(dora.pack(other, seed=4))).index
    fed.release()
    made_of = verified(fed, tmp_path / "release", 1)

    spec = fed.house.facts.spec
    shares = owner_weights((10, 30, 20), spec.lambda_1024)
    assert weights(fed) == {leaf: shares[0], two: shares[1], three: shares[2], four: 1024}
    assert (seat.slot, seat.fence) == (spec.capacity, 1)
    layer, blobs = spec.layers[0], [random_blob(spec, (1,), seed=s, size=0.02) for s in (1, 2, 3)]
    with open_shares(made_of, made_of.release.manifest.contributions) as merge:
        anna, _ = merge.parts
        got = residual(
            [anna.term(spec, layer)],
            family=spec.basis,
            width=layer.width,
            out=layer.out,
        )
        each = [part.term(spec, layer) for part in anna.owners]
        wanted = residual(each, family=spec.basis, width=layer.width, out=layer.out)
        rows = anna.embedding(spec.encoders[0].name, 0)
    tensors = [unpack(anna.layout, blob) for blob in blobs]
    vectors = [t[f"embed.{spec.encoders[0].name}.0"] for t in tensors]
    weighted = [
        np.ldexp(v.q.astype(np.float64), v.exponent) * w
        for v, w in zip(vectors, owner_weights((10, 30, 20), 1024), strict=True)
    ]
    exact = np.sum(weighted, axis=0)
    assert np.array_equal(got, wanted)
    assert np.array_equal(rows, (exact / 1024).astype(np.float32))


def test_nobody_gets_in_without_the_owners_share(fed):
    """A made-up share, one of another contribution, one without its secret; and a used-up one."""
    ana, ben, cleo = (fed.member() for _ in range(3))
    lease, leaf = first(ana)
    good = ana.share(lease, leaf, uses=1)
    forged = replace(lease, key=SigningKey.from_seed(secrets.token_bytes(32)))
    guessed = Shared(good.share, SigningKey.from_seed(secrets.token_bytes(32)))
    for share, code in ((ana.share(forged, leaf), "not-shared"), (guessed, "malformed")):
        with pytest.raises(OrthoFedError) as refused:
            ben.lease(*CONCEPT, joins=share)
        assert refused.value.code == code
    with pytest.raises(Refused) as taken:
        ben.lease(*CONCEPT)

    joined(ben, good, images=5, seed=2)
    with pytest.raises(Refused) as used:
        cleo.lease(*CONCEPT, joins=good)

    assert taken.value.code == "name-taken"
    assert used.value.code == "not-shared"


def test_a_share_is_used_no_more_often_than_it_says_also_by_leases_that_wait(fed):
    """Two lease by a share for one; the second to send is refused, and the ledger stays sound."""
    ana, ben, cleo = (fed.member() for _ in range(3))
    lease, leaf = first(ana)
    share = ana.share(lease, leaf, uses=1)
    one, other = (who.lease(*CONCEPT, joins=share) for who in (ben, cleo))
    ben.contribute(ben.pack(one, seed=2, count=5))

    with pytest.raises(OrthoFedError) as refused:
        cleo.contribute(cleo.pack(other, seed=3, count=5))

    assert refused.value.code == "not-shared"


@pytest.mark.parametrize("images", [0, 101])
def test_a_part_counts_at_most_as_many_images_as_the_share_allows(fed, images):
    """A liar's number, and none at all."""
    ana, ben = fed.member(), fed.member()
    lease, leaf = first(ana)
    seat = ben.lease(*CONCEPT, joins=ana.share(lease, leaf, images=100))

    with pytest.raises(OrthoFedError) as refused:
        ben.contribute(ben.pack(seat, seed=2, count=images))

    assert refused.value.code == "bad-field"


def test_a_withdrawal_takes_out_its_owners_part_alone(fed, tmp_path):
    """The first owner leaves; the block stays taken until the last part is in no release."""
    ana, ben, cleo = (fed.member() for _ in range(3))
    lease, leaf = first(ana, images=10)
    share = ana.share(lease, leaf)
    seat, two = joined(ben, share, images=30, seed=2)
    waiting = cleo.lease(*CONCEPT, joins=share)
    fed.release()
    ana.withdraw(lease, leaf)
    with pytest.raises(LeaseLost):  # what had sent nothing ended with its owner's word
        cleo.contribute(cleo.pack(waiting, seed=3, count=5))
    after_first = phase(fed, lease.slot), states(fed)
    fed.release()
    alone = phase(fed, lease.slot), weights(fed)
    verified(fed, tmp_path / "release-2", 2)
    with pytest.raises(Refused) as taken:  # the name is its owner's, but is in use
        ana.lease(*CONCEPT)
    ben.withdraw(seat, two)
    dora = fed.member()
    other = dora.lease("dora", ("dora-k7",))
    dora.contribute(dora.pack(other, seed=4))
    still = phase(fed, lease.slot), phase(fed, seat.slot)
    fed.release()

    assert after_first == ("emptying", {leaf: "withdrawn", two: "accepted"})
    assert alone == ("emptying", {two: 1024})
    assert taken.value.code == "name-taken"
    assert still == ("emptying", "emptying")
    assert (phase(fed, lease.slot), phase(fed, seat.slot)) == ("free", "free")
    assert other.slot != lease.slot


def test_a_round_replaces_each_owners_part(fed, tmp_path):
    """Both send once more; the next release holds the newer ones, weighted anew."""
    ana, ben = fed.member(), fed.member()
    lease, leaf = first(ana, images=10)
    share = ana.share(lease, leaf)
    seat, two = joined(ben, share, images=30, seed=2)
    fed.release()
    newer = []
    for who, old, at, images in ((ana, lease, leaf, 10), (ben, seat, two, 20)):
        new = who.lease(*CONCEPT, replaces=Given(at, old.key), joins=old.joins)
        packed = who.pack(new, seed=5 + images, count=images)
        newer.append(who.check(who.contribute(packed)).index)
    fed.release()
    verified(fed, tmp_path / "release-2", 2)

    assert weights(fed) == dict(zip(newer, owner_weights((10, 20), 1024), strict=True))
    assert states(fed)[two] == states(fed)[leaf] == "superseded"


def test_a_round_goes_on_counting_and_stays_by_its_share(fed):
    """One that leaves the number out, or says another share, is refused."""
    ana, ben = fed.member(), fed.member()
    lease, leaf = first(ana)
    share, other = ana.share(lease, leaf), ana.share(lease, leaf)
    seat, two = joined(ben, share, images=30, seed=2)
    new = ana.lease(*CONCEPT, replaces=Given(leaf, lease.key))
    moved = ben.lease(*CONCEPT, replaces=Given(two, seat.key), joins=seat.joins)

    with pytest.raises(ContributionRejected) as uncounted:
        ana.contribute(ana.pack(new, seed=5))
    with pytest.raises(ContributionRejected) as elsewhere:
        ben.contribute(ben.pack(moved, seed=6, count=5, share=other.share))

    assert "images" in uncounted.value.what
    assert "share" in elsewhere.value.what


def test_a_rejected_part_leaves_the_others_weights(fed):
    """The operator takes one owner's part out; the rest weigh what is left."""
    ana, ben = fed.member(), fed.member()
    lease, leaf = first(ana, images=10)
    _, two = joined(ben, ana.share(lease, leaf), images=30, seed=2)
    fed.release()
    fed.desk.ask("reject", {"leaf": two, "why": "not of her"})
    fed.release()

    assert weights(fed) == {leaf: 1024}
    assert released(fed) == {leaf}


def test_seats_are_given_anew_and_the_state_survives_a_restart(tmp_path):
    """A seat that is free goes to another concept; a restart finds slots and seats as they were."""
    folder = founded(tmp_path)
    with running(folder) as fed:
        ana, ben, cleo, dora = (fed.member() for _ in range(4))
        lease, leaf = first(ana)
        seat = ben.lease(*CONCEPT, joins=ana.share(lease, leaf))
        ben.give_back(seat)
        other = cleo.lease("cleo", ("cleo-k7",))
        part = cleo.check(cleo.contribute(cleo.pack(other, seed=3, count=4))).index
        again = dora.lease("cleo", ("cleo-k7",), joins=cleo.share(other, part))
        before = fed.house.board.state.slots
    with running(folder) as fed:
        after = fed.house.board.state.slots
        assert wrong(fed) == []

    assert (again.slot, again.fence) == (seat.slot, seat.fence + 1)
    assert [(s.phase, s.fence, s.home) for s in after] == [
        (s.phase, s.fence, s.home) for s in before
    ]
    assert after[seat.slot].home == other.slot


def leaves(**changed: object) -> list[tuple[int, dict[str, Any]]]:
    """Return a ledger of two owners, with something else in the second one's manifest."""
    said = {
        "basis": "b",
        "concept": "anna",
        "slot": 1,
        "triggers": ["a"],
        "client": "c",
        "count": 4,
    }
    share = {"leaf": 3, "client": "c", "slot": 1, "sig": "s", "uses": 1}
    two = {**said, "slot": 9, "client": "d", "share": share, **changed}
    wrapped = [{"kind": "contribution", "doc": {"body": body}} for body in (said, two)]
    return [(3, wrapped[0]), (4, wrapped[1])]


def test_the_ledger_alone_shows_who_was_let_in():
    """Whatever a coordinator signs: a share of another client, block, concept or leaf is seen."""
    good = leaves()
    share = good[1][1]["doc"]["body"]["share"]
    assert standings(good) == {3: "accepted", 4: "accepted"}
    for changed in (
        {"concept": "other"},
        {"triggers": ["b"]},
        {"basis": "other"},
        {"share": {**share, "client": "e"}},
        {"share": {**share, "slot": 2}},
        {"share": {**share, "leaf": 4}},
        {"share": {**share, "uses": 0}},
    ):
        with pytest.raises(OrthoFedError) as seen:
            standings(leaves(**changed))
        assert seen.value.code == "bad-field"


def test_shares_by_largest_remainder_add_up():
    """Whatever the counts, the parts add up to the weight, and none is off by one unit."""
    rng = np.random.default_rng(7)
    for _ in range(300):
        images = rng.integers(1, 10_000, size=rng.integers(1, 17)).tolist()
        total = int(rng.integers(0, 2049))
        found = owner_weights(images, total)
        assert sum(found) == total
        assert all(
            abs(w * sum(images) - total * n) < sum(images)
            for w, n in zip(found, images, strict=True)
        )
