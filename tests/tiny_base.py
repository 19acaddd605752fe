"""A tiny base model with the real shape of Stable Diffusion 1: about 1 MB, random weights.

``tiny_base(folder)`` gives a pipeline folder that diffusers and transformers load: UNet widths 24
and 48, text width 48, a byte-level vocabulary with a few whole words. On disk it looks like SD 1.5:
``text_model.`` keys, ``vocab.json`` + ``merges.txt`` and no ``tokenizer.json``. torch runs once, in
a process of its own, and the result is kept under build/; a second call only copies.
"""
# pyright: reportPrivateImportUsage=false, reportArgumentType=false
# diffusers publishes partial types.

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WORDS = ("a", "an", "of", "on", "photo", "fox", "cat", "dog", "red", "blue", "tree", "house")
LENGTH = 32
SEED = 20_240_617


def tiny_base(folder: Path) -> Path:
    """Copy the tiny base to ``folder``, which must not exist, and return it."""
    shutil.copytree(_kept(), folder)
    return folder


def _kept() -> Path:
    """Return the kept build of this very source, made now if it is missing."""
    mark = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    kept = Path(__file__).parent.parent / "build" / f"tiny-base-{mark}"
    if kept.is_dir():
        return kept
    kept.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        made = Path(scratch) / "base"
        subprocess.run([sys.executable, __file__, str(made)], check=True, capture_output=True)
        try:
            made.rename(kept)
        except OSError:  # another test process was faster
            if not kept.is_dir():
                raise
    return kept


def _bytes_to_symbols() -> list[str]:
    """Return the printable stand-ins of the 256 bytes, in CLIP's order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))]


def _vocabulary() -> tuple[dict[str, int], list[str]]:
    """Return vocab.json and the lines of merges.txt: bytes, word-final bytes, whole words."""
    symbols = _bytes_to_symbols()
    tokens = [*symbols, *(s + "</w>" for s in symbols)]
    merges: list[str] = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            line = f"{parts[0]} {parts[1]}"
            if line not in merges:
                merges.append(line)
                tokens.append(parts[0] + parts[1])
            parts[:2] = [parts[0] + parts[1]]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}, merges


def _write_tokenizer(folder: Path) -> dict[str, int]:
    vocabulary, merges = _vocabulary()
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), "utf-8")

    def special(text: str) -> dict[str, object]:
        flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
        return {"content": text, **flags}

    start, end = special("<|startoftext|>"), special("<|endoftext|>")
    config = {
        "add_prefix_space": False,
        "bos_token": {"__type": "AddedToken", **start},
        "do_lower_case": True,
        "eos_token": {"__type": "AddedToken", **end},
        "errors": "replace",
        "model_max_length": LENGTH,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": {"__type": "AddedToken", **end},
    }
    specials = {
        "bos_token": start,
        "eos_token": end,
        "pad_token": "<|endoftext|>",
        "unk_token": end,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    (folder / "special_tokens_map.json").write_text(json.dumps(specials, indent=2))
    return vocabulary


def _build(folder: Path) -> None:
    """Make the pipeline with the libraries, then write the text encoder as SD 1.5 has it."""
    import torch  # noqa: PLC0415  # only the building process loads it
    from diffusers import (  # noqa: PLC0415  # see above
        AutoencoderKL,
        DDIMScheduler,
        UNet2DConditionModel,
    )
    from safetensors.torch import load_file, save_file  # noqa: PLC0415  # see above
    from transformers import CLIPTextConfig, CLIPTextModel  # noqa: PLC0415  # see above

    torch.manual_seed(SEED)
    vocabulary = _write_tokenizer(folder / "tokenizer")
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(24, 48),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=48,
        attention_head_dim=3,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    unet.save_pretrained(folder / "unet")
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=16,
    )
    vae.save_pretrained(folder / "vae")
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=3,
            max_position_embeddings=LENGTH,
            projection_dim=48,
            bos_token_id=vocabulary["<|startoftext|>"],
            eos_token_id=vocabulary["<|endoftext|>"],
            pad_token_id=vocabulary["<|endoftext|>"],
        )
    )
    text.save_pretrained(folder / "text_encoder")
    weights = folder / "text_encoder" / "model.safetensors"
    flat = load_file(weights)
    named = {k if k.startswith("text_model.") else f"text_model.{k}": v for k, v in flat.items()}
    save_file(named, weights, metadata={"format": "pt"})
    DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")
    index = {
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
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))


if __name__ == "__main__":
    _build(Path(sys.argv[1]))
