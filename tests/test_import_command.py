"""`orthofed client import` against a real coordinator: from somebody's LoRA to a receipt."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from orthofed.client.base import Base
from orthofed.client.egress import EgressList
from orthofed.client.happened import Happened
from orthofed.client.home import Home
from orthofed.client.import_bench import FIDELITY, ImportBench
from orthofed.client.import_dry_run import dry_run
from orthofed.client.join import join
from orthofed.client.share_text import ShareText
from orthofed.client.sharing import share_concept
from orthofed.client.state import ASKED, BLOB, RECEIPT, load, save
from orthofed.client.train_command import train_concept
from orthofed.client.train_options import TrainOptions
from orthofed.core.errors import InputError

from .coordinator_process import Coordinator
from .tiny_base import tiny_base

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
SETTINGS = "steps = 3\nbatch = 4\nnull_batch = 2\nwarmup_steps = 1\nrate = 1e-4\nthreads = 1\n"
SECRET = "planted-secret-of-the-foreign-file"  # noqa: S105  # looked for in what leaves


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a base, and a LoRA of some of its layers that says a secret wherever it can."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("import")
    tiny_base(folder / "base")
    (folder / "quick.toml").write_text(SETTINGS)
    base, random = Base.load(folder / "base"), np.random.default_rng(0)
    tensors = dict[str, np.ndarray]()
    for name, module in base.family.denoiser.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v", "ff.net.2")):
            n, m = module.weight.shape
            sides = random.normal(0, 0.02, (n, 2)), random.normal(0, 0.02, (2, m))
            tensors[f"unet.{name}.lora_B.weight"] = sides[0].astype(np.float32)
            tensors[f"unet.{name}.lora_A.weight"] = sides[1].astype(np.float32)
    save_file(tensors, folder / f"{SECRET}.safetensors", metadata={"ss_caption": SECRET})
    width = next(iter(base.towers.values())).width
    words = {SECRET: random.normal(0, 0.02, (2, width)).astype(np.float32)}
    save_file(words, folder / "words.safetensors", metadata={"name": SECRET})
    return folder


@pytest.fixture(scope="module")
def coordinator(place: Path) -> Iterator[Coordinator]:
    with Coordinator.found(place / "fed", place / "base", "--rank", "1") as running:
        yield running


@pytest.fixture(scope="module")
def coordinator_of_the_pocket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    folder = tmp_path_factory.mktemp("pocket")
    with Coordinator.found(folder / "fed", ROOT / "assets" / "pocket-base") as running:
        yield running


@pytest.fixture
def home(coordinator: Coordinator, tmp_path: Path) -> Home:
    home = Home.at(tmp_path / "home")
    join(home, coordinator.invite(uses=1), url=None, patience_s=20)
    return home


def _options(place: Path, concept: str) -> TrainOptions:
    return TrainOptions(
        concept=concept,
        noun="fox",
        images=place / f"{SECRET}.safetensors",
        base=place / "base",
        config=place / "quick.toml",
    )


def _import(
    home: Home,
    place: Path,
    concept: str,
    *,
    answer: bool = True,
    on_event: Callable[[Happened], None] = lambda _: None,
    num_images: int | None = None,
    **changed: Any,
) -> list[Happened]:
    events = list[Happened]()

    def report(happened: Happened) -> None:
        events.append(happened)
        on_event(happened)

    def ask(_listing: EgressList) -> bool:
        return answer

    asking = ImportBench.asking(
        embedding=place / "words.safetensors",
        foreign_trigger="",
        distil=True,
        num_images=num_images,
    )
    options = replace(_options(place, concept), **changed)
    train_concept(home, options, report=report, ask=ask, patience_s=20, bench=asking)
    return events


def test_a_lora_goes_into_a_slot_and_nothing_of_its_file_leaves_but_numbers(
    home: Home, place: Path
) -> None:
    """What is dropped and kept is said before the lease, the fidelity before the yes; then a
    receipt. File name, metadata and tensor names, each a planted secret, are in no byte sent.
    """  # noqa: D205  # one scenario
    events = _import(home, place, "wolf-a1")

    names = [happened.name for happened in events]
    assert names.index("dropped") < names.index("kept") < names.index("leased")
    assert names.index("leased") < names.index("fidelity") < names.index("egress")
    assert names[-1] == "receipt"
    dropped = next(e.values for e in events if e.name == "dropped")
    assert dropped["layers"]
    assert 0 < float(str(dropped["energy_share"])) < 1
    folder = home.run("wolf-a1")
    assert (folder / RECEIPT).is_file()
    figures = json.loads((folder / FIDELITY).read_bytes())
    assert figures["error"] <= figures["error_closed_form"]
    assert list(folder.glob("log/*/grid.png"))
    sent = (home.folder / "outbox.jsonl").read_bytes() + (folder / BLOB).read_bytes()
    for secret in (SECRET, str(place)):
        assert secret.encode() not in sent
        assert secret.encode().hex().encode() not in sent


def test_an_import_that_was_killed_behind_its_last_step_goes_on_with_the_same_figures(
    home: Home, place: Path
) -> None:
    """Stopped between distillation and the owner's yes: the same slot, no step done twice."""

    def stop(happened: Happened) -> None:
        if happened.name == "trained":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _import(home, place, "wolf-b2", on_event=stop)
    first = json.loads((home.run("wolf-b2") / FIDELITY).read_bytes())

    events = _import(home, place, "wolf-b2")

    assert "leased" not in [e.name for e in events]
    assert not [e for e in events if e.name == "step"]
    assert json.loads((home.run("wolf-b2") / FIDELITY).read_bytes()) == first


def test_an_import_killed_in_the_middle_of_distillation_goes_on_from_its_save(
    home: Home, place: Path
) -> None:
    """SIGKILL behind step 27 of 60, in a process of its own, as a command with spoken words.

    The next process goes on behind the save at step 25; every event says its schema.
    """
    words = ["client", "import", str(place / f"{SECRET}.safetensors"), "--concept", "wolf-f6"]
    words += ["--class-noun", "fox", "--base", str(place / "base"), "--foreign-trigger", "a b"]
    words += ["--config", str(place / "quick.toml"), "--steps", "60", "--distil", "--yes"]
    command = [Path(sys.executable).parent / "orthofed", *words, "--json", "--home", home.folder]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads that wait for a core burn the other
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=alone) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if json.loads(line).get("step", 0) >= 27:
                child.send_signal(signal.SIGKILL)
                break

    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=True, env=alone
    )

    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["schema"] for event in events} == {"orthofed.import/1"}
    assert "leased" not in [event["event"] for event in events]
    steps = [event["step"] for event in events if event["event"] == "step"]
    assert steps == list(range(26, 61))
    assert events[-1]["event"] == "receipt"


def test_an_owner_who_says_no_has_sent_nothing_of_the_lora(home: Home, place: Path) -> None:
    """No chunk and no manifest is in the outbox."""
    with pytest.raises(InputError):
        _import(home, place, "wolf-c3", answer=False)

    assert b'"chunk"' not in (home.folder / "outbox.jsonl").read_bytes()


def test_noise_that_an_import_is_asked_for_as_it_goes_on_is_not_passed_over(
    home: Home, place: Path
) -> None:
    """Whatever is known of what was asked before: here nothing, as of an earlier version."""
    with pytest.raises(InputError):
        _import(home, place, "wolf-h8", answer=False)
    folder = home.run("wolf-h8")
    session = load(folder)
    assert session is not None
    save(folder, replace(session, phase="trained", blob="", document=""))
    (folder / ASKED).unlink()
    noisy = place / "noisy.toml"
    noisy.write_text(SETTINGS + "dp_epsilon = 8.0\n")

    with pytest.raises(InputError, match="differential privacy of an import"):
        _import(home, place, "wolf-h8", config=noisy)

    assert b'"chunk"' not in (home.folder / "outbox.jsonl").read_bytes()


def test_a_dry_run_leases_nothing(home: Home, place: Path) -> None:
    """It asks for the spec alone, and says what is dropped and kept in the slot that is named."""
    events = list[Happened]()
    asking = ImportBench.asking(
        embedding=place / "words.safetensors", foreign_trigger="", distil=None
    )

    dry_run(home, _options(place, "wolf-d4"), asking, slot=1, report=events.append)

    assert [e.name for e in events] == ["checking", "dropped", "checking", "kept"]
    assert b"Lease" not in (home.folder / "outbox.jsonl").read_bytes()


BAD = {
    "dora": "bad-adapter",
    "words": "vectors-do-not-fit",
    "nan": "bad-tensor-file",
    "rank": "bad-adapter",
    "elsewhere": "bad-adapter",
    "vectors": "vectors-do-not-fit",
    "dp": "bad-dp",
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_imported_is_refused_before_a_lease(
    bad: str, home: Home, place: Path, tmp_path: Path
) -> None:
    """No sum, words of another width, a number that is none, a rank of 1025, no layer that is
    adapted, as many vectors as do not call it, privacy that is none: named, no lease.
    """  # noqa: D205  # one scenario
    from safetensors.numpy import load_file  # noqa: PLC0415  # used here alone

    tensors = load_file(place / f"{SECRET}.safetensors")
    words = load_file(place / "words.safetensors")
    name = next(n for n in tensors if "to_k.lora_B" in n)
    if bad == "dora":
        tensors[name.replace("lora_B.weight", "lora_magnitude_vector")] = np.ones(4, np.float32)
    elif bad == "rank":
        other = name.replace("lora_B", "lora_A")
        tensors[name] = np.ones((len(tensors[name]), 1025), np.float32)
        tensors[other] = np.ones((1025, tensors[other].shape[1]), np.float32)
    elif bad == "nan":
        tensors[name][0, 0] = np.nan
    elif bad == "elsewhere":
        tensors = {n: value for n, value in tensors.items() if "ff.net" in n}
    elif bad == "words":
        words = {"x": np.zeros((2, 3), np.float32)}
    save_file(tensors, tmp_path / f"{SECRET}.safetensors")
    save_file(words, tmp_path / "words.safetensors")
    (tmp_path / "base").symlink_to(place / "base")
    private = "dp_epsilon = 8.0\n" if bad == "dp" else ""
    (tmp_path / "quick.toml").write_text(SETTINGS + private)

    with pytest.raises(InputError) as refused:
        _import(home, tmp_path, "wolf-e5", vectors=3 if bad == "vectors" else 2)

    assert refused.value.code == BAD[bad]
    assert b"Lease" not in (home.folder / "outbox.jsonl").read_bytes()


def test_two_owners_bring_a_lora_each_into_one_concept_by_the_images_they_say(
    home: Home, coordinator: Coordinator, place: Path, tmp_path: Path
) -> None:
    """Share and join as of trainings: one block, and the weights of 5 and 15 images."""
    other = Home.at(tmp_path / "other")
    join(other, coordinator.invite(uses=1), url=None, patience_s=20)

    _import(home, place, "crow-c3", shared=True, num_images=5)
    terms = {"uses": 1, "most_images": 20}
    share = ShareText.from_text(share_concept(home, "crow-c3", patience_s=20, **terms).text)
    events = _import(other, place, "crow-c3", share=share, num_images=15)
    coordinator.release()
    info = next(coordinator.folder.glob("public/releases/*/info.json"))

    first, second = (load(each.run("crow-c3")) for each in (home, other))
    assert first is not None
    assert second is not None
    (concept,) = [
        each for each in json.loads(info.read_text())["concepts"] if each["concept"] == "crow-c3"
    ]
    assert second.block == first.slot
    assert any(each.name == "fidelity" for each in events)
    assert [each["images"] for each in concept["owners"]] == [5, 15]
    weights = [each["lambda"] for each in concept["owners"]]
    assert weights[1] == pytest.approx(3 * weights[0], abs=2 / 1024)


@pytest.mark.parametrize(
    "changed", [{"shared": True}, {"num_images": 5}], ids=["uncounted", "counted for nobody"]
)
def test_a_shared_import_says_how_many_images_are_behind_it(
    home: Home, place: Path, changed: dict[str, Any]
) -> None:
    """Before anything is leased: a LoRA does not say it, and nobody else is asked."""
    with pytest.raises(InputError, match="--num-images") as refused:
        _import(home, place, "crow-d4", **changed)

    assert refused.value.code == "options-differ"
    assert not home.run("crow-d4").exists()


def test_the_documented_dry_run_runs_as_it_is_typed(
    coordinator_of_the_pocket: Coordinator, tmp_path: Path
) -> None:
    """The console block of docs/import.md, in a folder with the two files that it names."""
    text = (ROOT / "docs" / "import.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^\$ (orthofed .*)$", text, re.MULTILINE)
    home = Home.at(tmp_path / "home")
    join(home, coordinator_of_the_pocket.invite(uses=1), url=None, patience_s=20)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    random = np.random.default_rng(1)
    at = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    out, width = Base.load(ROOT / "assets" / "pocket-base").layer(at).weight.shape
    sides = {
        f"{at}.lora_A.weight": random.normal(0, 0.1, (2, width)).astype(np.float32),
        f"{at}.lora_B.weight": random.normal(0, 0.1, (out, 2)).astype(np.float32),
    }
    save_file(sides, tmp_path / "anna.safetensors")
    words = {"anna": random.normal(0, 0.02, (2, 128)).astype(np.float32)}
    save_file(words, tmp_path / "anna-words.safetensors")

    done = subprocess.run(
        [Path(sys.executable).parent / "orthofed", *shlex.split(line)[1:], "--home", home.folder],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "0 layers are not adapted here" in done.stderr
    assert "of what the LoRA answers" in done.stderr
