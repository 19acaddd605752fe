"""Who reads a release finds a shared concept as one concept: subset pull, verify, audit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orthofed.client.audit_file import audit_file, leased_slots
from orthofed.client.contributions import Contributions
from orthofed.client.verify import verify_folder
from orthofed.core.owners import owner_weights

from .coordinator_process import run
from .serving import Running, founded, running
from .test_audit import read
from .test_rebuild import pull
from .test_shared import first, joined

LAMBDA = 614
LORA = "lora/wren-fed-r0001.safetensors"


@pytest.fixture(scope="module")
def fed(tmp_path_factory):
    """One concept of three owners, 10, 30 and 20 images, and another of one; at 614/1024."""
    with running(founded(tmp_path_factory.mktemp("shared"))) as coordinator:
        ana, ben, cleo, dora = (coordinator.member() for _ in range(4))
        lease, leaf = first(ana, images=10, seed=1)
        share = ana.share(lease, leaf)
        joined(ben, share, images=30, seed=2)
        joined(cleo, share, images=20, seed=3)
        dora.contribute(dora.pack(dora.lease("dora", ("dora-k7",)), seed=4))
        coordinator.release(LAMBDA)
        yield coordinator


@pytest.fixture(scope="module")
def pulled(fed: Running, tmp_path_factory) -> Contributions:
    folder = tmp_path_factory.mktemp("pulled") / "release"
    pull(fed, folder)
    return Contributions(folder, verify_folder(folder).release)


def composed(fed: Running, out: Path, *words: str) -> dict[str, Any]:
    home = ("--home", str(out.parent / "home"), "--patience", "10", "--json")
    run("pull", fed.desk.link(), "-o", str(out), *words, *home)
    return json.loads(run("verify", str(out), "--json").stdout)


def test_a_subset_at_the_releases_weight_has_its_own_bytes(fed, pulled, tmp_path):
    """All three parts come along under the one name; the file is the release's."""
    told = composed(fed, tmp_path / "out", "--concept", "anna")
    name = "concepts/wren-fed-anna.safetensors"

    assert told["weights_1024"] == {"anna": LAMBDA}
    assert (tmp_path / "out" / name).read_bytes() == (pulled.folder / name).read_bytes()


def test_a_weight_of_ones_own_is_shared_out_by_the_images(fed, pulled, tmp_path):
    """At .25 the parts weigh 43, 128 and 85 of 256, and verify derives every byte of it."""
    told = composed(fed, tmp_path / "out", "--concept", "anna", "--weight", "anna=0.25")
    record = json.loads((tmp_path / "out" / "composition.json").read_bytes())
    shares = tuple(each["lambda"] for each in record["contributions"])

    assert told["weights_1024"] == {"anna": 256}
    assert shares == owner_weights((10, 30, 20), 256) == (43, 128, 85)
    words = "embeddings/anna-k7.safetensors"  # a weight moves A, and no word
    made, published = (read(folder / words) for folder in (tmp_path / "out", pulled.folder))
    assert made.keys() == published.keys()
    assert all(np.array_equal(made[name][1], published[name][1]) for name in made)


def test_an_audit_finds_the_average_and_names_no_other_slot(fed, pulled):
    """Each slot matches what its owners sent, together, by the weight that the release says."""
    base = fed.folder.settings().base
    found = audit_file(pulled.folder / LORA, pulled, base=base)
    slots = leased_slots(pulled)

    assert [each.concept for each in slots] == ["anna", "dora"]
    assert [len(each.parts) for each in slots] == [3, 1]
    assert found.findings.clean
    assert [each.verdict for each in found.findings.slots] == ["matches", "matches"]
    assert found.findings.slots[0].lambda_found == pytest.approx(LAMBDA / 1024, rel=1e-3)


def test_the_files_have_one_concept_and_say_whose(pulled):
    """One row of the card, one entry of info.json with its owners, one rank in the stacked file."""
    info = json.loads((pulled.folder / "info.json").read_bytes())
    anna, dora = info["concepts"]
    card = (pulled.folder / "card.md").read_text()

    assert [each["images"] for each in anna["owners"]] == [10, 30, 20]
    assert sum(each["lambda"] for each in anna["owners"]) == anna["lambda"] == LAMBDA
    assert "owners" not in dora
    assert info["rank"] == 2 * max(info["basis"]["ranks"].values())
    assert "2 concepts in one model" in card
    assert "anna (10 + 30 + 20 images)" in card
    tensors = read(pulled.folder / LORA)
    assert all(np.isfinite(values.astype(np.float32)).all() for _, values in tensors.values())


def test_the_operators_lists_say_what_sits_beside_what(fed):
    """The contributions name their seats, the status counts the slots that the spec has."""
    spec = fed.house.facts.spec
    rows = fed.desk.ask("contributions", {})["contributions"]
    slots = fed.desk.ask("status", {})["slots"]

    places = [(each["concept"], each["slot"], each["beside"]) for each in rows]
    assert places == [
        ("anna", 0, -1),
        ("anna", spec.capacity, 0),
        ("anna", spec.capacity + 1, 0),
        ("dora", 1, -1),
    ]
    assert sum(slots.values()) == spec.capacity
    assert slots["filled"] == 2
