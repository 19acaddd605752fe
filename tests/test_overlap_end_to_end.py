"""More concepts than disjoint slots: from images to a checked release, and out of it again.

Rank 16 leaves the tiny base's narrowest layers, of 24 inputs, one slot a basis; those of 48 hold
three. With two bases the second concept overlaps with the first in the narrow ones alone.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from orthofed.client.happened import Happened, Report
from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.train_command import train_concept
from orthofed.client.train_options import TrainOptions
from orthofed.client.withdrawal import withdraw
from orthofed.core.spec import FederationSpec
from orthofed.core.spec_blocks import block

from .coordinator_process import Coordinator, run
from .training_owner import furnished

OPTIONS = ("--rank", "16", "--overlap", "2", "--prompt", "a photo of {}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return furnished(tmp_path_factory.mktemp("overlap"))


@pytest.fixture(scope="module")
def coordinator(place: Path) -> Iterator[Coordinator]:
    with Coordinator.found(place / "fed", place / "base", *OPTIONS) as running:
        yield running


def taught(
    place: Path, coordinator: Coordinator, concept: str, report: Report = lambda _: None
) -> tuple[Home, int]:
    """Train and send a concept by an owner of its own; return its home and slot."""
    home = Home.at(place / concept)
    join(home, coordinator.invite(), url=None, patience_s=20)
    options = TrainOptions(
        concept=concept,
        noun="fox",
        images=place / "images",
        base=place / "base",
        config=place / "quick.toml",
    )
    session = train_concept(home, options, report=report, ask=lambda _: True, patience_s=20)
    return home, session.slot


def released(place: Path, coordinator: Coordinator, name: str) -> Path:
    """Publish, pull, rebuild every file from its contributions, audit LoRA and checkpoint."""
    coordinator.release()
    out = place / name
    run("pull", coordinator.link(), "-o", str(out), "--contributions")
    run("verify", str(out), "--rebuild", "--base", str(place / "base"))
    (lora,) = (path for path in (out / "lora").glob("*.safetensors") if "a1111" not in path.name)
    for file in (lora, out / "checkpoint"):
        told = run(
            "audit", str(file), "--release", str(out), "--base", str(place / "base"), "--json"
        )
        assert json.loads(told.stdout)["clean"]
    return out


def tensors(folder: Path) -> dict[str, bytes]:
    """Return every tensor of a release, by file without its number and by name."""
    return {
        f"{path.relative_to(folder).as_posix().split('-r0')[0]} {name}": values.tobytes()
        for path in folder.rglob("*.safetensors")
        if "contributions" not in path.parts
        for name, values in load_file(path).items()
    }


def test_a_concept_of_the_second_basis_is_merged_rebuilt_audited_and_taken_out_again(
    place: Path, coordinator: Coordinator
) -> None:
    """Without it the release has, to the byte, the tensors that it had before it came.

    Its owner was told in how many layers it overlaps, and by how much at most.
    """
    heard: list[Happened] = []
    _, first = taught(place, coordinator, "wolf-a1")
    alone = released(place, coordinator, "alone")
    home, second = taught(place, coordinator, "lynx-b2", heard.append)
    both = released(place, coordinator, "both")
    withdraw(home, "lynx-b2", ask=lambda _: True, patience_s=20)
    again = released(place, coordinator, "again")

    spec = FederationSpec.from_bytes((place / "fed" / "public" / "spec.json").read_bytes())
    assert (spec.capacity, spec.disjoint_slots, first, second) == (2, 1, 0, 1)
    shared = [
        float(np.sum((block(spec, x, 0).T @ block(spec, x, 1)).astype(np.float64) ** 2)) / 16
        for x in spec.layers
        if x.width == 24
    ]
    assert shared
    assert np.mean(shared) == pytest.approx(16 / 24, rel=0.1)
    (told,) = (each.values for each in heard if each.name == "overlap")
    assert told == {"layers": len(shared), "all": len(spec.layers), "share": 16 / 24}
    assert tensors(again) == tensors(alone)
    assert tensors(both) != tensors(alone)
    info = json.loads((both / "info.json").read_bytes())
    assert (info["basis"]["capacity"], info["basis"]["epochs"]) == (2, 2)
    assert [each["slot"] for each in info["concepts"]] == [0, 1]
    (fresh,) = (load_file(path) for path in (again / "checkpoint" / "unet").glob("*.safetensors"))
    (before,) = (load_file(path) for path in (place / "base" / "unet").glob("*.safetensors"))
    assert any(not np.array_equal(fresh[name], before[name]) for name in before)
