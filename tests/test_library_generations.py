"""Every kind of file, loaded by two generations of diffusers, transformers and PEFT.

The libraries renamed layers between transformers 4 and 5, and a file with the wrong names is loaded
without a word (formats.md 3.3). So the older generation has an environment of its own, which `make
setup` builds, and a script that imports nothing of ours compares there.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from orthofed.client.base_folder import BaseFolder
from orthofed.client.write_file import write_file
from orthofed.coordinator.merging import open_merge
from orthofed.coordinator.publications import newest
from orthofed.core.basis_fingerprint import basis_fingerprint
from orthofed.core.kinds import KINDS as TABLE
from orthofed.core.kinds import release_files
from orthofed.core.lorafile import FileOrigin
from orthofed.core.merge import residual

from .serving import founded, running
from .tiny_base import tiny_base
from .tiny_families import tiny_sd2, tiny_sdxl

ROOT = Path(__file__).parent.parent
SCRIPT = Path(__file__).parent / "loaders" / "merged.py"
BEFORE = Path(os.environ.get("VENV_BEFORE", ROOT / ".venv-before"))
"""The environment of the older generation; `make setup` builds it."""
PYTHONS = {"4": BEFORE / "bin" / "python", "5": Path(sys.executable)}
"""By the major version of transformers."""
BOUND = 1e-5
KINDS = ("lora", "concepts", "diffusers", "peft", "checkpoint", "full")


BASES: dict[str, Callable[[Path], Path]] = {"one": tiny_base, "two": tiny_sdxl, "sd2": tiny_sd2}


def release(folder: Path, make: Callable[[Path], Path]) -> tuple[Path, Path, Path]:
    """Give a base, a release of two concepts on it in F32, and the exact merge of every layer."""
    with running(founded(folder, make=make)) as coordinator:
        for seed, (name, vectors) in enumerate([("anna", 2), ("rex", 1)]):
            member = coordinator.member()
            lease = member.lease(name, (f"{name}-k7",), vectors=(vectors,))
            member.contribute(member.pack(lease, seed=seed, size=0.05))
        coordinator.release(614)
        found = coordinator.house.store.run(newest)
        assert found is not None
        where = Path(coordinator.folder.settings().base)
        base, spec = BaseFolder(where), coordinator.house.facts.spec
        origin = FileOrigin(spec, basis_fingerprint(spec, 0), "epsilon", "F32")
        targets = {}
        with open_merge(spec, found.plan.included, coordinator.folder) as merge:
            for file in release_files(merge, origin, base, n=1, kinds=tuple(TABLE)):
                write_file(folder / "release", file)
            for layer in spec.layers:
                terms = merge.terms(layer)
                dw = residual(terms, family=spec.basis, width=layer.width, out=layer.out)
                targets[layer.path] = base.place(layer).values().astype(np.float64) + dw
    save_file(targets, folder / "targets.safetensors")
    return where, folder / "release", folder / "targets.safetensors"


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path, Path]]:
    """Give a release on each base."""
    return [release(tmp_path_factory.mktemp(name), make) for name, make in BASES.items()]


@pytest.fixture(scope="module", params=PYTHONS)
def told(
    request: pytest.FixtureRequest, releases: list[tuple[Path, Path, Path]]
) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return a generation, and what it says of each release: one process loads it once."""
    generation: str = request.param
    python = PYTHONS[generation]
    assert python.exists(), f"{python} is not there: run make setup"

    said = subprocess.run(
        [python, SCRIPT, *(path for three in releases for path in three)],
        check=True,
        capture_output=True,
        text=True,
        env=_clean(),
    )

    lines = [json.loads(line) for line in said.stdout.splitlines() if line.startswith("{")]
    return generation, dict(zip(BASES, lines, strict=True))


@pytest.mark.parametrize("base", BASES)
def test_both_generations_load_the_exact_merge(
    base: str, told: tuple[str, dict[str, dict[str, Any]]]
) -> None:
    """Max |W - target| <= 1e-5 max |dW| in float32 for each kind, and the words to the bit."""
    generation, figures = told

    found = figures[base]

    assert found["transformers_version"].startswith(f"{generation}.")
    assert found["base"] > 0.9, "the comparison sees a file that did nothing"
    assert {kind: found[kind] for kind in KINDS if not found[kind] <= BOUND} == {}
    assert found["words"] == 0


def _clean() -> dict[str, str]:
    """Return an environment in which nothing is asked of a hub."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
