"""`orthofed fuse` on a release of two concepts: what is fitted, what stays, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from orthofed.__main__ import app
from orthofed.client.base import Base
from orthofed.client.fuse import Fusion
from orthofed.client.variant import Variant, stacked_metadata
from orthofed.core.errors import InputError

from .serving import Running
from .two_released import CONCEPTS, TRIGGERS, pulled, two_released


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two concepts, released at 0.6: what is fitted is each at its full weight."""
    with two_released(tmp_path_factory.mktemp("fed")) as coordinator:
        yield coordinator


@pytest.fixture
def release(filled: Running) -> Path:
    return pulled(filled)


@pytest.fixture
def base(filled: Running) -> Path:
    return filled.folder.settings().base


@pytest.fixture(scope="module")
def made(filled: Running, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the file that the command writes, and what it says."""
    place = filled.folder.settings().base
    out = tmp_path_factory.mktemp("out") / "fused.safetensors"
    done = _run(place.parent / "release-1", "--base", place, "-o", out, "--json")
    assert done.exit_code == 0, done.output
    return out, json.loads(done.stdout)


def _run(*words: object) -> Any:  # typer's own result
    return CliRunner().invoke(app, ["fuse", *map(str, words)])


def _stacked(release: Path) -> dict[str, np.ndarray]:
    (path,) = [p for p in (release / "lora").iterdir() if not p.stem.endswith("-a1111")]
    return load_file(path)


def test_each_concept_is_answered_nearer_to_how_it_was_taught(
    made: tuple[Path, dict[str, Any]],
) -> None:
    """By the residuals' energy on its own inputs; the sum is off by what the other one adds."""
    told = made[1]

    assert told["schema"] == "orthofed.fuse/1"
    assert list(told["error"]) == [*CONCEPTS]
    for error in told["error"].values():
        assert error["summed"] > 0.1
        assert error["fused"] < 0.7 * error["summed"]


def test_blocks_names_rank_and_size_stay_and_every_up_side_moves(
    made: tuple[Path, dict[str, Any]], release: Path
) -> None:
    before, after = _stacked(release), load_file(made[0])

    assert after.keys() == before.keys()
    for name, values in after.items():
        assert values.dtype == before[name].dtype
        assert values.shape == before[name].shape
        assert np.array_equal(values, before[name]) == (not name.endswith("lora_up.weight")), name


def test_the_answers_themselves_come_nearer(
    made: tuple[Path, dict[str, Any]], filled: Running, release: Path, base: Path
) -> None:
    """Not by the matrices that it was fitted to: the model's answers to other noise."""
    spec, model = filled.house.facts.spec, Base.load(base)
    random = torch.Generator().manual_seed(3)
    noise = torch.randn(16, *model.latent_shape, generator=random)
    times = torch.linspace(20, 980, 16).long()

    def answer(variant: Variant, trigger: str) -> torch.Tensor:
        with variant.applied(model) as tokens, torch.no_grad():
            return model.predict(noise, times, tokens.encode([f"a picture of {trigger}"] * 16))

    off = torch.zeros(2)
    for concept, trigger in zip(CONCEPTS, TRIGGERS, strict=True):
        alone = answer(Variant.of_release(release, spec, only=concept), trigger)
        models = Variant.of_fused(release, spec, made[0]), Variant.of_release(release, spec)
        off += torch.stack([(answer(each, trigger) - alone).square().mean() for each in models])
    assert off[0] < 0.8 * off[1]


def test_its_header_says_what_it_is_and_no_proof_is_claimed(
    made: tuple[Path, dict[str, Any]], release: Path
) -> None:
    """Doctor finds a LoRA that every program loads, without a complaint."""
    done = CliRunner().invoke(app, ["doctor", str(made[0]), "--json"])
    said = json.loads(done.stdout)
    plain = CliRunner().invoke(app, ["doctor", str(made[0])]).stdout

    assert done.exit_code == 0, done.output
    assert "fail" not in {check["level"] for check in said["checks"]}, plain
    assert "warn" not in {check["level"] for check in said["checks"]}, plain
    assert ", fused" in made[0].read_bytes()[:20_000].decode("latin-1")
    assert b"orthofed.content" not in made[0].read_bytes()[:20_000]
    assert "orthofed.content" in stacked_metadata(release)


def test_the_same_seed_gives_the_same_bytes(
    made: tuple[Path, dict[str, Any]], release: Path, base: Path, tmp_path: Path
) -> None:
    again, other = tmp_path / "again.safetensors", tmp_path / "other.safetensors"

    assert _run(release, "--base", base, "-o", again).exit_code == 0
    assert _run(release, "--base", base, "-o", other, "--seed", 1).exit_code == 0

    assert again.read_bytes() == made[0].read_bytes()
    assert other.read_bytes() != made[0].read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [again.name, other.name]


def test_a_file_that_is_there_stays(release: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    out.write_bytes(b"mine")

    done = _run(release, "--base", base, "-o", out)

    assert isinstance(done.exception, InputError)
    assert done.exception.code == "file-taken"
    assert out.read_bytes() == b"mine"


@pytest.mark.parametrize("prompt", ["a picture", "{} and {}", "a {0} picture", "{a}", "{{}}"])
def test_a_prompt_has_one_place_for_the_concept(
    filled: Running, release: Path, base: Path, tmp_path: Path, prompt: str
) -> None:
    out = tmp_path / "none.safetensors"

    with pytest.raises(InputError, match="prompt") as caught:
        Fusion(release, filled.house.facts.spec, base, [prompt]).write(out)

    assert caught.value.code == "no-place"
    assert not out.exists()


def test_one_concept_has_no_company(
    filled: Running, release: Path, base: Path, tmp_path: Path
) -> None:
    alone, out = tmp_path / "alone", tmp_path / "none.safetensors"
    alone.mkdir()
    for path in release.iterdir():
        (alone / path.name).symlink_to(path)
    info = json.loads((alone / "info.json").read_bytes())
    (alone / "info.json").unlink()
    (alone / "info.json").write_text(json.dumps({**info, "concepts": info["concepts"][:1]}))

    with pytest.raises(InputError, match="1 concept") as caught:
        Fusion(alone, filled.house.facts.spec, base).write(out)

    assert caught.value.code == "nothing-to-fuse"
    assert not out.exists()


def test_another_model_than_the_releases_is_refused(release: Path, tmp_path: Path) -> None:
    done = _run(release, "--base", release / "checkpoint", "-o", tmp_path / "none.safetensors")

    assert isinstance(done.exception, InputError)
    assert done.exception.code == "wrong-base"


def test_a_folder_that_nobody_pulled_is_refused(base: Path, tmp_path: Path) -> None:
    done = _run(base, "--base", base, "-o", tmp_path / "none.safetensors")

    assert isinstance(done.exception, InputError)
    assert done.exception.code == "not-pulled"


def test_what_was_fused_of_another_release_is_no_model_of_this_one(
    made: tuple[Path, dict[str, Any]], filled: Running, release: Path
) -> None:
    """One block exchanged for another: it says which layer, and nothing is drawn with it."""
    tensors = load_file(made[0])
    name = next(each for each in sorted(tensors) if each.endswith("lora_down.weight"))
    tensors[name] = np.ascontiguousarray(tensors[name][::-1])
    other = made[0].with_name("other.safetensors")
    save_file(tensors, other)

    with pytest.raises(InputError, match="concept for concept") as caught:
        Variant.of_fused(release, filled.house.facts.spec, other)

    assert caught.value.code == "release-unusable"


def test_it_is_drawn_beside_the_merge_and_by_itself(
    made: tuple[Path, dict[str, Any]], release: Path, base: Path, tmp_path: Path
) -> None:
    """--compare has a row for it; without axes it draws instead of the release's own pipeline."""
    asked = ["sample", str(release), "--base", str(base), "--prompt", "a anna-k7", "--steps", "1"]
    asked += ["--device", "cpu", "--json", "--count", "1", "-o", str(tmp_path / "a.png")]
    fused = ["--fused", str(made[0])]

    def models(*more: str) -> list[str]:
        done = CliRunner().invoke(app, [*asked, *more])
        assert done.exit_code == 0, done.output
        return [cell["model"] for cell in json.loads(done.stdout)["cells"]]

    assert models(*fused, "--compare", "merged,fused") == ["merged", "fused"]
    assert models(*fused) == ["fused"]
    without = CliRunner().invoke(app, [*asked, "--compare", "merged,fused"])
    assert isinstance(without.exception, InputError)
    assert without.exception.code == "option-missing"
