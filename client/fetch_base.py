# pyright: basic
# diffusers and huggingface_hub publish partial types.
"""A base folder from elsewhere: a repository of the Hugging Face hub, or one .safetensors file.

    hub id      the files that count (core/fingerprint.py), byte for byte, of one pinned revision
    one file    weights under diffusers' names; everything else is a copy of a config folder

Laws: safetensors only, no code of others, nothing half-made under the folder's name; the same file
and configs give the same bytes, hence the same fingerprint. A single file never asks the network:
its configs come from ``config`` or from the hub's cache on this machine. The text encoders' names
say ``text_model.``, as published ones do (formats.md 3.3). Cost: one copy of the weights.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.loaders.single_file_utils import (
    SingleFileComponentError,
    fetch_diffusers_config,
    load_single_file_checkpoint,
)
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..core.errors import InputError, Unreachable
from ..core.fingerprint import is_base_file
from .base import Base, quiet
from .families.parts import Parts

_CONFIGS = ("model_index.json", "*/*.json", "*/*.txt")
_WEIGHTS = tuple(
    f"{part}/*.safetensors" for part in ("unet", "vae", "text_encoder", "text_encoder_2")
)
_TWINS = ("*.fp16.*", "*.bf16.*", "*.non_ema.*")
_PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
_FILES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


def fetch_base(
    source: str, folder: Path, *, config: Path | None = None, revision: str | None = None
) -> Path:
    """Make ``folder``, which must not exist, from ``source`` and return it.

    ``source``: a file that ends in .safetensors, or a hub id such as ``owner/name``. ``config``:
    a pipeline folder, for a single file. ``revision``: a commit, tag or branch of the hub.
    Raises InputError: the source cannot be used. Raises Unreachable: the hub does not answer.
    """
    quiet()
    if folder.exists():
        raise InputError(
            f"{folder} exists",
            why="a base is made whole or not at all",
            fix="name a folder that does not exist yet",
            code="folder-not-empty",
        )
    if source.endswith((".ckpt", ".bin", ".pt", ".pth")):
        raise InputError(
            f"{source} is a pickle",
            why="loading one runs code of whoever made it",
            fix="get the model as .safetensors",
            code="not-safetensors",
        )
    if source.endswith(".safetensors"):
        file = Path(source)
        return _made(folder, lambda place: _convert(file, place, config or _cached_config(file)))
    return _made(folder, lambda place: _download(source, place, revision))


def _made(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Fill a folder beside ``folder``, check that it is a base, and only then give it its name."""
    building = folder.parent / f".{folder.name}.part"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        fill(building)
        Base.load(building)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def _download(source: str, place: Path, revision: str | None) -> None:
    try:
        snapshot_download(
            source,
            revision=revision,
            local_dir=place,
            allow_patterns=[*_CONFIGS, *_WEIGHTS],
            ignore_patterns=list(_TWINS),
        )
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise InputError(
            f"the hub has no {source[:200]} at revision {revision or 'main'}",
            why="the base is fetched from there",
            fix="give owner/name of a public model and a revision of it, or a folder's path",
            code="base-not-found",
        ) from error
    except (OSError, HfHubHTTPError) as error:
        raise Unreachable(
            f"the hub does not give {source[:200]}: {str(error).splitlines()[0][:200]}",
            why="the base has to be fetched once",
            fix="connect this machine, or copy the pipeline's folder here and give that",
            code="hub-unreachable",
        ) from error
    shutil.rmtree(place / ".cache", ignore_errors=True)  # the downloader's own notes


def _convert(file: Path, place: Path, config: Path) -> None:
    """Write the pipeline of one file; every name that is no weight comes from ``config``."""
    dtype = _dtype(file)
    named = str(Parts.of(config).settings.get("_class_name"))
    if named not in _PIPELINES:
        raise InputError(
            f"the configs in {config} are of {named[:80]}",
            why=f"single files of {' and '.join(_PIPELINES)} are known here",
            fix="give --config the pipeline folder of a Stable Diffusion 1, 2 or XL model",
            code="unknown-family",
        )
    kind: Any = getattr(diffusers, named)
    try:
        pipeline = kind.from_single_file(
            str(file), config=str(config), local_files_only=True, torch_dtype=dtype
        )
    except (OSError, ValueError, KeyError, RuntimeError, SingleFileComponentError) as error:
        raise InputError(
            f"{file} does not fit the configs in {config}: {str(error).splitlines()[0][:200]}",
            why="its weights are given names and shapes by them",
            fix="give --config the pipeline folder of the very model that the file is a version of",
            code="config-does-not-fit",
        ) from error
    for path in sorted(config.rglob("*")):
        name = path.relative_to(config).as_posix()
        if path.is_file() and is_base_file(name) and not name.endswith(".safetensors"):
            (place / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, place / name)
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        module = getattr(pipeline, name, None)
        if module is not None:
            target = place / name / f"{_FILES.get(name, 'model')}.safetensors"
            save_file(_weights(name, module), target, {"format": "pt"})


def _weights(name: str, module: nn.Module) -> dict[str, Tensor]:
    """Return the weights under the names of published files."""
    tensors = {key: value.contiguous() for key, value in module.state_dict().items()}
    if not name.startswith("text_encoder"):
        return tensors
    bare = {key.removeprefix("text_model."): value for key, value in tensors.items()}
    return {k if k.startswith("text_proj") else f"text_model.{k}": v for k, v in bare.items()}


def _dtype(file: Path) -> torch.dtype:
    """Return the type of the file's first float tensor, so that no weight is rounded."""
    try:
        with safe_open(file, "pt") as tensors:
            kinds = (tensors.get_slice(name).get_dtype() for name in tensors.keys())  # noqa: SIM118  # no dict
            return next(_DTYPES[kind] for kind in kinds if kind in _DTYPES)
    except (OSError, SafetensorError, StopIteration) as error:
        raise InputError(
            f"{file} cannot be read as safetensors",
            why="it is missing, cut short or of another format",
            fix="fetch the file again, whole",
            code="base-damaged",
        ) from error


def _cached_config(file: Path) -> Path:
    """Return the configs of the file's model from the hub's cache; the network is not asked."""
    _dtype(file)
    model = fetch_diffusers_config(load_single_file_checkpoint(str(file), local_files_only=True))
    name = str(model["pretrained_model_name_or_path"])
    try:
        found = snapshot_download(name, allow_patterns=list(_CONFIGS), local_files_only=True)
    except OSError as error:
        raise InputError(
            f"{file} holds weights alone, and the configs of {name} are not on this machine",
            why="a single file does not say how its model is built, nor has it a tokenizer",
            fix=f"give --config the pipeline folder of {name}; its .json and .txt files are enough",
            code="no-base-config",
        ) from error
    return Path(found)
