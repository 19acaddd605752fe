"""T19: what one key may announce and send in a day, and whose parts make room again."""

from pathlib import Path

import pytest

from orthofed.coordinator.limits import Daily, KnownKeys
from orthofed.coordinator.stale_parts import StaleParts
from orthofed.core.errors import LeaseLost, Refused

from .member import Member, Packed
from .serving import Running, founded, running

DAY_S = 86_400
HOUR_S = 3_600


def limited(path: Path, key: str, most: int):
    """Return a folder whose settings allow only so much."""
    folder = founded(path)
    kept = [
        line
        for line in folder.settings_file.read_text().splitlines()
        if not line.startswith(f"{key} =")
    ]
    folder.settings_file.write_text("\n".join([f"{key} = {most}", *kept, ""]))
    return folder


def half_sent(member: Member) -> Packed:
    packed = member.pack(member.lease())
    member.begin(packed)
    return packed


def tomorrow(coordinator: Running, member: Member) -> None:
    coordinator.clock.wall_moved_s += DAY_S
    member.link.clock_offset_s += DAY_S


def test_a_day_holds_what_it_says_and_the_next_one_again():
    """Ten a day: six and four are taken, one more is not, and is not counted; another key may."""
    daily = Daily(10, unit="things")

    daily.take("ana", 6, 5 * DAY_S)
    with pytest.raises(Refused, match="11 things"):
        daily.take("ana", 5, 5 * DAY_S + 1)
    daily.take("ana", 4, 5 * DAY_S + 2)
    daily.take("ben", 10, 5 * DAY_S + 3)

    with pytest.raises(Refused):
        daily.take("ana", 1, 6 * DAY_S - 1)
    daily.take("ana", 10, 6 * DAY_S)


def test_a_known_key_is_asked_about_once_and_an_unknown_one_each_time():
    """An unknown key may be known a moment later: it leases."""
    asked: list[str] = []
    members = {"ana"}
    known = KnownKeys(lambda key: asked.append(key) or key in members)

    answers = [known("ana"), known("ana"), known("ben"), known("ben")]
    members.add("ben")

    assert answers == [True, True, False, False]
    assert known("ben")
    assert asked == ["ana", "ben", "ben", "ben"]


def test_one_key_announces_so_many_uploads_a_day(tmp_path):
    """Two manifests of one lease; a third is refused, the second again is not, a new day is new."""
    with running(limited(tmp_path, "uploads_a_day", 2)) as coordinator:
        member = coordinator.member()
        lease = member.lease()
        first, second, third = (member.pack(lease, seed=seed) for seed in range(3))
        member.begin(first)
        member.begin(second)

        with pytest.raises(Refused) as caught:
            member.begin(third)
        member.begin(second)
        tomorrow(coordinator, member)

        assert caught.value.code == "quota-used"
        assert caught.value.what == "3 uploads announced by one key today, allowed are 2"
        assert member.link.last_trailers["status"] == "RESOURCE_EXHAUSTED"
        member.begin(third)


def test_one_key_sends_so_many_bytes_a_day(tmp_path):
    """A MiB a day: the same chunk over and over is stopped, though it changes nothing."""
    with running(limited(tmp_path, "upload_mib_a_day", 1)) as coordinator:
        member = coordinator.member()
        packed = half_sent(member)
        length = len(packed.chunks[0])

        for _ in range((1 << 20) // length):
            member.put(packed, 0)

        with pytest.raises(Refused) as caught:
            member.put(packed, 0)
        status = member.link.last_trailers["status"]
        tomorrow(coordinator, member)

        assert (caught.value.code, status) == ("quota-used", "RESOURCE_EXHAUSTED")
        assert caught.value.what.endswith(f"bytes sent by one key today, allowed are {1 << 20}")
        assert member.put(packed, 0).num_whole == 1


@pytest.mark.parametrize("gives_back", [True, False])
def test_a_part_goes_an_hour_after_its_lease(tmp_path, gives_back):
    """Given back or run out: an hour later, and not before, its room is free."""
    with running(founded(tmp_path)) as coordinator:
        member = coordinator.member()
        packed = half_sent(member)
        member.put(packed, 0)
        stale = StaleParts(coordinator.house)
        assert stale.sweep() == 0
        if gives_back:
            member.give_back(packed.lease)
        else:
            coordinator.clock.moved_s += 900  # the TTL
        assert stale.sweep() == 0

        coordinator.clock.moved_s += HOUR_S - 10
        early = (stale.sweep(), len(coordinator.house.blobs.ids()))
        coordinator.clock.moved_s += 10
        late = (stale.sweep(), len(coordinator.house.blobs.ids()))

        assert (early, late) == ((0, 1), (1, 0))


def test_who_comes_back_after_that_begins_again(tmp_path):
    """The lease ran out and nobody took the slot: the upload is unknown, then whole again."""
    with running(founded(tmp_path)) as coordinator:
        member = coordinator.member()
        packed = half_sent(member)
        member.put(packed, 0)
        stale = StaleParts(coordinator.house)
        coordinator.clock.moved_s += 901
        stale.sweep()
        coordinator.clock.moved_s += HOUR_S
        assert stale.sweep() == 1

        with pytest.raises(Refused) as caught:
            member.put(packed, 0)

        assert caught.value.code == "unknown-upload"
        assert member.check(member.contribute(packed))


def test_a_lease_that_lives_again_keeps_its_part(tmp_path):
    """Run out, seen once, then renewed: the hour starts anew the next time."""
    with running(founded(tmp_path)) as coordinator:
        member = coordinator.member()
        packed = half_sent(member)
        stale = StaleParts(coordinator.house)
        coordinator.clock.moved_s += 901
        stale.sweep()
        member.put(packed, 0)  # moves the deadline

        coordinator.clock.moved_s += HOUR_S - 1_800
        stale.sweep()
        coordinator.clock.moved_s += 1_801

        assert stale.sweep() == 0
        assert len(coordinator.house.blobs.ids()) == 1


def test_a_chunk_for_a_lost_lease_is_refused_though_the_upload_was_at_hand(tmp_path):
    """The upload is in memory from its first chunk; the lease goes meanwhile."""
    with running(founded(tmp_path)) as coordinator:
        member = coordinator.member()
        packed = half_sent(member)
        member.put(packed, 0)
        member.give_back(packed.lease)

        with pytest.raises(LeaseLost):
            member.put(packed, 0)
