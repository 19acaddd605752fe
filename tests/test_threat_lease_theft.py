"""T2: who knows a lease, its slot and its fence, but not its key, can do nothing with it."""

import dataclasses
import secrets

import numpy as np
import pytest

from orthofed.core.document import parse
from orthofed.core.errors import OrthoFedError
from orthofed.core.keys import SigningKey
from orthofed.proto import methods, wire

from .besieged import Besieged, besieged
from .forked import copied, founded
from .member import Leased, Member, Packed
from .seeded import Bug

NOT_YOURS = {"not-your-role", "lease-lost", "not-found", "unknown-upload", "manifest-differs"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return founded(tmp_path_factory.mktemp("theft"), slots=4, kib=4)


@pytest.fixture
def siege(made, tmp_path):
    with besieged(copied(made, tmp_path / "fed")) as opened:
        yield opened


def thefts(siege: Besieged, victim: Member, packed: Packed, thief: Leased, *, num: int, seed: int):
    """Give the code of each of ``num`` calls about the victim's lease, signed by other keys."""
    rng, lease = np.random.default_rng(seed), packed.lease
    upload_id = bytes.fromhex(parse(packed.document, kind="contribution").id)[:16]
    messages = [
        (methods.RENEW, wire.RenewRequest(lease.slot, lease.fence, 10**6), wire.RenewReply),
        (methods.GIVE_BACK, wire.GiveBackRequest(lease.slot, lease.fence), wire.GiveBackReply),
        (methods.STATUS, wire.StatusRequest(lease.slot, lease.fence), wire.StatusReply),
        (methods.BEGIN, wire.BeginRequest(packed.document, packed.hashes), wire.BeginReply),
        (methods.PUT, wire.PutRequest(upload_id, 0, packed.chunks[0]), wire.PutReply),
        (methods.COMMIT, wire.CommitRequest(upload_id), wire.CommitReply),
    ]
    strangers = [SigningKey.from_seed(secrets.token_bytes(32)) for _ in range(8)]
    keys = [*strangers, victim.key, thief.key]
    for _ in range(num):
        siege.pass_s(1.1)  # else the limit of one call a second would hide what refuses
        method, request, reply = messages[int(rng.integers(len(messages)))]
        key = keys[int(rng.integers(len(keys)))]
        try:
            victim.link.call(method, request, reply, key)
        except OrthoFedError as error:
            yield error.code
        else:
            yield f"answered {method.path}"


def besiege(siege: Besieged, *, num: int, seed: int) -> tuple[set[str], bool]:
    """Return the codes of ``num`` thefts, and whether anything changed."""
    victim, other = siege.member(), siege.member()
    packed = victim.pack(victim.lease("wren", ("wren-k7",)))
    victim.begin(packed)
    thief = other.lease("crow", ("crow-k7",))
    before = siege.state()
    codes = set(thefts(siege, victim, packed, thief, num=num, seed=seed))
    return codes, siege.state() != before


def test_a_lease_is_of_no_use_to_another_key(siege, seed):
    """Strangers' keys, the victim's own member key, and another lease's client key."""
    codes, changed = besiege(siege, num=600, seed=seed)

    assert codes <= NOT_YOURS
    assert {"not-your-role", "lease-lost", "unknown-upload"} <= codes
    assert not changed


@pytest.mark.faults
def test_ten_thousand_thefts_change_nothing(siege, seed, figures):
    """T2's figure."""
    codes, changed = besiege(siege, num=10_000, seed=seed)

    figures.say("T2 lease theft", calls=10_000, answered=len(codes - NOT_YOURS), changed=changed)
    assert codes <= NOT_YOURS
    assert not changed


def test_a_seeded_bug_of_the_lease_is_caught(siege, seed):
    """The slot's holder is not compared."""
    with Bug.named("client-not-compared").everywhere():
        codes, changed = besiege(siege, num=200, seed=seed)

    assert codes - NOT_YOURS or changed


def test_a_client_key_has_one_lease_only(siege):
    """A fresh fence for a used key would let an old capture speak for it."""
    member = siege.member()
    lease = member.lease("wren", ("wren-k7",))
    member.give_back(lease)

    with pytest.raises(OrthoFedError) as refused:
        member.lease("crow", ("crow-k7",), key=lease.key)

    assert refused.value.code == "key-used"
    assert dataclasses.asdict(lease)["fence"] == 1
