"""`orthofed client import FILE` as it is typed: one LoRA in each spelling, and one of SDXL.

The command runs to its receipt in this process, which spares it the libraries' start. What it says
before the lease is for slot 0 whatever slot it gets, so one LoRA has one set of figures however its
tensors are called, and wherever its alpha stands.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from typer.testing import CliRunner

from orthofed.__main__ import app
from orthofed.client.adapter_file import read_header
from orthofed.client.base import Base
from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.state import BLOB, RECEIPT
from orthofed.core.kinds import KINDS
from orthofed.core.lorafile import kohya_key

from .coordinator_process import Coordinator
from .planted import Plants, files_of
from .tiny_base import tiny_base
from .tiny_families import tiny_sdxl

pytestmark = pytest.mark.long

RANK, ALPHA = 2, 5.0
SETTINGS = "steps = 1\nbatch = 2\nnull_batch = 2\nthreads = 1\n"
Sides = Mapping[str, tuple[np.ndarray, np.ndarray]]


def _sides(base: Path, ends: tuple[str, ...], *, size: float = 0.05) -> Sides:
    """Return (up, down) of numbers near ``size`` for every layer whose path ends so."""
    random = np.random.default_rng(3)
    loaded = Base.load(base)
    parts = {"unet": loaded.family.denoiser, **{n: t.model for n, t in loaded.towers.items()}}
    found = dict[str, tuple[np.ndarray, np.ndarray]]()
    for part, module in parts.items():
        for name, each in module.named_modules():
            if name.endswith(ends):
                out, width = each.weight.shape
                whole = name if part == "unet" or name.startswith("text") else f"text_model.{name}"
                sides = random.normal(0, size, (out, RANK)), random.normal(0, size, (RANK, width))
                found[f"{part}.{whole}"] = sides[0].astype("f4"), sides[1].astype("f4")
    return found


def _kohya(folder: Path, sides: Sides, plants: Plants, *, first: str = "lora_te_") -> Path:
    tensors = dict[str, np.ndarray]()
    for path, (up, down) in sides.items():
        key = kohya_key(path, "other").replace("lora_te_", first)
        tensors |= {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down}
        tensors[f"{key}.alpha"] = np.array(ALPHA, np.float32)
    said = {
        "ss_dataset_dirs": json.dumps({plants.make("folder in the header"): {"n_repeats": 10}}),
        "ss_tag_frequency": json.dumps({"img": {plants.make("caption in the header"): 3}}),
        "ss_output_name": plants.make("output name"),
    }
    file = folder / f"{plants.make('file name')}.safetensors"
    save_file(tensors, file, metadata=said)
    return file


def _diffusers(folder: Path, sides: Sides, plants: Plants) -> Path:
    tensors = dict[str, np.ndarray]()
    for path, (up, down) in sides.items():
        tensors |= {f"{path}.lora_B.weight": up, f"{path}.lora_A.weight": down}
    told = {"unet.r": RANK, "unet.lora_alpha": ALPHA, "unet.use_rslora": False}
    said = {"format": "pt", "lora_adapter_metadata": json.dumps(told)}
    said["comment"] = plants.make("comment in the header")
    file = folder / f"{plants.make('file name')}.safetensors"
    save_file(tensors, file, metadata=said)
    return file


def _peft(folder: Path, sides: Sides, plants: Plants) -> Path:
    folder = folder / plants.make("folder of the file")
    folder.mkdir()
    tensors = dict[str, np.ndarray]()
    for path, (up, down) in sides.items():
        name = f"base_model.model.{path.removeprefix('unet.')}"
        tensors |= {f"{name}.lora_B.weight": up, f"{name}.lora_A.weight": down}
    told = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "use_dora": False}
    told["base_model_name_or_path"] = plants.make("base in the config")
    (folder / "adapter_config.json").write_text(json.dumps(told))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder / "adapter_model.safetensors"


WRITERS: dict[str, Callable[[Path, Sides, Plants], Path]] = {
    "kohya": _kohya,
    "diffusers": _diffusers,
    "peft": _peft,
}


class House:
    """A federation on a base, one member of it, and what was planted."""

    def __init__(self, folder: Path, make: Callable[[Path], Path]) -> None:
        self.folder, self.plants = folder, Plants()
        self.base = make(folder / "base")
        self.home = Home.at(folder / "home")
        self.own = folder / "own"
        self.own.mkdir()
        (folder / "quick.toml").write_text(SETTINGS)
        random, words = np.random.default_rng(4), dict[str, np.ndarray]()
        for name, tower in Base.load(self.base).towers.items():
            rows = random.normal(0, 0.02, (2, tower.width))
            words["clip_g" if name == "text_encoder_2" else "clip_l"] = rows.astype("f4")
        told = {"name": self.plants.make("name of the words")}
        save_file(words, self.own / "words.safetensors", metadata=told)

    def bring(self, file: Path, concept: str) -> dict[str, dict[str, Any]]:
        """Type the command; return its events by name, the last of each."""
        words = ["client", "import", file, "--embedding", self.own / "words.safetensors"]
        words += ["--concept", concept, "--class-noun", "fox", "--base", self.base, "--no-distil"]
        words += ["--config", self.folder / "quick.toml", "--home", self.home.folder]

        done = CliRunner().invoke(app, [*map(str, words), "--yes", "--json"])

        assert done.exit_code == 0, done.output
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert lines[-1]["event"] == "receipt"
        return {line["event"]: line for line in lines}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> House:
    torch.set_num_threads(1)
    return House(tmp_path_factory.mktemp("one"), tiny_base)


@pytest.fixture(scope="module")
def brought(one: House) -> dict[str, dict[str, dict[str, Any]]]:
    """Bring the same LoRA in three times, and publish the three; return what was said by spelling.

    Of its layers the feed-forward ones are not adapted by the federation.
    """
    sides = _sides(one.base, ("attn2.to_k", "attn2.to_v", "ff.net.2"))
    with Coordinator.found(one.folder / "fed", one.base, "--rank", "1") as coordinator:
        join(one.home, coordinator.invite(uses=1), url=None, patience_s=20)
        said = dict[str, dict[str, dict[str, Any]]]()
        for spelling, write in WRITERS.items():
            said[spelling] = one.bring(write(one.own, sides, one.plants), f"{spelling}-a1")
        settings = coordinator.folder / "coordinator.toml"
        told = settings.read_text()
        assert 'derive = ["full"]' in told
        settings.write_text(told.replace('derive = ["full"]', "derive = []"))  # every kind
        coordinator.release()
    return said


@pytest.mark.parametrize("spelling", WRITERS)
def test_the_command_brings_in_a_lora_of_each_spelling(
    spelling: str, brought: dict[str, dict[str, dict[str, Any]]], one: House
) -> None:
    """What it drops and keeps is said, then the fidelity of the leased slot; there is a receipt."""
    said = brought[spelling]

    assert said["dropped"]["layers"] == len(_sides(one.base, ("ff.net.2",)))
    assert 0 < said["dropped"]["energy_share"] < 1
    assert set(said["kept"]["layers"]) == set(_sides(one.base, ("attn2.to_k", "attn2.to_v")))
    layers = said["fidelity"]["layers"].values()  # on held-out prompts: noise may keep less than 0
    assert min(layers) <= said["fidelity"]["kept"] <= max(layers) < 1
    assert said["fidelity"]["distilled_steps"] == 0
    assert (one.home.run(f"{spelling}-a1") / RECEIPT).is_file()


def test_one_lora_keeps_the_same_in_every_spelling(
    brought: dict[str, dict[str, dict[str, Any]]],
) -> None:
    """Alpha is 5 at rank 2: a tensor of kohya, metadata of diffusers, a config beside PEFT's."""
    kept = {spelling: said["kept"] for spelling, said in brought.items()}

    assert kept["kohya"] == kept["diffusers"] == kept["peft"]


def test_names_captions_and_folders_of_imported_loras_are_in_no_file_of_the_release(
    brought: dict[str, dict[str, dict[str, Any]]], one: House
) -> None:
    """Nor in a byte that was sent: names of files and folders, headers, a config."""
    public = one.folder / "fed" / "public"
    info = json.loads((public / "releases" / "1" / "info.json").read_text())
    sent = [("outbox", (one.home.folder / "outbox.jsonl").read_bytes())]
    sent += [(each, (one.home.run(f"{each}-a1") / BLOB).read_bytes()) for each in brought]

    assert {file["kind"] for file in info["files"]} == set(KINDS)
    assert len(info["concepts"]) == len(WRITERS)
    assert one.plants.found([*sent, *files_of(public)]) == set()
    hidden = one.plants.found(files_of(one.folder / "own"))
    assert {place for _, place in hidden} == set(one.plants.words), "the search finds none"


def test_the_command_brings_in_a_lora_of_sdxl(tmp_path: Path) -> None:
    """Kohya's names with a LoRA in both text encoders, and words that have vectors in both.

    A base this small counts as an unknown one, whose UNet has no original names: those are the
    next test's.
    """
    torch.set_num_threads(1)
    house = House(tmp_path, tiny_sdxl)
    sides = _sides(house.base, ("attn2.to_k", "attn2.to_v", "self_attn.q_proj"), size=0.02)
    file = _kohya(house.own, sides, house.plants, first="lora_te1_")
    names = {info.name for info in read_header(file).tensors}
    for first in ("lora_te1_", "lora_te2_"):
        assert f"{first}text_model_encoder_layers_2_self_attn_q_proj.alpha" in names

    with Coordinator.found(tmp_path / "fed", house.base, "--rank", "1") as coordinator:
        join(house.home, coordinator.invite(uses=1), url=None, patience_s=20)
        said = house.bring(file, "crow-x1")

    assert said["dropped"]["layers"] == 0
    assert set(said["kept"]["layers"]) == set(sides)
    assert said["fidelity"]["kept"] < 1
    assert (house.home.run("crow-x1") / RECEIPT).is_file()
    blob = read_header(house.home.run("crow-x1") / BLOB)
    assert {f"a.{path}" for path in sides} <= {info.name for info in blob.tensors}
