"""Somebody's LoRA file of a published base, at its full width: every name finds its layer."""

import json
from pathlib import Path

import numpy as np
import pytest

from orthofed.client.adapter_file import AdapterFile
from orthofed.core.errors import InputError
from orthofed.core.published import PublishedModel

from . import adapter_files
from .test_loader_rules import ALL, spec


@pytest.mark.parametrize("spelling", ["kohya", "diffusers"])
@pytest.mark.parametrize("model", ALL)
def test_every_layer_of_a_published_base_is_found(
    spelling: str, model: PublishedModel, tmp_path: Path
) -> None:
    """Kohya's SDXL files have original names in the UNet; alpha 3 is heard, and is 1 if unsaid."""
    made = (
        adapter_files.kohya(model, alpha=3.0)
        if spelling == "kohya"
        else adapter_files.diffusers(model)
    )
    told = spec(model)

    file = AdapterFile.open(adapter_files.write(tmp_path / "a.safetensors", made), told)

    assert file.foreign == ()
    assert file.strange == ()
    assert set(file.layers) == {layer.path for layer in told.layers}
    scale = 3.0 if spelling == "kohya" else 1.0
    assert {file.change(layer).scale for layer in told.layers} == {scale}
    assert all(file.change(layer).energy > 0 for layer in told.layers)


@pytest.mark.parametrize("folder", ["my lora", "unet"])
def test_a_folder_that_peft_wrote_may_have_any_name(folder: str, tmp_path: Path) -> None:
    """Its names do not say the component; its config says alpha, here 4 at rank 1."""
    place = tmp_path / folder
    place.mkdir()
    (place / "adapter_config.json").write_text(json.dumps({"r": 1, "lora_alpha": 4}))
    told = spec("sd15")
    of_unet = {layer.path for layer in told.layers if layer.path.startswith("unet.")}

    file = AdapterFile.open(
        adapter_files.write(place / "adapter_model.safetensors", adapter_files.peft()), told
    )

    assert set(file.layers) == of_unet
    assert {file.change(layer).scale for layer in told.layers if layer.path in of_unet} == {4.0}


def test_a_folder_called_after_a_text_encoder_means_its_layers(tmp_path: Path) -> None:
    """SDXL's two encoders have the same names; the folder of a release says which is meant."""
    place = tmp_path / "text_encoder_2"
    place.mkdir()
    (place / "adapter_config.json").write_text(json.dumps({"r": 1, "lora_alpha": 1}))
    told = spec("sdxl")
    name = "text_model.encoder.layers.0.self_attn.q_proj"
    sides = {
        f"base_model.model.{name}.lora_B.weight": np.ones((1280, 1), np.float32),
        f"base_model.model.{name}.lora_A.weight": np.ones((1, 1280), np.float32),
    }

    file = AdapterFile.open(adapter_files.write(place / "adapter_model.safetensors", sides), told)

    assert set(file.layers) == {f"text_encoder_2.{name}"}


AT = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
UP, DOWN = f"{AT}.lora_B.weight", f"{AT}.lora_A.weight"
OTHER = AT.replace("unet.", "lora_unet_").replace(".", "_")


def good() -> dict[str, np.ndarray]:
    """Return a plain LoRA of rank 2 of one layer of SD 1.5, 1280 to 1280."""
    return {UP: np.ones((1280, 2), np.float32), DOWN: np.ones((2, 1280), np.float32)}


def twice() -> dict[str, np.ndarray]:
    names = (f"{OTHER}.lora_up.weight", f"{OTHER}.lora_down.weight")
    both = dict(zip(names, (value * 2 for value in good().values()), strict=True))
    return {**good(), **both}


BAD: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "no LoRA": ({"x": np.ones(3, np.float32)}, "holds no LoRA"),
    "one side": ({UP: good()[UP]}, "has one side"),
    "two ranks": ({**good(), UP: np.ones((1280, 3), np.float32)}, "up has 3 columns, down 2 rows"),
    "rank 0": (
        {UP: np.ones((1280, 0), np.float32), DOWN: np.ones((0, 1280), np.float32)},
        "of shape",
    ),
    "a number": ({**good(), DOWN: np.array(1.0, np.float32)}, "each side is a matrix"),
    "two types": ({**good(), UP: np.ones((1280, 2), np.float16)}, "up is F16, down F32"),
    "whole numbers": (
        {UP: np.ones((1280, 2), np.int64), DOWN: np.ones((2, 1280), np.int64)},
        "is I64",
    ),
    "another base": ({**good(), DOWN: np.ones((2, 640), np.float32)}, "1280 x 640"),
    "twice": (twice(), "twice"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_two_loaders_would_read_differently_is_refused(case: str, tmp_path: Path) -> None:
    """By name, with what was found and what was expected."""
    tensors, says = BAD[case]
    path = adapter_files.write(tmp_path / "a.safetensors", tensors)

    with pytest.raises(InputError, match=says):
        read_all(path)


def read_all(path: Path) -> None:
    told = spec("sd15")
    file = AdapterFile.open(path, told)
    for layer in told.layers:
        file.change(layer)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"unet.lora_alpha": "4"}, "lora_alpha '4'"),
        ({"unet.lora_alpha": float("inf")}, "lora_alpha 'inf'"),
        ({"unet.r": 3}, "r = 3"),
        ({"unet.use_dora": True}, "use_dora"),
        ({"unet.use_rslora": True}, "use_rslora"),
        ({"unet.alpha_pattern": {"to_q": 1}}, "alpha_pattern"),
        ({"unet.rank_pattern": {"to_q": 1}}, "rank_pattern"),
        ([1], "no object"),
    ],
)
def test_a_scale_that_is_not_said_plainly_is_refused(
    said: object, says: str, tmp_path: Path
) -> None:
    """Diffusers' metadata: loaders do not agree on it, so nobody guesses."""
    told = {"lora_adapter_metadata": json.dumps(said)}
    path = adapter_files.write(tmp_path / "a.safetensors", good(), told)

    with pytest.raises(InputError, match=says):
        read_all(path)


@pytest.mark.parametrize(
    ("config", "says"), [("{", "no JSON"), (" " * (1 << 20) + "{}", "bytes"), ("[]", "no object")]
)
def test_a_config_of_peft_that_is_none_is_refused(config: str, says: str, tmp_path: Path) -> None:
    """Its length is asked before it is read."""
    (tmp_path / "adapter_config.json").write_text(config)
    path = adapter_files.write(tmp_path / "adapter_model.safetensors", adapter_files.peft())

    with pytest.raises(InputError, match=says):
        read_all(path)
