"""`orthofed client train --corrective` against a real coordinator: ordered, trained, merged, out.

The base is the tiny one, trainings have a few steps. The coordinator's rules: test_corrective.py.
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

from orthofed.client.correction import AGAINST, replaced
from orthofed.client.giving_back import give_back
from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.masters import Masters
from orthofed.client.recovery import recover
from orthofed.client.release_score import score_release
from orthofed.client.session import Session
from orthofed.client.state import BLOB, MANIFEST, RECEIPT
from orthofed.client.state import load as load_state
from orthofed.client.status import status_of
from orthofed.client.withdrawal import withdraw
from orthofed.core.contribution import ContributionManifest
from orthofed.core.document import parse
from orthofed.core.errors import InputError, Refused
from orthofed.core.layout import ContributionLayout, unpack
from orthofed.core.quantise import dequantise
from orthofed.core.spec import FederationSpec

from .coordinator_process import Coordinator, run
from .owner_daemon import TRAINING
from .tiny_base import tiny_base
from .tiny_concept import write_images
from .training_owner import TrainingOwner


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("corrected")
    tiny_base(folder / "base")
    write_images(folder / "images", 6)
    (folder / "quick.toml").write_text(TRAINING)
    return folder


@pytest.fixture
def coordinator(place: Path, tmp_path: Path) -> Iterator[Coordinator]:
    with Coordinator.found(tmp_path / "fed", place / "base", "--rank", "1") as running:
        yield running


def owner(coordinator: Coordinator, place: Path, home: Path) -> TrainingOwner:
    made = Home.at(home)
    join(made, coordinator.invite(uses=5), url=None, patience_s=20)
    return TrainingOwner(place, made)


def load(folder: Path) -> Session:
    found = load_state(folder)
    assert found is not None
    return found


def correct(who: TrainingOwner, **changed: Any) -> Session:
    return who.train(replace(who.options("anna-k7"), corrective=True, **changed))


def release(coordinator: Coordinator) -> None:
    run("coordinator", "release", str(coordinator.folder), "--json")


def two(
    coordinator: Coordinator, place: Path, tmp_path: Path
) -> tuple[TrainingOwner, TrainingOwner]:
    """Two owners, a concept each, in release 2; release 1 has the second one's alone."""
    ana, ben = (owner(coordinator, place, tmp_path / name) for name in ("ana", "ben"))
    ben.train(ben.options("bert-b2"))
    release(coordinator)
    ana.train(ana.options("anna-k7"))
    release(coordinator)
    return ana, ben


def test_ordered_trained_merged_and_taken_out(coordinator, place, tmp_path):
    """The whole life of a corrective round, and after its withdrawal the bytes of release 1."""
    ana, _ = two(coordinator, place, tmp_path)
    folder = ana.home.run("anna-k7")
    old, old_blob = load(folder), (folder / BLOB).read_bytes()
    fed = str(coordinator.folder)
    member = Masters(ana.home).newest().member(ana.home.membership().log).public_hex
    asked = ("--member", member[:12], "--concept", "anna-k7", "--json")
    order = json.loads(run("coordinator", "order", fed, "train", *asked).stdout)
    ana.events.clear()

    new = correct(ana, release=order["release"])
    release(coordinator)

    assert (order["kind"], order["release"]) == ("train", 2)
    said = {happened.name: happened.values for happened in ana.events}
    assert said["before"]["release"] == 2
    assert {"retention", "loss_merged"} <= said["before"].keys() & said["scored"].keys()
    assert ana.steps() == 4
    assert (new.slot, new.fence, new.phase) == (old.slot, old.fence + 1, "receipted")
    manifest = ContributionManifest.from_document(
        parse((folder / MANIFEST).read_bytes(), kind="contribution")
    )
    aside, kept = replaced(folder, new)
    assert (kept, (aside / BLOB).read_bytes()) == (old, old_blob)
    assert manifest.replaces is not None
    assert manifest.replaces.leaf == new.replaces
    assert not (folder / AGAINST).exists()
    assert near(ana, old_blob, (folder / BLOB).read_bytes()) > 0.5
    (done,) = json.loads(run("coordinator", "orders", fed, "--json").stdout)["orders"]
    assert done["state"] == "done"
    (row,) = status_of(ana.home)["concepts"]
    assert (row["state"], row["promise"]) == ("accepted", "kept")

    pulled = tmp_path / "release-3"
    link = run("coordinator", "link", fed).stdout.strip()
    run("pull", link, "-o", str(pulled), "--contributions", "--home", str(tmp_path / "reader"))
    rebuilt = run("verify", str(pulled), "--rebuild", "--base", str(place / "base"), "--json")
    assert json.loads(rebuilt.stdout)["rebuilt"] is True
    signed = json.loads((pulled / "manifest.json").read_bytes())["body"]
    assert [each["why"] for each in signed["left_out"]] == ["superseded"]
    leaves = [each["leaf"] for each in signed["contributions"]]
    assert (new.replaces in leaves, len(leaves)) == (False, 2)
    listed = run("coordinator", "contributions", fed).stdout
    assert f", in place of {new.replaces}\n" in listed
    run("doctor", fed)

    withdraw(ana.home, "anna-k7", ask=lambda _: True, patience_s=20)
    release(coordinator)

    assert tensors(coordinator, 4) == tensors(coordinator, 1)
    assert tensors(coordinator, 4) != tensors(coordinator, 3)
    run("doctor", fed)
    assert status_of(ana.home)["concepts"][0]["state"] == "withdrawn"


def near(who: TrainingOwner, one: bytes, other: bytes) -> float:
    """Return the cosine of both A: a round goes on, it does not begin anew."""
    spec = FederationSpec.from_bytes((who.home.folder / "spec.json").read_bytes())
    rows = []
    for blob in (one, other):
        found = unpack(ContributionLayout(spec, (2,)), blob)
        rows.append(
            np.concatenate(
                [dequantise(found[f"embed.{e.name}.0"]).ravel() for e in spec.encoders]
                + [dequantise(found[f"a.{layer.path}"]).ravel() for layer in spec.layers]
            )
        )
    assert (rows[0] != rows[1]).any()
    return float(rows[0] @ rows[1] / np.linalg.norm(rows[0]) / np.linalg.norm(rows[1]))


def tensors(coordinator: Coordinator, n: int) -> dict[str, bytes]:
    """Return each tensor file of a release behind its header, which names the release."""
    folder = coordinator.folder / "public" / "releases" / str(n)
    found = {}
    for path in folder.rglob("*.safetensors"):
        data = path.read_bytes()
        name = path.relative_to(folder).as_posix().replace(f"r{n:04}", "r")
        found[name] = data[8 + int.from_bytes(data[:8], "little") :]
    return found


def test_what_a_round_needs_is_asked_before_a_slot_is_leased(coordinator, place, tmp_path):
    """Nothing taught, no release with it, no other concept, privacy: refused, nothing changed."""
    ana = owner(coordinator, place, tmp_path / "ana")

    assert refusal(ana) == "nothing-to-correct"  # nothing is taught
    ana.train(ana.options("anna-k7"))
    assert refusal(ana) == "no-such-release"
    release(coordinator)
    before = load(ana.home.run("anna-k7"))
    assert refusal(ana, dp_epsilon=8.0) == "nothing-to-correct"
    assert load(ana.home.run("anna-k7")) == before
    assert "leased" not in [e.name for e in ana.events[-3:]]


def test_a_home_that_lost_what_it_sent_goes_on_from_the_release(coordinator, place, tmp_path):
    """Found again with the seed alone: the blob comes from the release, by its signed hash."""
    ana, _ = two(coordinator, place, tmp_path)
    folder = ana.home.run("anna-k7")
    old, sent = load(folder), (folder / BLOB).read_bytes()
    shutil.rmtree(folder)
    recover(ana.home, patience_s=20)
    assert not (folder / BLOB).exists()
    wrong = replace(ana.options("anna-k7"), corrective=True, vectors=3)
    with pytest.raises(InputError) as other:
        ana.train(wrong)

    new = correct(ana)

    aside, kept = replaced(folder, new)
    assert other.value.code == "other-triggers"
    assert (aside / BLOB).read_bytes() == sent
    assert (kept.slot, kept.fence) == (old.slot, old.fence)
    assert (new.slot, new.fence, new.phase) == (old.slot, old.fence + 1, "receipted")
    assert near(ana, sent, (folder / BLOB).read_bytes()) > 0.5


def refusal(who: TrainingOwner, **changed: Any) -> str:
    with pytest.raises((InputError, Refused)) as refused:
        correct(who, **changed)
    return refused.value.code


def test_stopped_anywhere_it_goes_on_and_against_one_release_it_is_done_once(
    coordinator, place, tmp_path
):
    """Stopped at each event of a round; the last run finds it done, another owner's release not."""
    ana, _ = two(coordinator, place, tmp_path)
    folder = ana.home.run("anna-k7")
    old = load(folder)

    for name in ("before", "leased", "step", "trained", "scored", "egress"):

        def stop(happened, name=name) -> None:
            if happened.name == name:
                raise RuntimeError(name)

        ana.on_event = stop
        with pytest.raises(RuntimeError, match=name):
            correct(ana)
        assert load(folder).replaces >= 0
        assert (load(folder).concept, replaced(folder, load(folder))[1]) == ("anna-k7", old)
    ana.on_event = lambda _: None
    new = ana.train(ana.options("anna-k7"))  # a round under way goes on without the option too
    ana.events.clear()
    again = correct(ana)

    assert new.phase == "receipted"
    assert (again, ana.steps()) == (new, 0)
    release(coordinator)
    assert correct(ana).fence == new.fence + 1  # a newer release holds it: another round


def test_who_withdraws_meanwhile_gives_the_round_up(coordinator, place, tmp_path):
    """Before the lease, in the training, before the yes: the concept is out, the lease is over."""
    ana, _ = two(coordinator, place, tmp_path)
    ana.answer = False
    with pytest.raises(InputError):
        correct(ana)
    folder = ana.home.run("anna-k7")
    under_way = load(folder)
    link = run("coordinator", "link", str(coordinator.folder)).stdout.strip()
    run("pull", link, "-o", str(tmp_path / "r"), "--home", str(tmp_path / "reader"))
    scored = score_release(
        ana.home,
        "anna-k7",
        images=place / "images",
        base=place / "base",
        release=tmp_path / "r",
        lambdas=(1.0,),
    )

    gone = withdraw(ana.home, "anna-k7", ask=lambda _: True, patience_s=20)

    assert (under_way.phase, scored.session.fence) == ("packed", under_way.fence - 1)
    assert gone.contribution.leaf == under_way.replaces
    assert load(folder).phase == "withdrawn"
    release(coordinator)
    ana.answer = True
    assert ana.train(ana.options("anna-k7")).replaces == -1


def test_a_round_that_is_given_back_leaves_what_was_there(coordinator, place, tmp_path):
    """The contribution stands and can be corrected again; the round's work lies aside."""
    ana, _ = two(coordinator, place, tmp_path)
    folder = ana.home.run("anna-k7")
    old, blob = load(folder), (folder / BLOB).read_bytes()
    ana.answer = False
    with pytest.raises(InputError):
        correct(ana)

    gone = give_back(ana.home, "anna-k7", patience_s=20)

    assert (gone.slot, gone.fence) == (old.slot, old.fence + 1)
    assert (load(folder), (folder / BLOB).read_bytes()) == (old, blob)
    assert [path.name for path in folder.glob("lost-*/*.safetensors")] == [BLOB]
    assert status_of(ana.home)["concepts"][0]["state"] == "accepted"
    ana.answer = True
    assert correct(ana).fence == old.fence + 2


def test_a_round_that_the_coordinator_refuses_is_given_up(coordinator, place, tmp_path):
    """The operator took the contribution out meanwhile: what was there is there again."""
    ana, _ = two(coordinator, place, tmp_path)
    folder = ana.home.run("anna-k7")
    old, receipt = load(folder), (folder / RECEIPT).read_bytes()

    def meddle(happened) -> None:
        if happened.name == "before":
            leaf = str(load(folder).replaces)
            run("coordinator", "reject", str(coordinator.folder), leaf, "--why", "no")

    ana.on_event = meddle
    assert refusal(ana) == "not-correctable"

    assert load(folder) == old
    assert (folder / RECEIPT).read_bytes() == receipt
