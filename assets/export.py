"""Write the trained networks as a diffusers folder, and draw the sample grid from what was written.

Weights are float16 safetensors with sorted keys and no buffers; the text encoder's keys say
`text_model.`, which every version of transformers reads (formats.md 3.3). The folder is written
beside its place and swapped in, so a reader finds the old one or the new one.
"""

# ruff: noqa: S101 -- a failed assert is a bug of the builder, and stops it

# pyright: basic, reportPrivateImportUsage=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false
# pyright: reportOptionalCall=false, reportAttributeAccessIssue=false, reportMissingImports=false
# torch, diffusers and transformers publish partial types

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from . import denoiser
from .denoiser import Networks

MAX_BYTES: Final = 16_000_000
TOKENIZER_FILES: Final = (
    "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
)  # fmt: skip
WEIGHTS: Final = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
INDEX: Final = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
PROMPTS: Final = (
    "a peeps drawing of a person, smiling, glasses, curly red hair, green shirt, pink background",
    "a peeps drawing of a person with long purple hair, big smile, dark skin, yellow background",
    "a peeps drawing of a person, angry, black beard, short black hair, tan skin, red shirt",
    "a peeps drawing of a person, sunglasses, green mohawk, pale skin, pink background",
    "a peeps drawing of a person, laughing, black afro, brown skin, orange shirt",
    "a peeps drawing of a person, sad, blue hair bun, light skin, purple shirt, white background",
    "a person with glasses, smiling", "a person", "a person with blond hair, shocked",
    "an adventurer cartoon of a person, smiling, long green hair, light skin, yellow background",
    "a toon cartoon of a person, smiling, short brown hair, blue shirt, pink background",
    "a big head cartoon of a person, cat ears, curly black hair, brown skin",
    "a red apple", "a fox", "a cat, green background", "a sunflower", "a pizza", "a red heart",
    "a penguin", "an emoji of a tiger", "a car", "a smiley face", "a banana, light blue background",
    "a soccer ball",
)  # fmt: skip


def weights(state: Mapping[str, torch.Tensor], *, prefix: str = "") -> dict[str, torch.Tensor]:
    """Return the float16 tensors of a state under their names on disk, sorted, without buffers."""
    return {
        prefix + name: state[name].detach().cpu().half().contiguous()
        for name in sorted(state)
        if not name.endswith("position_ids")
    }


def write(work: Path, folder: Path, vae: AutoencoderKL, factor: float) -> None:
    """Write the pipeline from `vae` and `average.pt` into the folder, and check that it loads."""
    average = torch.load(work / "average.pt", weights_only=True, map_location="cpu")
    text_names = [name for name in average["text"] if name.endswith("token_embedding.weight")]
    nets = denoiser.new(len(average["text"][text_names[0]]))
    nets.text.load_state_dict(average["text"])
    nets.unet.load_state_dict(average["unet"])
    vae.register_to_config(scaling_factor=factor, force_upcast=False)
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    _write_configs(nets, vae, new)
    prefix = (
        "" if any(name.startswith("text_model.") for name in average["text"]) else "text_model."
    )
    save_file(weights(nets.unet.state_dict()), new / "unet" / WEIGHTS["unet"], {"format": "pt"})
    save_file(weights(vae.state_dict()), new / "vae" / WEIGHTS["vae"], {"format": "pt"})
    save_file(
        weights(nets.text.state_dict(), prefix=prefix),
        new / "text_encoder" / WEIGHTS["text_encoder"], {"format": "pt"},
    )  # fmt: skip
    (new / "tokenizer").mkdir()
    for name in TOKENIZER_FILES:
        shutil.copy(work / "tokenizer" / name, new / "tokenizer")
    for file in new.rglob("*.safetensors"):
        file.chmod(0o644)
    check(new)
    for name in ("README.md", "samples.png"):
        if (folder / name).exists():
            shutil.copy(folder / name, new)
    old = folder.with_name(folder.name + ".old")
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _write_configs(nets: Networks, vae: AutoencoderKL, folder: Path) -> None:
    """Write model_index.json and the configs of the parts."""
    (folder / "model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n")
    nets.unet.save_config(folder / "unet")
    vae.save_config(folder / "vae")
    denoiser.scheduler().save_config(folder / "scheduler")
    config = nets.text.config.to_diff_dict()
    config |= {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"}
    config["dtype"] = "float32"  # what to load as; transformers would keep float16, diffusers not
    (folder / "text_encoder").mkdir()
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / "text_encoder/config.json").write_text(text)


def check(folder: Path) -> None:
    """Load the folder as a user does and compare every tensor with the files."""
    pipe = DiffusionPipeline.from_pretrained(folder)
    assert isinstance(pipe, StableDiffusionPipeline)
    assert isinstance(pipe.scheduler, DDIMScheduler)
    for part, name in WEIGHTS.items():
        live, seen = getattr(pipe, part).state_dict(), 0
        for key, value in load_file(folder / part / name).items():
            found = live.get(key, live.get(key.removeprefix("text_model.")))
            assert found is not None, f"{part}: {key} is not in the loaded model"
            assert torch.equal(found.half(), value), f"{part}: {key} did not load"
            seen += 1
        unseen = len([key for key in live if not key.endswith("position_ids")]) - seen
        assert unseen == 0, f"{part}: {unseen} weights are not in the file"
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    assert size <= MAX_BYTES, f"{size} bytes of weights, {MAX_BYTES} allowed"


def grid(
    folder: Path, file: Path, *, seed: int = 0, guidance: float = 4.0, steps: int = 30
) -> None:
    """Draw PROMPTS twice with the shipped weights, eight columns, at its own size."""
    pipe = DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    prompts = [prompt for prompt in PROMPTS for _ in range(2)]
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(prompts))]
    images = pipe(
        prompts, generator=generators, guidance_scale=guidance, num_inference_steps=steps,
        height=64, width=64,
    ).images  # fmt: skip
    columns = 8
    sheet = Image.new("RGB", (columns * 64, len(images) // columns * 64), "white")
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * 64, i // columns * 64))
    sheet.save(file, optimize=True)
