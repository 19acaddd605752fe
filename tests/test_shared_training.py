"""`orthofed client share`, `train --share` and rounds, against a real coordinator.

The base is the tiny one, trainings have a few steps. The coordinator's rules: test_shared.py.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orthofed.client.contributions import Contributions
from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.open_part import open_shares
from orthofed.client.recovery import recover
from orthofed.client.session import Session
from orthofed.client.share_text import ShareText
from orthofed.client.shared_start import average_of
from orthofed.client.sharing import share_concept
from orthofed.client.state import MANIFEST
from orthofed.client.state import load as load_state
from orthofed.client.verify import verify_folder
from orthofed.client.withdrawal import withdraw
from orthofed.core.contribution import ContributionManifest
from orthofed.core.document import parse
from orthofed.core.errors import InputError

from .coordinator_process import Coordinator, run
from .owner_daemon import TRAINING
from .test_corrective_training import owner, release
from .tiny_base import tiny_base
from .tiny_concept import write_images
from .training_owner import TrainingOwner

CONCEPT = "anna-k7"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("shared")
    tiny_base(folder / "base")
    write_images(folder / "images", 6)
    write_images(folder / "more", 9)
    (folder / "quick.toml").write_text(TRAINING)
    return folder


@pytest.fixture
def coordinator(place: Path, tmp_path: Path) -> Iterator[Coordinator]:
    with Coordinator.found(tmp_path / "fed", place / "base", "--rank", "1") as running:
        yield running


def shared(who: TrainingOwner, **changed: Any) -> Session:
    return who.train(replace(who.options(CONCEPT), shared=True, **changed))


def given(who: TrainingOwner, **terms: Any) -> ShareText:
    asked = {"uses": 2, "most_images": None, **terms}
    return ShareText.from_text(share_concept(who.home, CONCEPT, patience_s=20, **asked).text)


def joining(who: TrainingOwner, share: ShareText, **changed: Any) -> Session:
    return who.train(replace(who.options(CONCEPT), share=share, **changed))


def manifest_of(who: TrainingOwner) -> ContributionManifest:
    data = (who.home.run(CONCEPT) / MANIFEST).read_bytes()
    return ContributionManifest.from_document(parse(data, kind="contribution"))


def pulled(coordinator: Coordinator, folder: Path, place: Path) -> dict[str, Any]:
    """Pull the newest release, verify it, derive every byte of it; return its info.json."""
    link = run("coordinator", "link", str(coordinator.folder)).stdout.strip()
    home = ("--home", str(folder.with_suffix(".home")))
    run("pull", link, "-o", str(folder), "--contributions", *home)
    run("verify", str(folder), "--rebuild", "--base", str(place / "base"))
    return json.loads((folder / "info.json").read_text())


def test_two_owners_teach_one_concept_and_a_round_starts_from_their_average(
    coordinator, place, tmp_path
):
    """Share, join, release, verify; one round each, from the average; then one leaves."""
    ana, ben = (owner(coordinator, place, tmp_path / name) for name in ("ana", "ben"))
    first = shared(ana)
    share = given(ana, most_images=20)
    second = joining(ben, share, images=place / "more")
    release(coordinator)
    info = pulled(coordinator, tmp_path / "r1", place)
    (concept,) = info["concepts"]

    images = [manifest_of(who).count for who in (ana, ben)]
    assert (second.block, second.share) == (first.slot, share.to_text())
    assert second.slot >= info["basis"]["capacity"]
    assert [each["images"] for each in concept["owners"]] == images
    assert images[0] != images[1]
    assert sum(each["lambda"] for each in concept["owners"]) == concept["lambda"]

    spec = verify_folder(tmp_path / "r1").release.federation.spec
    start = average_of(tmp_path / "r1", spec, CONCEPT, first.slot)
    made_of = Contributions(tmp_path / "r1", verify_folder(tmp_path / "r1").release)
    with open_shares(made_of, made_of.release.manifest.contributions) as merge:
        (part,) = merge.parts
        for layer in spec.layers:
            sent = part.sent(layer)
            near = np.abs(start.residuals[layer.path].up - sent).max()
            assert near <= 2.0**-10 * np.abs(sent).max()

    for who, where in ((ana, "images"), (ben, "more")):
        who.events.clear()
        options = replace(who.options(CONCEPT), corrective=True, images=place / where)
        round_of = who.train(options)
        assert round_of.phase == "receipted"
        assert manifest_of(who).replaces is not None
    assert manifest_of(ben).share == share.share
    release(coordinator)
    later = pulled(coordinator, tmp_path / "r2", place)
    (after,) = later["concepts"]
    assert {each["leaf"] for each in after["owners"]}.isdisjoint(
        each["leaf"] for each in concept["owners"]
    )

    withdraw(ana.home, CONCEPT, ask=lambda _: True, patience_s=20)
    release(coordinator)
    alone = pulled(coordinator, tmp_path / "r3", place)["concepts"][0]
    assert ("owners" in alone, alone["slot"], alone["client"]) == (
        False,
        first.slot,
        manifest_of(ben).client,
    )


def test_what_a_share_does_not_fit_is_refused_before_anything_is_leased(
    coordinator, place, tmp_path
):
    """Another class noun or name, a private part, and a concept that does not count its images."""
    ana, ben = (owner(coordinator, place, tmp_path / name) for name in ("ana", "ben"))
    shared(ana)
    share = given(ana)
    for changed in ({"noun": "dog"}, {"concept": "other-k7"}, {"dp_epsilon": 8.0}):
        with pytest.raises(InputError) as refused:
            joining(ben, share, **changed)
        assert refused.value.code in {"share-differs", "options-differ"}
    ben.train(ben.options("bert-b2"))
    with pytest.raises(InputError) as uncounted:
        share_concept(ben.home, "bert-b2", uses=1, most_images=None, patience_s=20)
    with pytest.raises(InputError) as many:
        given(ana, uses=16)

    assert uncounted.value.code == "not-shareable"
    assert many.value.code == "bad-share-terms"


def test_a_share_is_read_whole_or_not_at_all(coordinator, place, tmp_path):
    """One changed character anywhere; the text is in no error."""
    ana = owner(coordinator, place, tmp_path / "ana")
    shared(ana)
    text = given(ana).to_text()
    assert ShareText.from_text(f" {text}\n").to_text() == text
    for at in range(5, len(text), 97):
        changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        with pytest.raises(InputError) as bad:
            ShareText.from_text(changed)
        assert bad.value.code == "bad-share-text"
        assert text[5:25] not in str(bad.value)


def test_a_machine_with_the_master_alone_takes_its_part_out(coordinator, place, tmp_path):
    """The joiner's laptop is lost: its part is found, of the first owner's block, and leaves."""
    ana, ben = (owner(coordinator, place, tmp_path / name) for name in ("ana", "ben"))
    first = shared(ana)
    joining(ben, given(ana), images=place / "more")
    home = Home.at(tmp_path / "new")
    home.folder.mkdir()
    shutil.copyfile(ben.home.folder / "master.key", home.folder / "master.key")
    (home.folder / "master.key").chmod(0o600)
    join(home, coordinator.invite(uses=2), url=None, patience_s=20)

    (found,) = recover(home, patience_s=20)
    session = load_state(home.run(CONCEPT))
    withdraw(home, CONCEPT, ask=lambda _: True, patience_s=20)
    release(coordinator)
    (alone,) = pulled(coordinator, tmp_path / "r1", place)["concepts"]

    assert session is not None
    assert (found.concept, session.block) == (CONCEPT, first.slot)
    assert ("owners" in alone, alone["client"]) == (False, manifest_of(ana).client)
