"""Pages whose blocks need something at hand, typed with that at hand.

What a page takes as given (a release, a home, somebody's LoRA) is made here by the programs' own
code; then every console block is typed as a reader would (doc_runner.py).
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from orthofed.assets import pocket_base
from orthofed.client.base import Base
from orthofed.coordinator.control import ControlServer

from .coordinator_process import Coordinator, run
from .doc_runner import ROOT, reader
from .lenient import ANYTHING
from .owner import Owner
from .owner_daemon import TRAINING
from .serving import Running, founded, running
from .tiny_base import tiny_base
from .tiny_concept import write_images

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


@contextmanager
def served(folder: Path, *homes: Path) -> Iterator[Coordinator]:
    """Serve a federation on the tiny base as ``fed``; each of ``homes`` has joined it.

    Images and the settings of a training of four steps lie beside it.
    """
    write_images(folder / "photos", 6)
    write_images(folder / "my-photos", 9)
    (folder / "quick.toml").write_text(TRAINING)
    with Coordinator.found(folder / "fed", tiny_base(folder / "base"), "--rank", "1") as found:
        (folder / "invite").write_text(found.invite(uses=9))
        for home in homes:
            words = ("--invite", str(folder / "invite"), "--home", str(folder / home))
            run("client", "join", *words)
        yield found


def states(of: Coordinator) -> list[str]:
    """Return how each contribution stands, by its leaf."""
    said = run("coordinator", "contributions", str(of.folder), "--json").stdout
    listed = sorted(json.loads(said)["contributions"], key=lambda each: each["leaf"])
    return [each["state"] for each in listed]


def test_admission(tmp_path: Path) -> None:
    """Two newcomers' contributions wait; one is approved, one rejected."""
    with running(founded(tmp_path, policy=replace(ANYTHING, approve_first=True))) as own:
        control = ControlServer(own.folder.control, lambda _: own.desk)
        for seed, name in enumerate(("anna-k7", "bodo-x4")):
            member = own.member()
            member.contribute(member.pack(member.lease(name, (name,)), seed=seed))
        typed("docs/admission.md", tmp_path)
        listed = own.desk.ask("contributions", {})["contributions"]
        control.close()
    assert {each["leaf"]: each["state"] for each in listed} == {3: "accepted", 6: "rejected"}


def test_deploy(tmp_path: Path) -> None:
    """Founded, keys put away, backed up, read, lost, restored, and gone on with."""
    (tmp_path / "var/lib/orthofed").mkdir(parents=True)
    _pocket(tmp_path / "var/lib/orthofed/base")
    typed("deploy/README.md", tmp_path)
    made = tmp_path / "var/lib/orthofed/federation"
    assert (made / "public/forks.json").is_file()
    assert (tmp_path / "mnt/keys/root.pem").is_file()
    assert not (made / "keys/root.pem").exists()


def test_monitoring(tmp_path: Path) -> None:
    """The numbers scraped, somebody's joining found in the lines and in the audit log."""
    founded(tmp_path)
    typed("docs/monitoring.md", tmp_path)


@pytest.mark.docs
def test_orders(tmp_path: Path) -> None:
    """Ordered, trained, released, scored, corrected, asked to go; a real owner, a tiny base."""
    with served(tmp_path, HOME) as own:
        words = ("--concept", "bert", "--class-noun", "person", "--yes", "--home", tmp_path / HOME)
        words += ("--images", tmp_path / "photos", "--base", tmp_path / "base")
        run("client", "train", *map(str, words), "--config", str(tmp_path / "quick.toml"))
        typed("docs/orders.md", tmp_path)
        said = run("coordinator", "orders", str(own.folder)).stdout
        stand = states(own)
    assert stand == ["accepted", "superseded", "accepted"]
    assert len(re.findall(r"done by leaf \d+: train anna", said)) == 2
    assert re.search(r"done by leaf \d+: score anna, release 1", said)
    assert "cancelled: train carl" in said
    assert "open: withdraw anna" in said


def test_pull(tmp_path: Path) -> None:
    """From the coordinator, a web server and both; for a program; what a release leaves out."""
    with running(founded(tmp_path)) as own:
        member = own.member()
        member.contribute(member.pack(member.lease("anna", ("anna-k7",))))
        own.release()
        own.house.heads.write()
        (tmp_path / "link.txt").write_text(own.desk.link())
        typed("docs/pull.md", tmp_path)
    assert (tmp_path / "from-www" / "manifest.json").read_bytes() == (
        tmp_path / "from-both" / "manifest.json"
    ).read_bytes()


@pytest.mark.docs
def test_shared(tmp_path: Path) -> None:
    """Two owners in homes of their own: share, release, a round each, and one leaves."""
    with served(tmp_path, HOME, Path("ben")) as own:
        typed("docs/shared.md", tmp_path)
        stand = states(own)
    assert sorted(stand) == ["accepted", "superseded", "withdrawn", "withdrawn"]


def test_simulate(tmp_path: Path) -> None:
    """Twenty clients, two of them bad; the figures are the page's."""
    typed("docs/simulate.md", tmp_path)


def test_web(tmp_path: Path) -> None:
    """Served with its page, and a link to log in."""
    founded(tmp_path)
    typed("docs/web.md", tmp_path)


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


@pytest.mark.docs
def test_fuse(tmp_path: Path) -> None:
    """Two concepts of a release fitted to each other, and drawn beside the rest."""
    (tmp_path / "pocket-base").symlink_to(pocket_base())
    with released(tmp_path, "anna-k7", "bodo-x4", pocket=True):
        typed("docs/fuse.md", tmp_path)
    with Image.open(tmp_path / "company.png") as image:
        assert min(image.size) >= 64
