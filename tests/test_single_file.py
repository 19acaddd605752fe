# pyright: basic, reportPrivateImportUsage=false
# diffusers publishes partial types.
"""Where a pipeline's tensors lie in one file: held against diffusers' way back, name by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as theirs
from safetensors.numpy import load_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from orthofed.client.base_folder import BaseFolder
from orthofed.client.fetch_base import fetch_base
from orthofed.client.single_checkpoint import SingleCheckpoint
from orthofed.core.rounding import exact
from orthofed.core.single_file import SingleFileNames

from .single_file import _OPEN_CLIP, _opened, _unet, _vae, write_single_file
from .test_fetch_base import _configs
from .test_published_shapes import OPEN_CLIP_G, SD1, SD2, SDXL
from .tiny_base import tiny_base
from .tiny_families import tiny_sd2, tiny_sdxl

MADE = {"sd1": (tiny_base, 1), "sd2": (tiny_sd2, 2), "sdxl": (tiny_sdxl, 2)}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}


@pytest.mark.parametrize("family", MADE)
def test_every_tensor_of_a_pipeline_is_found_with_its_bits(family: str, tmp_path: Path) -> None:
    """Folder, one file, diffusers, folder again; and each tensor read where we say it lies."""
    make, each = MADE[family]
    folder = make(tmp_path / "base")
    path = write_single_file(folder, tmp_path / "x.safetensors", each=each, blocks=2, family=family)
    back = fetch_base(str(path), tmp_path / "made", config=_configs(folder, tmp_path / "config"))
    single, files = SingleCheckpoint(path), BaseFolder(back)

    claimed, count = set(), 0
    for file in files.weights:
        kept = load_file(back / file.name)
        for info in file.header.tensors:
            found = single.find(file.component, info.name)
            assert found is not None, (file.component, info.name)
            ours = exact(found.matrix(), found.dtype)
            assert np.array_equal(ours, kept[info.name].reshape(ours.shape)), info.name
            claimed.add((found.spot.key, found.spot.part))
            count += 1

    assert len(claimed) == count, "no two tensors share a place"
    left = {name for name, _ in single.tensors()} - {key for key, _ in claimed}
    assert left <= single.names.unread()


@pytest.mark.parametrize(
    ("config", "attended"),
    [(SD1, {1, 2, 3}), (SD2, {1, 2, 3}), (SDXL, {0, 1})],
    ids=["1", "2", "xl"],
)
def test_the_published_unets_and_vae_have_the_names_that_diffusers_reads(
    config: dict[str, Any], attended: set[int]
) -> None:
    """Real structure, a number for each tensor: what is read where we say is what diffusers reads.

    The names of the file come from the tests' own writer.
    """
    with torch.device("meta"):
        unet, coder = UNet2DConditionModel(**config), AutoencoderKL(**VAE)
    named = {f"model.diffusion_model.{_unet(n, 2, attended)}": n for n in unet.state_dict()}
    named |= {f"first_stage_model.{_vae(n, 4)}": n for n in coder.state_dict()}
    made = {key: torch.full((1, 1, 1), float(number)) for number, key in enumerate(named)}
    names = SingleFileNames(named)

    back = theirs.convert_ldm_unet_checkpoint(dict(made), unet.config)
    coded = theirs.convert_ldm_vae_checkpoint(dict(made), coder.config)

    for part, found in (("unet", back), ("vae", coded)):
        for name, value in found.items():
            spot = names.spot(part, name)
            assert spot is not None, name
            assert made[spot.key].item() == value.item(), name
    assert len(back) + len(coded) == len(named)


def test_the_second_text_encoder_of_xl_is_the_one_that_diffusers_reads() -> None:
    """32 layers of q, k and v in one: thirds of rows, and the projection turned."""
    config = CLIPTextConfig(
        **{**OPEN_CLIP_G, "num_hidden_layers": 2, "vocab_size": 8}, projection_dim=16
    )
    with torch.device("meta"):
        model = CLIPTextModelWithProjection(config)
    random = np.random.default_rng(1)
    clip = {
        n: torch.from_numpy(random.standard_normal([max(s // 40, 1) for s in v.shape]))
        for n, v in model.state_dict().items()
    }
    (prefix,) = _OPEN_CLIP["sdxl"].values()
    file = {f"{prefix}.{name}": value for name, value in _opened(clip).items()}
    names = SingleFileNames(file)

    back = theirs.convert_open_clip_checkpoint(model, file, prefix=f"{prefix}.")

    for name, value in back.items():
        spot = names.spot("text_encoder_2", name)
        assert spot is not None, name
        ours = file[spot.key].T if spot.turned else file[spot.key]
        if spot.part:
            ours = ours.chunk(3)[spot.part[0]]
        assert torch.equal(ours, value), name
    assert set(back) == set(clip)


def test_what_is_not_there_is_not_guessed() -> None:
    """A tensor that no such file has, and one whose file is another's."""
    names = SingleFileNames(["model.diffusion_model.out.2.weight", "betas", "x"])

    assert names.spot("unet", "conv_out.weight") is not None
    assert names.spot("unet", "conv_in.weight") is None
    assert names.spot("unet", "made.up.weight") is None
    assert names.spot("vae", "encoder.conv_in.weight") is None
    assert names.spot("text_encoder", "text_projection.weight") is None
    assert names.unread() == {"betas"}
