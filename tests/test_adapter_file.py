"""Somebody's LoRA file of a published base, at its full width: every name finds its layer."""

import json
from pathlib import Path

import numpy as np
import pytest

from orthofed.client.adapter_file import AdapterFile
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
