"""Pages of docs/ whose blocks need something at hand, typed with that at hand.

What a page takes as given (a release, a home, somebody's LoRA) is made here by the programs' own
code; then every console block is typed as a reader would (doc_runner.py).
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from orthofed.assets import pocket_base
from orthofed.client.base import Base

from .coordinator_process import run
from .doc_runner import ROOT, reader
from .owner import Owner
from .serving import Running, founded, running
from .tiny_base import tiny_base

HOME = Path(".local/share/orthofed")
"""Where a client's home is, in the reader's own."""


def typed(page: str, folder: Path) -> None:
    """Type every block of a page in ``folder``."""
    with reader(folder) as sat:
        sat.read(ROOT / page)


def _pocket(folder: Path) -> Path:
    return Path(shutil.copytree(pocket_base(), folder))


@contextmanager
def released(folder: Path, *concepts: str, pocket: bool = False) -> Iterator[Running]:
    """Serve a federation beside the reader's folder, its release pulled into ``release-1``."""
    make = _pocket if pocket else tiny_base
    with running(founded(folder / "house", rank=2, make=make)) as own:
        member = own.member()
        for seed, name in enumerate(concepts):
            member.contribute(member.pack(member.lease(name, (name,)), seed=seed))
        own.release()
        own.house.heads.write()
        run("pull", own.desk.link(), "-o", str(folder / "release-1"))
        yield own


def test_base_models(tmp_path: Path) -> None:
    """Both plans: of a folder at hand, and of shapes that were published."""
    tiny_base(tmp_path / "base")
    typed("docs/base-models.md", tmp_path)


def test_ledger(tmp_path: Path) -> None:
    """The ledger of a pulled release: shown, a leaf proved, the proof checked."""
    with released(tmp_path, "anna-k7"):
        typed("docs/ledger.md", tmp_path)
    assert (tmp_path / "leaf-3.proof").stat().st_size > 200


def test_training(tmp_path: Path) -> None:
    """The settings; a contribution withdrawn; then every one of these keys found again."""
    with running(founded(tmp_path / "house")) as own:
        owner = Owner.joined(tmp_path / HOME, own.invite())
        owner.contribute("anna-k7")
        typed("docs/training.md", tmp_path)
        (listed,) = own.desk.ask("contributions", {})["contributions"]
    assert listed["state"] == "withdrawn"


@pytest.mark.docs
def test_import(tmp_path: Path) -> None:
    """A LoRA of the base that ships and its words: read, measured beside the spec, nothing sent."""
    base, random = Base.load(pocket_base()), np.random.default_rng(0)
    tensors = dict[str, np.ndarray]()
    for name, module in base.family.denoiser.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v")):
            n, m = module.weight.shape
            tensors[f"unet.{name}.lora_B.weight"] = random.normal(0, 0.02, (n, 2)).astype("f4")
            tensors[f"unet.{name}.lora_A.weight"] = random.normal(0, 0.02, (2, m)).astype("f4")
    save_file(tensors, tmp_path / "anna.safetensors")
    width = next(iter(base.towers.values())).width
    words = {"anna": random.normal(0, 0.02, (2, width)).astype(np.float32)}
    save_file(words, tmp_path / "anna-words.safetensors", metadata={"name": "anna"})
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    with running(founded(tmp_path / "house", rank=2, make=_pocket)) as own:
        Owner.joined(tmp_path / HOME, own.invite())
        typed("docs/import.md", tmp_path)
        assert own.desk.status()["leases"] == []


@pytest.mark.docs
def test_sample(tmp_path: Path) -> None:
    """Some thirty pictures of two concepts of a release: grid, plot, comparison, regions."""
    (tmp_path / "pocket-base").symlink_to(pocket_base())
    with released(tmp_path, "anna-k7", "bodo-x4", pocket=True):
        typed("docs/sample.md", tmp_path)
    for name in ("anna", "strengths", "compared", "both"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) >= 64
