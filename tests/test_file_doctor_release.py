"""The doctor finds nothing wrong with any file of our own releases, and names each kind."""

from pathlib import Path
from typing import Any

import pytest

from orthofed.client.base_folder import BaseFolder
from orthofed.client.examined_file import examine_file
from orthofed.client.write_file import write_file
from orthofed.coordinator.merging import open_merge
from orthofed.coordinator.publications import newest
from orthofed.core.basis_fingerprint import basis_fingerprint
from orthofed.core.file_fix import file_fix
from orthofed.core.kinds import KINDS, release_files
from orthofed.core.lorafile import FileOrigin
from orthofed.core.metadata_rules import LISTED

from .serving import Running, founded, running
from .tiny_base import tiny_base
from .tiny_families import tiny_sdxl

NAMED = {
    "lora": {"LoRA, kohya's names", "LoRA with embeddings, an A1111 bundle"},
    "concepts": {"LoRA, kohya's names"},
    "embeddings": {"embedding"},
    "diffusers": {"LoRA, diffusers' names"},
    "peft": {"LoRA, PEFT's names"},
    "checkpoint": {"part of a diffusers pipeline"},
    "full": {"whole checkpoint in one file"},
}


@pytest.fixture(scope="module", params=[tiny_base, tiny_sdxl], ids=["one encoder", "two"])
def release(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Path:
    """Every kind of file of two concepts."""
    out = tmp_path_factory.mktemp("release")
    with running(founded(tmp_path_factory.mktemp("fed"), make=request.param)) as coordinator:
        _fill(coordinator)
        spec, found = coordinator.house.facts.spec, coordinator.house.store.run(newest)
        assert found is not None
        origin = FileOrigin(spec, basis_fingerprint(spec, 0))
        base = BaseFolder(coordinator.folder.settings().base)
        with open_merge(spec, found.plan.included, coordinator.folder) as merge:
            for file in release_files(merge, origin, base, n=1, kinds=tuple(KINDS)):
                write_file(out, file)
    return out


def _fill(coordinator: Running) -> None:
    for seed, name in enumerate(["anna", "rex"]):
        member = coordinator.member()
        lease = member.lease(name, (f"{name}-k7",), vectors=(2,))
        member.contribute(member.pack(lease, seed=seed, size=0.05))
    coordinator.release(614)


def test_every_file_of_a_release_is_named_and_has_no_complaint(release):
    """All kinds; PEFT's alone are warned about, for the loader that does nothing with them."""
    met: dict[str, set[str]] = {}
    for path in sorted(release.rglob("*.safetensors")):
        folder = path.relative_to(release).parts[0]
        file = examine_file(path)
        assert file.header is not None
        assert file.kind is not None
        met.setdefault(folder, set()).add(file.kind.kind)

        wrong = [each for each in file.checks if each.level != "ok"]
        assert all(folder == "peft" and each.name == "kind" for each in wrong), (path.name, wrong)
        assert set(file.header.metadata) <= LISTED

    assert met == NAMED


def test_there_is_nothing_to_mend_in_a_release(release):
    """A copy would be the same file."""
    for path in sorted(release.rglob("*.safetensors")):
        file = examine_file(path)
        assert file.header is not None
        assert file.kind is not None
        assert file.values is not None
        assert file_fix(file.header, file.kind, file.values).changes == (), path.name
