"""`orthofed doctor FILE` says what a file is, who loads it and what is wrong with it."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from orthofed.client.examined_file import ExaminedFile, examine_file
from orthofed.client.file_view import file_json, file_text

from .adapter_files import diffusers, kohya, peft, write

ALL, PART, NOTHING = "all", "part", "nothing"


def examined(path: Path, tensors: Mapping[str, np.ndarray]) -> ExaminedFile:
    return examine_file(write(path / "anna.safetensors", tensors))


def outcomes(file: ExaminedFile) -> dict[str, str]:
    return {each.program: each.outcome for each in file.loads}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "orthofed", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("model", "family"), [("sd15", "sd1"), ("sd21", "sd2"), ("sdxl", "sdxl")])
def test_a_kohya_file_is_known_with_its_base_and_loads_everywhere(tmp_path, model, family):
    """The family comes from names and shapes; there is no metadata in these files."""
    file = examined(tmp_path, kohya(model))

    assert file.kind is not None
    assert (file.kind.kind, file.kind.families) == ("LoRA, kohya's names", (family,))
    assert (file.kind.ranks, file.dtypes) == ({1: file.kind.modules}, ("F16",))
    assert set(outcomes(file).values()) == {ALL}


def test_a_unet_file_without_cross_attention_fits_two_families(tmp_path):
    """SD 1 and SD 2 have the same self-attentions: both are named, neither is guessed."""
    file = examined(tmp_path, {k: v for k, v in kohya("sd15").items() if "_attn1_" in k})

    assert file.kind is not None
    assert file.kind.families == ("sd1", "sd2")


def test_diffusers_names_are_taken_in_part_by_comfyui_and_by_no_other(tmp_path):
    """256 of 352 keys, all of them the UNet's attentions; Forge drops the file for them."""
    file = examined(tmp_path, diffusers())

    assert file.kind is not None
    assert file.kind.kind == "LoRA, diffusers' names"
    assert outcomes(file) == {
        "diffusers": ALL,
        "ComfyUI": PART,
        "A1111": NOTHING,
        "Forge": NOTHING,
        "kohya": NOTHING,
    }
    left = {each.program: each.left for each in file.loads}["ComfyUI"]
    assert len(left) == 256
    assert "256 keys left over" in file_text(file)


def test_pefts_own_names_load_in_none_of_them(tmp_path):
    """Diffusers passes such a file over without a word, which is said."""
    file = examined(tmp_path, peft())

    assert file.kind is not None
    assert file.kind.kind == "LoRA, PEFT's names"
    assert set(outcomes(file).values()) == {NOTHING}
    assert "does not say so" in file.loads[0].why


@pytest.mark.parametrize(
    ("tensors", "kind", "families"),
    [
        ({"anna-k7": np.ones((2, 768), "f4")}, "embedding", ("sd1",)),
        ({"emb_params": np.ones(1024, "f4")}, "embedding", ("sd2",)),
        (
            {"clip_l": np.ones((2, 768), "f4"), "clip_g": np.ones((2, 1280), "f4")},
            "embedding",
            ("sdxl",),
        ),
        ({"anna-k7": np.ones((16, 2, 768), "f4")}, "layer-wise embedding", ()),
        (
            {
                "model.diffusion_model.middle_block.1.attn2.to_k.weight": np.ones((8, 768), "f2"),
                "cond_stage_model.transformer.x": np.ones(4, "f2"),
            },
            "whole checkpoint in one file",
            ("sd1",),
        ),
        (
            {
                "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": np.ones(
                    (8, 768)
                )
            },
            "part of a diffusers pipeline",
            ("sd1",),
        ),
        ({"a.unet.mid_block.x": np.ones((8, 2), "i2")}, "OrthoFed contribution", ()),
        ({"weights": np.ones((90, 90), "f4")}, "unknown", ()),
    ],
)
def test_what_is_no_lora_is_named(tmp_path, tensors, kind, families):
    """Vectors, whole models, parts of them, contributions, and what is none of these."""
    file = examined(tmp_path, tensors)

    assert file.kind is not None
    assert (file.kind.kind, file.kind.families) == (kind, families)
    assert ("  for  " in file_text(file)) == bool(families)


def test_a_lora_of_another_base_is_for_diffusers_alone(tmp_path):
    """Names of SD 1 and other widths: no web UI has such a base, and none is said to load it."""
    small = {
        "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": np.ones((96, 4), "f2"),
        "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": np.ones((4, 96), "f2"),
    }
    file = examined(tmp_path, small)

    assert file.kind is not None
    assert file.kind.families == ()
    assert [name for name, outcome in outcomes(file).items() if outcome == ALL] == ["diffusers"]


@pytest.mark.parametrize("name", ["anna.ckpt", "anna.pt", "anna.BIN", "anna.safetensors"])
def test_a_pickle_is_refused_by_name_and_by_its_first_bytes(tmp_path, name):
    """It would make a file when it is loaded; there is none afterwards (T8)."""
    trap = tmp_path / "ran"
    code = b"\x80\x04cos\nsystem\n(S'touch " + str(trap).encode() + b"'\ntR."
    (tmp_path / name).write_bytes(code)

    file = examine_file(tmp_path / name)

    assert (file.checks[0].level, file.checks[0].name) == ("fail", "pickle")
    assert file.header is None
    assert not trap.exists()


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_a_header_whose_length_starts_as_pickles_do_is_none(tmp_path, length):
    """1,152 is 80 04 in the file's first bytes, a pickle's of protocol 4."""
    path = tmp_path / "anna.safetensors"
    write(path, {"anna-k7": np.ones((1, 768), "f4")}, {"k": "x" * (length - 96)})
    data = path.read_bytes()
    own = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + own].ljust(length)
    path.write_bytes(length.to_bytes(8, "little") + header + data[8 + own :])

    file = examine_file(path)

    assert own <= length
    assert path.read_bytes()[0] == 0x80
    assert file.kind is not None


def test_the_command_prints_one_report_and_json_says_the_same(tmp_path):
    """Exit code 0; the JSON names every key left over."""
    path = write(tmp_path / "anna.safetensors", diffusers())

    shown, told = run(str(path)), run(str(path), "--json")

    assert (shown.returncode, told.returncode) == (0, 0)
    assert shown.stdout.startswith("anna.safetensors: LoRA, diffusers' names\n")
    assert json.loads(told.stdout) == file_json(examine_file(path))
    assert len(json.loads(told.stdout)["loads"][1]["left"]) == 256


def test_the_page_shows_what_the_command_prints(tmp_path):
    """docs/doctor.md, its console block, character by character."""
    page = (Path(__file__).parents[1] / "docs" / "doctor.md").read_text("utf-8")
    said = {"ss_dataset_dirs": '{"4_anna karenina":{"n_repeats":4}}'}
    path = write(tmp_path / "anna.safetensors", diffusers(rank=4), said)

    shown = page.partition("$ orthofed doctor anna.safetensors\n")[2].partition("```")[0]

    assert run(str(path)).stdout == shown


def test_a_folder_still_goes_to_the_coordinators_doctor_and_nothing_is_an_error(tmp_path):
    """An empty folder is no coordinator's; a path without a file is wrong usage, exit 2."""
    folder, nothing = run(str(tmp_path)), run(str(tmp_path / "anna"), "--json")

    assert folder.returncode != 0
    assert "anna" not in folder.stderr
    assert (nothing.returncode, json.loads(nothing.stdout)["error"]["code"]) == (2, "no-such-file")


def test_a_pipelines_folder_is_named_for_what_it_is(tmp_path):
    """Nobody is told to found a federation in it."""
    (tmp_path / "model_index.json").write_text("{}")

    done = run(str(tmp_path))

    assert done.returncode == 2
    assert "is a diffusers pipeline" in done.stderr
    assert "orthofed audit" in done.stderr


def test_a_folder_of_peft_is_its_file_and_a_release_is_sent_to_verify(tmp_path):
    """Who points at the folder means the adapter in it."""
    folder = tmp_path / "peft"
    folder.mkdir()
    write(folder / "adapter_model.safetensors", peft())
    (folder / "adapter_config.json").write_text("{}")
    for name in ("manifest.json", "info.json"):
        (tmp_path / name).write_text("{}")

    adapter, release = run(str(folder)), run(str(tmp_path))

    assert adapter.stdout.startswith("adapter_model.safetensors: LoRA, PEFT's names")
    assert (adapter.returncode, release.returncode) == (0, 2)
    assert "run orthofed verify" in release.stderr


def test_nothing_of_a_strangers_file_reaches_the_terminal_unescaped(tmp_path):
    """A key that clears the screen and turns the line around is printed as escapes (T8)."""
    evil = "evil\x1b[2J\u202e\u0627key"
    file = examined(tmp_path, {**kohya(), evil: np.ones(2, "f2")})

    text = file_text(file)

    assert "evil\\x1b[2J\\u202e\\u0627key" in text
    assert text.isascii()
    assert all(line.isprintable() for line in text.splitlines())
