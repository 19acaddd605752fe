"""T20: ids of others cannot be guessed, and what is forbidden looks like what does not exist."""

import secrets
import time
from collections.abc import Iterator

import numpy as np
import pytest

from orthofed.core.document import parse
from orthofed.core.errors import OrthoFedError
from orthofed.proto import methods, wire

from .besieged import Besieged, besieged
from .forked import copied, founded
from .member import Packed
from .seeded import Bug

LEAST_P = 0.01


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return founded(tmp_path_factory.mktemp("guess"), slots=16, kib=4)


@pytest.fixture
def siege(made, tmp_path):
    with besieged(copied(made, tmp_path / "fed")) as opened:
        yield opened


def upload_of(siege: Besieged, name: str) -> Packed:
    """Begin somebody's upload and return it."""
    owner = siege.member()
    packed = owner.pack(owner.lease(name, (name,)))
    owner.begin(packed)
    return packed


def id_of(packed: Packed) -> bytes:
    return bytes.fromhex(parse(packed.document, kind="contribution").id)[:16]


class Guesser:
    """Somebody with a lease of their own who asks about ids."""

    def __init__(self, siege: Besieged) -> None:
        self._siege = siege
        self._member = siege.member()
        self._key = self._member.lease("crow", ("crow-k7",)).key

    def commit(self, upload_id: bytes) -> tuple[str, str, str, str] | None:
        """Return what the refusal says, None when something was answered."""
        return self._ask(methods.COMMIT, wire.CommitRequest(upload_id), wire.CommitReply)

    def put(self, upload_id: bytes) -> tuple[str, str, str, str] | None:
        return self._ask(methods.PUT, wire.PutRequest(upload_id, 0, b"x"), wire.PutReply)

    def status(self, slot: int, fence: int) -> tuple[str, str, str, str] | None:
        return self._ask(methods.STATUS, wire.StatusRequest(slot, fence), wire.StatusReply)

    def _ask(self, method, request, reply) -> tuple[str, str, str, str] | None:
        self._siege.pass_s(1.1)
        try:
            self._member.link.call(method, request, reply, self._key)
        except OrthoFedError as error:
            return error.code, error.what, error.why, error.fix
        return None


def answers(guesser: Guesser, guesses: Iterator[bytes]) -> set[tuple[str, str, str, str] | None]:
    found = set()
    for upload_id in guesses:
        found |= {guesser.commit(upload_id), guesser.put(upload_id)}
    return found


def random_ids(num: int) -> Iterator[bytes]:
    return (secrets.token_bytes(16) for _ in range(num))


def test_an_upload_of_somebody_else_looks_like_none(siege):
    """200 random ids and 8 that exist: one text for all, to the letter."""
    others = [id_of(upload_of(siege, f"wren-{n}")) for n in range(8)]
    guesser = Guesser(siege)

    absent = answers(guesser, random_ids(200))
    forbidden = answers(guesser, iter(others))

    assert len(absent) == 1
    assert None not in absent
    assert forbidden == absent


def test_a_lease_of_somebody_else_looks_like_none(siege):
    """Every slot at every fence near: those leased, those free, those that do not exist."""
    upload_of(siege, "wren")
    guesser = Guesser(siege)

    told = {
        guesser.status(slot, fence) for slot in (*range(16), 2**31) if slot != 1 for fence in (1, 2)
    }

    assert len(told) == 1
    assert None not in told


def test_a_seeded_bug_of_the_lookup_is_caught(made, tmp_path):
    """Who asks about another's upload is told that it is another's."""
    folder, bug = copied(made, tmp_path / "fed"), Bug.named("forbidden-differs-from-absent")
    with bug.everywhere(), besieged(folder) as siege:
        theirs = id_of(upload_of(siege, "wren"))
        guesser = Guesser(siege)
        absent, forbidden = guesser.commit(secrets.token_bytes(16)), guesser.commit(theirs)

    assert absent != forbidden


@pytest.mark.faults
def test_a_hundred_thousand_guesses_hit_nothing(siege, figures):
    """T20's figure; the time to refuse tells absent from forbidden no better than chance does."""
    others = [id_of(upload_of(siege, f"wren-{n}")) for n in range(8)]
    guesser = Guesser(siege)
    told: set[tuple[str, str, str, str] | None] = set()
    times_ns: dict[bool, list[int]] = {True: [], False: []}
    rng = np.random.default_rng(0)
    for n in range(100_000):
        exists = bool(rng.integers(2)) if n < 8_000 else False
        upload_id = others[n % 8] if exists else secrets.token_bytes(16)
        start_ns = time.thread_time_ns()
        told.add(guesser.commit(upload_id))
        if n < 8_000:  # as many of either kind, mixed, so that drift falls on both
            times_ns[exists].append(time.thread_time_ns() - start_ns)

    p = same_distribution(np.array(times_ns[True]), np.array(times_ns[False]))
    figures.say("T20 guessed ids", guesses=100_000, hits=int(None in told), texts=len(told), p=p)
    assert len(told) == 1
    assert None not in told
    assert p > LEAST_P


def same_distribution(one: np.ndarray, other: np.ndarray) -> float:
    """Return the two-sided Kolmogorov-Smirnov p-value, by Kolmogorov's series."""
    both = np.concatenate([one, other])
    cdfs = [np.searchsorted(np.sort(part), both, side="right") / len(part) for part in (one, other)]
    distance = float(np.abs(cdfs[0] - cdfs[1]).max())
    size = np.sqrt(len(one) * len(other) / len(both))
    x = (size + 0.12 + 0.11 / size) * distance
    k = np.arange(1, 101)
    return float(np.clip(2 * np.sum((-1.0) ** (k - 1) * np.exp(-2 * (k * x) ** 2)), 0, 1))
