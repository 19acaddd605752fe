"""`orthofed client train`: what is wrong at home is said before a slot is leased.

Each time exit code 2 or a code of its own, and nothing was asked of the coordinator.
"""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from orthofed.client.happened import Happened
from orthofed.client.home import Home
from orthofed.client.other_lease import other_lease_named
from orthofed.client.session import Phase, Session
from orthofed.client.state import save
from orthofed.client.train_command import train_concept
from orthofed.client.train_options import TrainOptions
from orthofed.core.errors import (
    InputError,
    OrthoFedError,
    Refused,
)

from .coordinator_process import COMMAND
from .owner_daemon import TRAINING
from .tiny_base import tiny_base
from .tiny_concept import write_images
from .training_owner import TrainingOwner, sent_messages
from .training_owner import coordinator as coordinator  # noqa: PLC0414  # a fixture
from .training_owner import invite as invite  # noqa: PLC0414  # a fixture
from .training_owner import owner as owner  # noqa: PLC0414  # a fixture
from .training_owner import place as place  # noqa: PLC0414  # a fixture


def test_a_training_that_outlasts_a_lease_is_refused_before_it(owner: TrainingOwner) -> None:
    """A hundred thousand steps of 1,024 passes: days are needed, one is allowed; no slot taken."""
    settings = owner.home.folder / "endless.toml"
    endless = "steps = 100000\naccumulation = 1024"
    settings.write_text(TRAINING.replace("steps = 4", endless))

    with pytest.raises(OrthoFedError, match="70% of the 86400 s") as caught:
        owner.train(replace(owner.options("slug-g9"), config=settings))

    assert caught.value.code == "takes-too-long"
    assert "no slot was leased" in caught.value.why
    assert "Lease" not in str(sent_messages(owner.home))


@pytest.mark.parametrize("phase", ["joined", "leased", "trained"])
def test_a_resumed_run_is_asked_for_its_licence_too(tmp_path: Path, phase: Phase) -> None:
    """What it will sign is known to be good before it goes on, wherever it was stopped."""
    home = Home.at(tmp_path)
    home.run("anna-k7").mkdir(parents=True)
    save(home.run("anna-k7"), Session("anna-k7", ("anna-k7",), (2,), "person", "12" * 16, 1, phase))
    options = TrainOptions("anna-k7", "person", tmp_path, tmp_path, licence="CC BY 4.0")

    with pytest.raises(InputError, match="no SPDX id") as caught:
        train_concept(home, options, report=print, ask=lambda _: True, patience_s=1)

    assert caught.value.code == "bad-licence"


@pytest.mark.parametrize("phase", ["joined", "leased"])
def test_a_second_lease_is_refused_by_the_name_of_the_first(tmp_path: Path, phase: Phase) -> None:
    """The concept that holds the slot, and what frees it; a run without a slot is none."""
    home = Home.at(tmp_path)
    others: list[tuple[str, Phase]] = [("anna-k7", phase), ("bodo-x4", "joined")]
    for concept, its in others:
        home.run(concept).mkdir(parents=True)
        save(home.run(concept), Session(concept, (concept,), (1,), "person", "12" * 16, 1, its))
    said = {"why": "one at a time", "fix": "finish it", "code": "quota-used"}

    with pytest.raises(Refused) as caught, other_lease_named(home, "bodo-x4"):
        raise Refused("1 live lease of this member, allowed is 1", **said)

    assert ("orthofed client give-back anna-k7" in caught.value.fix) == (phase == "leased")


def test_a_disk_too_small_for_the_cache_is_refused_before_a_lease(
    owner: TrainingOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk says 9,999 bytes: what is needed and what is free are named; no slot is taken."""
    full = shutil.disk_usage(owner.home.folder)._replace(free=9_999)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)

    with pytest.raises(OrthoFedError, match="bytes needed for the cache in") as caught:
        owner.train(replace(owner.options("ibex-m3"), config=owner.cached()))

    assert "9999 free" in caught.value.what
    assert caught.value.code == "disk-too-small"
    assert "Lease" not in str(sent_messages(owner.home))


def test_the_wrong_base_is_refused_before_a_lease(owner: TrainingOwner, tmp_path: Path) -> None:
    """Both fingerprints are named; exit code 2; no slot is taken."""
    other = tiny_base(tmp_path / "other")
    with (other / "unet" / "config.json").open("a") as config:
        config.write("\n")

    with pytest.raises(InputError, match="fingerprint") as caught:
        owner.train(replace(owner.options("hare-g7"), base=other))

    assert caught.value.code == "wrong-base"
    assert caught.value.exit_code == 2
    assert "Lease" not in str(sent_messages(owner.home))


def test_bad_images_are_refused_before_a_lease(owner: TrainingOwner, tmp_path: Path) -> None:
    """An empty folder, and one with a broken file: named, exit code 2, no slot taken."""
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    write_images(broken, 6)
    first = min(broken.glob("*.png"))
    first.write_bytes(first.read_bytes()[:50])

    for images, code in ((empty, "no-images"), (broken, "broken-image")):
        with pytest.raises(InputError) as caught:
            owner.train(replace(owner.options("hare-g8"), images=images))
        assert caught.value.code == code
    assert first.name in caught.value.what
    assert "Lease" not in str(sent_messages(owner.home))


def test_copies_of_an_image_are_said_before_a_lease(owner: TrainingOwner, tmp_path: Path) -> None:
    """A copy weighs twice, and a held-out one makes the score too good; the owner may go on."""
    images = write_images(tmp_path / "images", 6)
    first, *_, last = sorted(images.glob("*.png"))
    last.write_bytes(first.read_bytes())

    def stop(happened: Happened) -> None:
        if happened.name == "probed":
            raise TimeoutError

    owner.on_event = stop
    with pytest.raises(TimeoutError):
        owner.train(replace(owner.options("hare-g9"), images=images))

    said = [one.values["pairs"] for one in owner.events if one.name == "duplicates"]
    assert said == [[[first.name, last.name]]]


def test_a_bad_name_title_or_setting_is_refused_before_a_lease(
    owner: TrainingOwner, tmp_path: Path
) -> None:
    """Wrong usage is found at home."""
    settings = tmp_path / "bad.toml"
    settings.write_text("stepz = 4\n")
    good = owner.options("hare-g9")
    wrong = (
        replace(good, concept="../hare"),
        replace(good, triggers=("a b",)),
        replace(good, title="hare\nwith a line"),
        replace(good, config=settings),
        replace(good, steps=0),
        replace(good, licence="not an SPDX id!"),
        replace(good, vectors=9),
    )
    for options in wrong:
        with pytest.raises(InputError) as caught:
            owner.train(options)
        assert caught.value.exit_code == 2
    assert "Lease" not in str(sent_messages(owner.home))


def test_without_a_terminal_the_question_needs_a_yes(owner: TrainingOwner) -> None:
    """`--json` or a pipe: exit code 2 at once, before a minute of training is spent."""
    done = subprocess.run(
        [
            *COMMAND,
            *("client", "train", "--concept", "newt-j1", "--class-noun", "fox", "--json"),
            *("--images", str(owner.place / "images"), "--base", str(owner.place / "base")),
            *("--home", str(owner.home.folder)),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "option-missing"
