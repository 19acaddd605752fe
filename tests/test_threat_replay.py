"""T3: calls captured on their way are good for nothing a second time."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from orthofed.coordinator.call import Call
from orthofed.proto import methods

from .besieged import Besieged, Recorder, besieged
from .forked import copied, founded
from .member import Member
from .seeded import Bug

REFUSED = {"replayed", "wrong-method", "wrong-body", "bad-signature", "wrong-audience", "bad-time"}
SIGNED = [method for method in methods.METHODS if method.signer != "nobody"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return founded(tmp_path_factory.mktemp("replay"), slots=64, kib=4)


@pytest.fixture
def folder(made, tmp_path):
    return copied(made, tmp_path / "fed")


def captured(siege: Besieged, *, num: int) -> list[Call]:
    """Return the signed calls of honest owners, at least ``num`` of them."""
    calls: list[Call] = []
    while len(calls) < num:
        member = siege.member()
        name = f"wren-{len(calls)}"
        lease = member.lease(name, (name,))
        if len(calls) % 3:
            member.give_back(lease)
            member = member.rotate()
        else:
            member.contribute(member.pack(lease, seed=len(calls)))
        calls += [call for call in recorder(member).calls if call.method in SIGNED]
        siege.pass_s(0.01)
    return calls[:num]


def recorder(member: Member) -> Recorder:
    assert isinstance(member.link, Recorder)
    return member.link


def replayed(siege: Besieged, calls: list[Call], rng: np.random.Generator) -> Counter[str]:
    """Send each call again: as it is, as another method, with another message, another header."""
    codes: Counter[str] = Counter()
    for call in calls:
        others = [method for method in SIGNED if method is not call.method]
        other = calls[int(rng.integers(len(calls)))]
        for again in (
            call,
            dataclasses.replace(call, method=others[int(rng.integers(len(others)))]),
            dataclasses.replace(call, body=call.body + b"\0"),
            dataclasses.replace(call, header=other.header, signature=call.signature),
        ):
            error = siege.refusal(again)
            codes[error.code if error else "answered"] += 1
    return codes


def test_captured_calls_do_nothing_again(folder, seed):
    """Each of 60 calls in four ways: refused by name, and no row and no deadline changes."""
    with besieged(folder) as siege:
        calls = captured(siege, num=60)
        before = siege.state()

        codes = replayed(siege, calls, np.random.default_rng(seed))

        assert set(codes) <= REFUSED | {"not-your-role"}
        assert {"replayed", "wrong-method", "wrong-body"} <= set(codes)
        assert siege.state() == before


def replayed_after_restart(folder, *, num: int, seed: int) -> tuple[Counter[str], str, str]:
    """Capture, restart, replay within the minute: the nonces are forgotten by then."""
    with besieged(folder) as siege:
        calls = captured(siege, num=num)
        rows = siege.rows()
    with besieged(folder) as siege:
        codes = replayed(siege, calls, np.random.default_rng(seed))
        return codes, rows, siege.rows()


def test_after_a_restart_a_replay_repeats_an_idempotent_write_at_most(folder, seed):
    """No row changes; deadlines may, by a term at most, as the restart itself moved them."""
    codes, before, after = replayed_after_restart(folder, num=60, seed=seed)

    assert codes["answered"] > 0, "the nonces are in memory"
    assert after == before


@pytest.mark.faults
def test_a_thousand_captured_calls_do_nothing_again(made, folder, tmp_path, seed, figures):
    """T3's figure: as they are, altered, and after a restart."""
    with besieged(folder) as siege:
        calls = captured(siege, num=1_000)
        before = siege.state()
        codes = replayed(siege, calls, np.random.default_rng(seed))
        changed = siege.state() != before
    another = copied(made, tmp_path / "another")
    _, rows, later = replayed_after_restart(another, num=200, seed=seed)

    figures.say("T3 replay", calls=4_000, answered=codes["answered"], changed=changed)
    assert not codes["answered"]
    assert not changed
    assert later == rows


def test_a_capture_is_stale_after_a_minute(folder):
    """Whoever keeps a call for later has nothing, even from a coordinator without a memory."""
    with besieged(folder) as siege:
        calls = captured(siege, num=12)
    with besieged(folder) as siege:
        siege.pass_s(61)
        codes = {getattr(siege.refusal(call), "code", "answered") for call in calls}

    assert codes == {"bad-time"}


def test_a_seeded_bug_of_the_nonces_is_caught(folder, seed):
    """Nonces are stored and not compared."""
    with Bug.named("nonce-not-compared").everywhere(), besieged(folder) as siege:
        calls = captured(siege, num=30)
        codes = replayed(siege, calls, np.random.default_rng(seed))

    assert codes["answered"]
