"""T1: slots are scarce, and whoever holds them without working keeps others out."""

import pytest

from orthofed.core.errors import OrthoFedError
from orthofed.core.spec import Limits
from orthofed.proto import methods, wire

from .besieged import Besieged, besieged
from .forked import copied, founded
from .member import Leased, Member

SLOTS = 8
TTL_S = 900
A_DAY = 3
KEYS = 1_000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    limits = Limits(operator_slots_percent=0, leases_a_day=A_DAY, ttl_s=TTL_S)
    return founded(tmp_path_factory.mktemp("squat"), slots=SLOTS, kib=4, limits=limits)


@pytest.fixture
def siege(made, tmp_path):
    with besieged(copied(made, tmp_path / "fed")) as opened:
        yield opened


def lease_if_possible(member: Member, name: str) -> Leased | None:
    try:
        return member.lease(name, (name,))
    except OrthoFedError:
        return None


def live_leases(siege: Besieged, member: Member) -> int:
    """Count those that nobody else may have yet; one past its deadline keeps nobody out."""
    now_s = siege.clock.monotonic_s()
    return sum(
        slot.phase == "leased" and slot.member == member.key.public_hex and slot.deadline_s > now_s
        for slot in siege.house.board.state.slots
    )


def test_a_thousand_keys_and_one_invite_are_one_member(siege):
    """An invite for one lets one key in, whoever asks with however many."""
    invite = siege.invite(uses=1)
    crowd = [siege.stranger(invite) for _ in range(KEYS)]
    joined = 0
    for one in crowd:
        try:
            one.join()
            joined += 1
        except OrthoFedError as error:
            assert error.code == "bad-invite"  # noqa: PT017  # the loop goes on

    assert joined == 1
    held = [lease_if_possible(one, f"squat-{n}") for n, one in enumerate(crowd[:20])]
    assert sum(each is not None for each in held) == 1


def test_honest_clients_lease_within_two_terms_beside_a_squatter_that_never_rests(siege):
    """The squatter asks every minute; as many honest owners as there are slots all get one."""
    squatter = siege.member()
    assert lease_if_possible(squatter, "squat-0") is not None
    honest = [siege.member() for _ in range(SLOTS)]
    waiting = dict(enumerate(honest))
    most = granted = 0
    for tries in range(1, 2 * TTL_S // 60 + 2):
        siege.pass_s(60)
        granted += lease_if_possible(squatter, f"squat-{tries}") is not None
        most = max(most, live_leases(siege, squatter))
        for n, owner in list(waiting.items()):
            if lease_if_possible(owner, f"honest-{n}") is not None:
                waiting.pop(n)
    assert waiting == {}
    assert most <= 1
    assert granted < A_DAY


def test_a_squatter_that_only_renews_loses_the_slot_to_who_needs_it(siege):
    """Renewals without progress move no deadline; with progress, only up to the hold limit."""
    squatter = siege.member()
    lease = squatter.lease("squat", ("squat-k7",))
    owners = [siege.member() for _ in range(SLOTS - 1)]
    busy = [owner.lease(f"busy-{n}", (f"busy-{n}",)) for n, owner in enumerate(owners)]
    for step in range(TTL_S // 60 + 2):
        siege.pass_s(60)
        renew(squatter, lease, progress=0)
        for owner, theirs in zip(owners, busy, strict=True):
            renew(owner, theirs, progress=step)

    taken = siege.member().lease("honest", ("honest-k7",))

    assert (taken.slot, taken.fence) == (lease.slot, lease.fence + 1)


def test_even_progress_holds_a_slot_no_longer_than_the_hold_limit(siege):
    """A squatter that counts up for ever is overtaken after hold_s and one term."""
    squatter = siege.member()
    lease = squatter.lease("squat", ("squat-k7",))
    hold_s = siege.house.facts.spec.limits.hold_s
    for n in range(hold_s // 600 + 2 * TTL_S // 600):
        siege.pass_s(600)
        renew(squatter, lease, progress=n)

    for n in range(SLOTS):
        siege.member().lease(f"honest-{n}", (f"honest-{n}",))

    with pytest.raises(OrthoFedError) as refused:
        renew(squatter, lease, progress=10**6)
    assert refused.value.code == "lease-lost"


def renew(member: Member, lease: Leased, *, progress: int) -> None:
    request = wire.RenewRequest(lease.slot, lease.fence, progress)
    member.link.call(methods.RENEW, request, wire.RenewReply, lease.key)
