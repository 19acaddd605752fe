"""`orthofed client train` again with other words: nothing that is asked for is left out in silence.

Not here: noise that is asked for later (test_dp_federation.py), readers (test_private_training.py).
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from orthofed.client.state import ASKED, BLOB, MANIFEST
from orthofed.client.train_options import TrainOptions
from orthofed.client.withdrawal import withdraw
from orthofed.core.contribution import ContributionManifest
from orthofed.core.document import parse
from orthofed.core.errors import InputError

from .tiny_concept import write_images
from .training_owner import Killed, TrainingOwner, kill_at
from .training_owner import coordinator as coordinator  # noqa: PLC0414  # a fixture
from .training_owner import invite as invite  # noqa: PLC0414  # a fixture
from .training_owner import owner as owner  # noqa: PLC0414  # a fixture
from .training_owner import place as place  # noqa: PLC0414  # a fixture


def declined(owner: TrainingOwner, options: TrainOptions) -> ContributionManifest:
    """Run the command, say no, and return what would have been signed."""
    owner.answer = False
    with pytest.raises(InputError, match="were not sent"):
        owner.train(options)
    owner.answer = True
    return signed(owner, options.concept)


def signed(owner: TrainingOwner, concept: str) -> ContributionManifest:
    """Return what the packed manifest says."""
    data = (owner.home.run(concept) / MANIFEST).read_bytes()
    return ContributionManifest.from_document(parse(data, kind="contribution"))


def said(owner: TrainingOwner) -> list[object]:
    """Return what was said of each difference."""
    return [happened.values["what"] for happened in owner.events if happened.name == "again"]


def test_other_settings_after_a_no_are_trained_and_what_is_left_away_stays(
    owner: TrainingOwner, tmp_path: Path
) -> None:
    """--steps, then another folder: other bytes each time; the plain command asks about these."""
    options = owner.options("anna-s1")
    plain = replace(options, config=None)
    blobs = [declined(owner, options).blob]
    blobs.append(declined(owner, replace(plain, steps=6)).blob)
    folder = write_images(tmp_path / "other", 8)
    blobs.append(declined(owner, replace(plain, images=folder)).blob)
    first, *_ = sorted(folder.iterdir())
    first.rename(folder / os.fsdecode(b"z\xe9.png"))  # last now: the order decides who is held out
    blobs.append(declined(owner, replace(plain, images=folder)).blob)
    steps = owner.steps()

    owner.train(replace(plain, images=folder))

    assert len(set(blobs)) == 4
    assert said(owner) == ["steps 6 in place of 4", "other images", "other images"]
    assert (steps, owner.steps()) == (4 + 6 + 6 + 6, steps), "six steps stay, of quick settings"
    assert signed(owner, "anna-s1").blob == blobs[-1], "the same command goes on with its bytes"
    kept = {path.read_bytes() for path in owner.home.run("anna-s1").glob(f"lost-*/{BLOB}")}
    assert len(kept) == 3, "what was made before is at home"


def test_other_words_to_sign_are_packed_again_and_nothing_is_trained(owner: TrainingOwner) -> None:
    """Licence, title, pictures: the same blob under a new manifest; left away they stay."""
    options = owner.options("bert-s2")
    before = declined(owner, options)

    words = replace(options, licence="CC-BY-4.0", title="Lena", pictures=True)
    after = declined(owner, words)
    owner.train(options)

    assert before.blob == after.blob
    assert (before.licence, before.title, before.pictures) == ("CC0-1.0", "", False)
    assert (after.licence, after.title, after.pictures) == ("CC-BY-4.0", "Lena", True)
    assert signed(owner, "bert-s2") == after
    assert owner.steps() == 4
    (told,) = said(owner)
    assert str(told).split(", ") == [
        "licence CC-BY-4.0 in place of CC0-1.0",
        "title Lena in place of none",
        "pictures yes in place of no",
    ]


def test_a_title_that_may_not_be_published_changes_nothing(owner: TrainingOwner) -> None:
    """What would be signed is checked again before anything is packed."""
    options = owner.options("cora-s3")
    before = declined(owner, options)

    with pytest.raises(InputError, match="title"):
        owner.train(replace(options, title="a\nb"))

    assert signed(owner, "cora-s3") == before


def test_a_training_again_that_was_killed_goes_on_by_the_plain_command(
    owner: TrainingOwner,
) -> None:
    """Killed behind the new training's steps: neither of the two is forgotten."""
    options = owner.options("dora-s4")
    declined(owner, options)
    owner.on_event = kill_at("trained")
    with pytest.raises(Killed):
        owner.train(replace(options, steps=6, licence="MIT"))
    owner.on_event = lambda _: None
    steps = owner.steps()

    owner.train(replace(options, config=None))

    assert (steps, owner.steps()) == (10, 10)
    assert signed(owner, "dora-s4").licence == "MIT"


def test_what_was_approved_goes_on_as_it_was_or_not_at_all(
    owner: TrainingOwner, tmp_path: Path
) -> None:
    """Cut off in the upload: other words are refused by name; the plain command still sends.

    Pictures that came into the same folder meanwhile, or went, are in nobody's way.
    """
    images = write_images(tmp_path / "images", 6)
    options = replace(owner.options("emil-s5"), images=images)
    owner.on_event = kill_at("uploading")
    with pytest.raises(Killed):
        owner.train(options)
    owner.on_event = lambda _: None
    before = signed(owner, "emil-s5")

    with pytest.raises(InputError, match="approved, and this asks for steps 6 in") as refused:
        owner.train(replace(options, steps=6))
    for path in images.iterdir():
        path.unlink()
    session = owner.train(options)

    assert refused.value.code == "asked-otherwise"
    assert "orthofed client give-back emil-s5" in refused.value.fix
    assert session.phase == "receipted"
    assert signed(owner, "emil-s5") == before


def test_what_was_sent_says_what_to_do_and_can_be_taught_otherwise_after_a_withdrawal(
    owner: TrainingOwner,
) -> None:
    """More steps, as a quarantine may advise: refused, the way is named; then that way, whole."""
    options = owner.options("fred-s6")
    owner.train(options)

    with pytest.raises(InputError, match="was sent, and this asks for steps 6 in place") as refused:
        owner.train(replace(options, steps=6))
    assert owner.train(replace(options, config=None)).phase == "receipted"
    withdraw(owner.home, "fred-s6", ask=lambda _: True, patience_s=20)
    owner.train(replace(options, steps=6))

    assert refused.value.code == "asked-otherwise"
    assert "orthofed client withdraw fred-s6" in refused.value.fix
    assert owner.steps() == 4 + 6


@pytest.mark.parametrize("lacks", ["all", "given", "signed"])
def test_a_home_without_records_goes_on_as_before(owner: TrainingOwner, lacks: str) -> None:
    """Packed by another version: its settings are not known, so they are taken as the same."""
    name = f"gina-{lacks}"
    options = owner.options(name)
    before, steps = declined(owner, options), owner.steps()
    record = owner.home.run(name) / ASKED
    if lacks == "all":
        record.unlink()
    else:
        record.write_text(json.dumps({**json.loads(record.read_text()), lacks: {}}))

    after = declined(owner, replace(options, steps=6))

    assert after == before
    assert owner.steps() == steps
