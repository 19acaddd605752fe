"""T29: a coordinator that does as it likes with a shared concept is caught by whoever verifies.

Its checks are switched off, one at a time; what it then signs and publishes must not pass.
"""

import secrets
from dataclasses import replace

import pytest

from orthofed.client.verify import verify_folder
from orthofed.coordinator import enrolment, intake, release_planning
from orthofed.core.errors import OrthoFedError, VerificationFailed
from orthofed.core.keys import SigningKey
from orthofed.core.owners import concept_weights

from .member import Shared
from .serving import Running, founded, running
from .test_rebuild import pull
from .test_shared import CONCEPT, first, joined


@pytest.fixture
def fed(tmp_path):
    with running(founded(tmp_path)) as coordinator:
        yield coordinator


def refused(fed: Running, folder) -> OrthoFedError:
    """Publish what the coordinator holds, and return what its reader says."""
    fed.release()

    def read() -> None:
        pull(fed, folder)
        verify_folder(folder)

    with pytest.raises(VerificationFailed) as caught:
        read()
    return caught.value


def test_whoever_comes_in_by_a_share_that_the_owner_did_not_sign_is_seen(
    fed, tmp_path, monkeypatch
):
    """The coordinator makes a share of its own and lets somebody in by it."""
    ana, eve = fed.member(), fed.member()
    lease, leaf = first(ana)
    forged = eve.share(
        replace(lease, key=SigningKey.from_seed(secrets.token_bytes(32))), leaf, images=100
    )
    monkeypatch.setattr(enrolment, "joinable", lambda *_, **__: leaf)
    joined(eve, forged, images=100, seed=2)

    said = refused(fed, tmp_path / "release")

    assert "first owner" in said.what


def test_a_share_that_is_used_once_too_often_is_seen(fed, tmp_path, monkeypatch):
    """For one, used by two."""
    ana, ben, eve = (fed.member() for _ in range(3))
    lease, leaf = first(ana)
    share = ana.share(lease, leaf, uses=1)
    joined(ben, share, images=5, seed=2)
    monkeypatch.setattr(enrolment, "joinable", lambda *_, **__: leaf)
    monkeypatch.setattr(intake, "check_uses", lambda *_: None)
    joined(eve, share, images=5, seed=3)

    said = refused(fed, tmp_path / "release")

    assert "more often" in said.what


def test_another_weight_than_the_images_give_is_seen(fed, tmp_path, monkeypatch):
    """The operator counts one owner's part for nearly all; the sum is the same."""
    ana, ben = fed.member(), fed.member()
    lease, leaf = first(ana, images=10)
    joined(ben, ana.share(lease, leaf), images=10, seed=2)

    def favoured(owned: list[tuple[int, int]], total: int) -> tuple[int, ...]:
        one, other = concept_weights(owned, total)
        return one + 400, other - 400

    monkeypatch.setattr(release_planning, "concept_weights", favoured)
    monkeypatch.setattr("orthofed.core.merging.check_split", lambda *_: None)

    said = refused(fed, tmp_path / "release")

    assert "weights [912, 112] for [10, 10] images" in said.what


def test_a_part_is_moved_to_no_other_block(fed):
    """A share names the block; a joiner's lease for another one is refused by what was signed."""
    ana, ben = fed.member(), fed.member()
    lease, leaf = first(ana)
    good = ana.share(lease, leaf)
    moved = Shared(replace(good.share, slot=lease.slot + 1), good.secret)

    with pytest.raises(OrthoFedError) as caught:
        ben.lease(*CONCEPT, joins=moved)

    assert caught.value.code == "bad-signature"
