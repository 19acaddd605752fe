# pyright: basic, reportPrivateImportUsage=false, reportArgumentType=false
# diffusers and peft publish partial types, and not the same ones in each generation.
"""Load every kind of file of a release with the libraries of one environment, and compare.

    python tests/loaders/merged.py BASE RELEASE TARGETS [BASE RELEASE TARGETS ...]

BASE: a pipeline's folder. RELEASE: its LoRA kinds, vectors and checkpoint. TARGETS: safetensors
in F64, ``<component>.<layer>`` = W + dW. Prints one JSON object a line: max |W - target| / max |dW|
of each kind, and `base` for what a file that did nothing would give; `words` is the largest
distance of a learned row. Only what a consumer has is imported: nothing of ours.
"""

import json
import sys
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from peft import PeftModel
from safetensors.torch import load_file

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")
TOKENIZERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
CLIPS = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}


def opened(folder: Path) -> Any:
    """Return the pipeline in float32; both generations know this spelling of the type."""
    return DiffusionPipeline.from_pretrained(
        folder, local_files_only=True, use_safetensors=True
    ).to(torch.float32)


def single(file: Path, base: Path) -> Any:
    """Return the pipeline of one file, in float32; its configs are the base's."""
    kind = json.loads((base / "model_index.json").read_text())["_class_name"]
    return getattr(diffusers, kind).from_single_file(
        str(file), config=str(base), local_files_only=True, torch_dtype=torch.float32
    )


def networks(pipeline: Any) -> dict[str, Any]:
    """Return the adapted models of a pipeline by name."""
    return {
        name: part for name in COMPONENTS if (part := getattr(pipeline, name, None)) is not None
    }


def far(models: dict[str, Any], targets: dict[str, torch.Tensor], start: dict[str, Any]) -> float:
    """Return the worst layer's max |W - target| / max |dW|; ``start``: the base's weights."""
    worst = 0.0
    for path, target in targets.items():
        weight = weight_of(models, path).double()
        size = (target - start[path]).abs().max()
        worst = max(worst, float((weight - target).abs().max() / size))
    return worst


def weight_of(models: dict[str, Any], path: str) -> torch.Tensor:
    """Return a layer's weight: generations differ in ``text_model.``, so both are looked up."""
    component, _, inside = path.partition(".")
    modules = dict(models[component].named_modules())
    names = (inside, inside.removeprefix("text_model."))
    return next(modules[name] for name in names if name in modules).weight.detach()


def fused(base: Path, files: list[Path]) -> Any:
    """Return the pipeline with all of ``files`` loaded at strength 1 and fused."""
    pipeline = opened(base)
    names = [f"file{k}" for k in range(len(files))]
    for name, file in zip(names, files, strict=True):
        pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name=name)
    pipeline.set_adapters(names)
    pipeline.fuse_lora(adapter_names=names)
    pipeline.unload_lora_weights()
    return pipeline


def row(pipeline: Any, encoder: str, token: str) -> torch.Tensor:
    """Return what the encoder has for one token."""
    number = getattr(pipeline, TOKENIZERS[encoder]).convert_tokens_to_ids(token)
    return getattr(pipeline, encoder).get_input_embeddings().weight.detach()[number]


def words(base: Path, release: Path) -> float:
    """Return the largest distance of a learned row, by textual inversion and in the checkpoint."""
    pipeline, whole, worst = opened(base), opened(release / "checkpoint"), 0.0
    for file in sorted((release / "embeddings").glob("*.safetensors")):
        tensors = load_file(file)
        for encoder in [name for name in TOKENIZERS if getattr(pipeline, name, None) is not None]:
            vectors = tensors[file.stem if len(tensors) == 1 else CLIPS[encoder]]
            pipeline.load_textual_inversion(
                {file.stem: vectors} if len(tensors) == 1 else vectors,
                token=file.stem,
                text_encoder=getattr(pipeline, encoder),
                tokenizer=getattr(pipeline, TOKENIZERS[encoder]),
            )
            for k, vector in enumerate(vectors):
                token = file.stem if k == 0 else f"{file.stem}_{k}"
                for one in (pipeline, whole):
                    worst = max(worst, float((row(one, encoder, token) - vector).abs().max()))
    return worst


def main() -> None:
    """Print the figures of each three."""
    for k in range(1, len(sys.argv), 3):
        base, release, targets = sys.argv[k : k + 3]
        print(json.dumps(compared(Path(base), Path(release), load_file(targets))), flush=True)


def compared(base: Path, release: Path, targets: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return the figures of one release."""
    models = networks(opened(base))
    start = {path: weight_of(models, path).double() for path in targets}
    told: dict[str, Any] = {
        "diffusers_version": diffusers.__version__,
        "transformers_version": transformers.__version__,
        "base": far(models, targets, start),
    }
    stacked = [path for path in (release / "lora").iterdir() if "a1111" not in path.name]
    diffusers_file = release / "diffusers" / "pytorch_lora_weights.safetensors"
    concepts = sorted((release / "concepts").iterdir())
    for kind, files in (("lora", stacked), ("concepts", concepts), ("diffusers", [diffusers_file])):
        told[kind] = far(networks(fused(base, files)), targets, start)
    merged = {
        name: PeftModel.from_pretrained(model, release / "peft" / name).merge_and_unload()
        for name, model in networks(opened(base)).items()
    }
    told["peft"] = far(merged, targets, start)
    told["checkpoint"] = far(networks(opened(release / "checkpoint")), targets, start)
    (full,) = (release / "full").iterdir()
    told["full"] = far(networks(single(full, base)), targets, start)
    told["words"] = words(base, release)
    return told


if __name__ == "__main__":
    main()
