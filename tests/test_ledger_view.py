"""What a client remembers of a ledger, and what it then refuses: old, shrunk, frozen, forked.

Threats T16 and T17 of security.md 2. The server is a dictionary of files made by mirror.py and
plain_ledger.py; nothing of the coordinator is used.
"""

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from orthofed.client.fork_proof import ForkProof
from orthofed.client.ledger_view import look, remember
from orthofed.client.seen_heads import SeenHeads
from orthofed.core.checkpoint import Checkpoint, sign_checkpoint
from orthofed.core.document import Document, sign
from orthofed.core.errors import InputError, Refused, VerificationFailed
from orthofed.core.keyring import Keyring
from orthofed.core.keys import SigningKey
from orthofed.core.leaf import document_leaf, lease_leaf, spec_leaf

from .bundles import keyring
from .mirror import (
    LEDGER,
    NOW_S,
    ROOT,
    SignedRelease,
    files,
    public_files,
    tiny_keyring,
    tiny_spec,
)
from .plain_ledger import PlainLedger

THIEF = SigningKey.from_seed(b"\x63" * 32)
RELEASE = SignedRelease.of(files())
LOG = RELEASE.log


class Files:
    """A server of files; ``asked`` is what it was asked for."""

    def __init__(self, content: Mapping[str, bytes]) -> None:
        self.content = dict(content)
        self.asked: list[str] = []

    def read(self, name: str, most: int) -> bytes:
        self.asked.append(name)
        if name not in self.content:
            raise Refused("absent", why="w", fix="f", code="not-found")
        assert len(self.content[name]) <= most
        return self.content[name]


def leaves(num: int, *, forked_at: int | None = None) -> list[bytes]:
    """Return ``num`` leaves; from ``forked_at`` on they are others."""
    found = [spec_leaf(tiny_spec().id), document_leaf(tiny_keyring())]
    for n in range(2, num):
        slot = 1 if forked_at is not None and n >= forked_at else 0
        found.append(lease_leaf(client="a" * 64, fence=n, slot=slot, triggers=["abc"]))
    return found


def served(num: int, *, forked_at: int | None = None, **changes) -> Files:
    """Return a server of a ledger of ``num`` leaves."""
    bodies = leaves(num, forked_at=forked_at)
    return Files(public_files(bodies, LOG, RELEASE.reply, **changes))


@pytest.fixture
def seen(tmp_path: Path) -> SeenHeads:
    return SeenHeads(tmp_path / "home")


def see(source: Files, seen: SeenHeads, *, now_s: int = NOW_S) -> None:
    """Look and remember, as `pull` does."""
    remember(look(source, LOG, seen, now_s=now_s), seen)


def refused(source: Files, seen: SeenHeads, *, now_s: int = NOW_S) -> VerificationFailed:
    """Return the refusal; what was seen must not have changed."""
    before = seen.of(LOG)
    with pytest.raises(VerificationFailed) as caught:
        see(source, seen, now_s=now_s)
    assert seen.of(LOG) == before
    return caught.value


def test_a_ledger_that_grows_is_followed(seen: SeenHeads) -> None:
    """From 2 leaves to 2,000: each look costs a few files, and the newest head is remembered."""
    for size in (2, 3, 3, 255, 256, 257, 700, 2_000):
        source = served(size)
        see(source, seen)

        found = seen.of(LOG)
        assert found is not None
        assert found.told.size == size
        assert len(source.asked) <= 5 + 4


def test_a_ledger_that_shrank_is_refused(seen: SeenHeads) -> None:
    """T16: an old head and checkpoint, genuine and fresh, of fewer leaves than were seen."""
    see(served(300), seen)

    error = refused(served(299), seen)

    assert error.code == "rollback-failed"
    assert "299 leaves, 300 were seen before" in error.what


def test_fewer_releases_than_were_seen_are_refused(seen: SeenHeads) -> None:
    """T16: the same leaves, and a head that names an older release."""
    see(served(5, release=2, manifest="2" * 64), seen)

    assert refused(served(6, release=1, manifest="1" * 64), seen).code == "rollback-failed"
    other = refused(served(6, release=2, manifest="3" * 64), seen)
    assert "another manifest" in other.what


def test_fewer_keyrings_than_were_seen_are_refused(seen: SeenHeads) -> None:
    """T16: keyring 2 was seen; a server that only knows keyring 1 is behind, or lies."""
    thief = SigningKey.from_seed(b"\x63" * 32)
    first = tiny_keyring()
    second = replace(
        Keyring.from_body(first.body), n=2, prev=first.id, ledger=thief.public_hex, t=NOW_S - 60
    )
    rotated: Document = sign("keyring", second.to_body(), [ROOT])
    reply = replace(RELEASE.reply, keyrings=(first.to_bytes(), rotated.to_bytes()))
    bodies = [*leaves(2), document_leaf(rotated)]
    see(Files(public_files(bodies, LOG, reply, key=thief)), seen)

    error = refused(served(9), seen)

    assert "1 keyrings, 2 were seen before" in error.what
    assert refused(Files(public_files(bodies, LOG, reply, key=LEDGER)), seen).code == (
        "checkpoint-failed"
    ), "the old ledger key has no say any more"


def test_a_stale_head_is_refused(seen: SeenHeads) -> None:
    """T16, freeze: an honest head of long ago; ``fresh`` is a week, to the second."""
    week_s = 604_800

    see(served(3), seen, now_s=NOW_S + week_s)
    error = refused(served(4), seen, now_s=NOW_S + week_s + 1)

    assert error.code == "freeze-failed"
    assert "604801 s old, allowed are 604800" in error.what


def test_a_head_of_a_time_to_come_is_refused(seen: SeenHeads) -> None:
    """It would never grow old: one hour is allowed for clocks that differ."""
    see(served(3, t=NOW_S + 3_600), seen)

    assert refused(served(4, t=NOW_S + 3_601), seen).code == "freeze-failed"


def test_an_expired_keyring_is_refused(seen: SeenHeads) -> None:
    """Security.md 3: what a stolen ledger key can do ends with the keyring's ``until``."""
    year_s = 365 * 86_400

    error = refused(served(3, t=NOW_S + year_s), seen, now_s=NOW_S + year_s + 1)

    assert error.code == "expiry-failed"


def test_a_head_beside_another_checkpoint_is_refused(
    seen: SeenHeads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T16, mix-and-match: both genuine, of two sizes."""
    monkeypatch.setattr("orthofed.client.ledger_view._PAUSE_S", 0.0)
    mixed = {**served(4).content, "head.json": served(3).content["head.json"]}

    assert refused(Files(mixed), seen).code == "head-failed"


def test_a_checkpoint_that_is_written_before_its_head_is_waited_for(seen: SeenHeads) -> None:
    """A coordinator writes one file after the other: the next try finds both."""
    source, newer = served(3), served(4)

    class Slow(Files):
        def read(self, name: str, most: int) -> bytes:
            data = super().read(name, most)
            if name == "checkpoint":
                self.content |= newer.content
            return data

    see(Slow({**source.content}), seen)

    found = seen.of(LOG)
    assert found is not None
    assert found.told.size == 4


def test_a_fork_leaves_a_proof_that_stands_alone(seen: SeenHeads) -> None:
    """T17: the file alone, with the log id, shows two signed histories; nobody's word is needed."""
    see(served(300), seen)

    error = refused(served(310, forked_at=299), seen)

    assert error.code == "fork-failed"
    path = seen.path(LOG).with_name(f"{LOG}.fork-300-310.json")
    assert str(path) in error.fix
    proof = ForkProof.from_bytes(path.read_bytes())
    old, new = proof.check(LOG)
    assert (old.size, new.size) == (300, 310)
    assert old.root == PlainLedger(leaves(300)).root(300)
    assert proof.root == PlainLedger(leaves(310, forked_at=299)).root(300)


def test_two_heads_of_one_size_are_a_fork(seen: SeenHeads) -> None:
    """T17: no tile is needed; the two checkpoints contradict one another."""
    see(served(40), seen)

    error = refused(served(40, forked_at=39), seen)

    assert error.code == "fork-failed"
    path = seen.path(LOG).with_name(f"{LOG}.fork-40-40.json")
    old, new = ForkProof.from_bytes(path.read_bytes()).check(LOG)
    assert old.size == new.size
    assert old.root != new.root


def test_a_ledger_key_that_was_rotated_away_accuses_nobody() -> None:
    """T25: a later history has to be the newest key's; an earlier one is told to be a former's."""
    ring = keyring(2, tiny_keyring(), [ROOT], ledger=THIEF.public_hex)
    newest, rings = THIEF, tuple(each.to_bytes() for each in (tiny_keyring(), ring))
    true, invented = PlainLedger(leaves(20)), PlainLedger(leaves(21, forked_at=9))

    def note(key: SigningKey, plain: PlainLedger, size: int) -> bytes:
        return sign_checkpoint(key, Checkpoint(LOG, size, plain.root(size)))

    def fork(old: bytes, size: int, key: SigningKey, plain: PlainLedger, grown: int) -> ForkProof:
        proof = tuple(plain.growth(size, grown))
        return ForkProof(old, note(key, plain, grown), plain.root(size), proof, rings)

    later = fork(note(newest, true, 20), 20, LEDGER, invented, 21)
    with pytest.raises(VerificationFailed):
        later.check(LOG)

    earlier = fork(note(LEDGER, invented, 12), 12, newest, true, 20)
    assert [each.size for each in earlier.check(LOG)] == [12, 20]
    assert earlier.is_by_former_key(LOG)
    assert not replace(earlier, old=note(newest, invented, 12)).is_by_former_key(LOG)


def test_no_proof_accuses_an_honest_ledger(seen: SeenHeads) -> None:
    """Two checkpoints that agree, a root that nobody signed, another log: none proves a fork."""
    see(served(40), seen)
    refused(served(50, forked_at=30), seen)
    path = seen.path(LOG).with_name(f"{LOG}.fork-40-50.json")
    good = ForkProof.from_bytes(path.read_bytes())
    honest = served(50).content["checkpoint"]
    plain = PlainLedger(leaves(50))
    growth = tuple(plain.growth(40, 50))

    for wrong in (
        ForkProof(good.old, honest, plain.root(40), growth, good.keyrings),
        ForkProof(good.old, honest, bytes(32), growth, good.keyrings),
        replace(good, proof=good.proof[:-1]),
        replace(good, root=bytes(32)),
        replace(good, old=good.new, new=good.old),
        replace(good, old=good.old.replace(b"orthofed.ledger/", b"orthofed.ledger/0")),
        replace(good, keyrings=(good.keyrings[0].replace(b'"need":1', b'"need":2'),)),
    ):
        with pytest.raises(VerificationFailed):
            wrong.check(LOG)
    with pytest.raises(VerificationFailed, match="log id"):
        good.check("00" * 32)


@pytest.mark.parametrize("name", ["tile/0/001.p/54", "tile/1/000.p/1"])
@pytest.mark.parametrize("how", ["missing", "zeros", "cut", "of the older ledger"])
def test_tiles_that_prove_nothing_are_refused_and_accuse_nobody(
    name: str, how: str, seen: SeenHeads
) -> None:
    """A damaged or withheld tile is no fork: the text says so and no proof file appears."""
    see(served(257), seen)
    source = served(310)
    data = source.content.pop(name)
    if how == "zeros":
        source.content[name] = bytes(len(data))
    elif how == "cut":
        source.content[name] = data[:-32]
    elif how == "of the older ledger":
        source.content[name] = PlainLedger(leaves(310, forked_at=3)).tiles(310)[name]

    assert refused(source, seen).code == "fork-failed"
    assert name in source.asked
    assert not list(seen.folder.rglob("*.fork-*"))


def test_a_tile_that_grew_meanwhile_is_read_from_the_full_one(seen: SeenHeads) -> None:
    """The unfinished tile is dropped once it is full; its beginning is the same."""
    see(served(200), seen)
    source = served(250)
    del source.content["tile/0/000.p/250"]
    source.content["tile/0/000"] = PlainLedger(leaves(256)).tiles(256)["tile/0/000"]

    see(source, seen)

    found = seen.of(LOG)
    assert found is not None
    assert found.told.size == 250


@pytest.mark.parametrize("num", [40, pytest.param(1_000, marks=pytest.mark.faults)])
def test_forks_from_random_prefixes_are_all_refused(
    num: int, tmp_path: Path, seed: int, figures
) -> None:
    """T17's figure: random sizes seen and shown, a random first leaf that is another.

    Each leaves a proof that checks.
    """
    draw, refusals, proofs = random.Random(seed), 0, 0  # noqa: S311  # a replayable draw
    honest = leaves(600)
    for _ in range(num // 20):
        forked_at = draw.randrange(2, 600)
        other = PlainLedger(leaves(600, forked_at=forked_at))
        for _ in range(20):
            old = draw.randrange(forked_at + 1, 601)
            new = draw.randrange(old, 601)
            seen = SeenHeads(tmp_path / f"{refusals}")
            see(Files(public_files(honest[:old], LOG, RELEASE.reply)), seen)
            error = refused(Files(public_files(other.bodies[:new], LOG, RELEASE.reply)), seen)
            refusals += error.code == "fork-failed"
            path = seen.path(LOG).with_name(f"{LOG}.fork-{old}-{new}.json")
            proofs += ForkProof.from_bytes(path.read_bytes()).check(LOG)[0].size == old
    figures.say("T17 forks", forks=num, refused=refusals, proofs=proofs)
    assert refusals == proofs == num


def test_a_memory_that_cannot_be_read_is_no_empty_memory(seen: SeenHeads) -> None:
    """Forgetting is what an attacker would want: the text names the file, nothing goes on."""
    see(served(5), seen)
    path = seen.path(LOG)
    good = path.read_bytes()
    for bad in (b"", b"{}", good[:-1], good.replace(b'"keyrings":1', b'"keyrings":0')):
        path.write_bytes(bad)

        with pytest.raises(InputError, match="cannot be read") as caught:
            see(served(6), seen)

        assert caught.value.code == "memory-damaged"
        assert str(path) in caught.value.fix


def test_the_newer_of_two_heads_stays_in_memory(seen: SeenHeads) -> None:
    """Two pulls at once: the slower one, with the older head, does not push the newer one out."""
    slow = look(served(5), LOG, seen, now_s=NOW_S)
    see(served(9), seen)

    remember(slow, seen)

    found = seen.of(LOG)
    assert found is not None
    assert found.told.size == 9
