# pyright: basic
# diffusers and transformers publish partial types.
"""The base model on this machine: loaded, frozen, its layers found by their canonical paths.

A base is a Stable-Diffusion-shaped pipeline folder. Everything is held in float32, in evaluation
mode and without gradients: what trains lives beside it (adapter.py, tokens.py). Two laws:

    fingerprint_of(folder) = the hash that the spec names (core/fingerprint.py), or nothing trains
    layer(path) = the one module of a canonical path, with or without `text_model.`, or an error

transformers 5.6 dropped `text_model.` from module names while files keep it (formats.md 3.3); a
path that matches nothing must never be a silent no-op. Left to others: sampling (sample.py).
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
import transformers
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from PIL import Image
from torch import IntTensor, Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from ..core.errors import InputError, SpecError
from ..core.fingerprint import base_fingerprint, is_base_file
from ..core.spec import FederationSpec

_ENCODE_BATCH = 16


@dataclass(frozen=True, slots=True)
class Base:
    """The parts of one pipeline, frozen. ``sampler`` is the scheduler that the folder names."""

    folder: Path
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    sampler: SchedulerMixin
    noise: DDPMScheduler

    @staticmethod
    def load(folder: Path, *, spec: FederationSpec | None = None) -> "Base":
        """Return the base in ``folder``, checked against ``spec`` first if one is given.

        Raises InputError: the folder is no pipeline, or not the base that the spec names.
        """
        quiet()
        index = _model_index(folder)
        if spec is not None:
            check_base(folder, spec)
        options = {"local_files_only": True, "use_safetensors": True}
        part = _part(folder)
        parts = (
            part("text_encoder", CLIPTextModel, dtype=torch.float32, **options),
            part("vae", AutoencoderKL, dtype=torch.float32, **options),
            part("unet", UNet2DConditionModel, dtype=torch.float32, **options),
        )
        for module in parts:
            module.requires_grad_(requires_grad=False).eval()
        sampler = part("scheduler", getattr(diffusers, index["scheduler"][1]))
        return Base(
            folder,
            part("tokenizer", CLIPTokenizer, local_files_only=True),
            *parts,
            sampler,
            cast("DDPMScheduler", DDPMScheduler.from_config(sampler.config)),
        )

    @property
    def image_size(self) -> int:
        """Side of the square images that the model was trained on, in pixels."""
        return int(self.unet.config["sample_size"]) * self.pixels_per_latent

    @property
    def pixels_per_latent(self) -> int:
        """Side of the patch of pixels that becomes one latent position."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def image_step(self) -> int:
        """What the sides of an image must be multiples of, in pixels, for every level to fit."""
        levels = len(self.unet.config["block_out_channels"])
        return self.pixels_per_latent * 2 ** (levels - 1)

    @property
    def vocabulary(self) -> int:
        """Rows of the base's token embedding; learned tokens come after them."""
        return int(self.token_embedding.weight.shape[0])

    @property
    def token_embedding(self) -> nn.Embedding:
        """The base's token table. It is read and hooked, never written."""
        return cast("nn.Embedding", self.text_encoder.get_input_embeddings())

    def layer(self, path: str) -> nn.Linear:
        """Return the linear layer at the canonical ``path``, for example
        ``text_encoder.text_model.encoder.layers.0.self_attn.q_proj``.

        Raises SpecError: this model has no such layer.
        """  # noqa: D205  # a path does not break
        component, _, inside = path.partition(".")
        root = {"unet": self.unet, "text_encoder": self.text_encoder}.get(component)
        if root is not None:
            bare = inside.removeprefix("text_model.")
            for name in (inside, bare, f"text_model.{bare}"):
                try:
                    module = root.get_submodule(name)
                except AttributeError:
                    continue
                if isinstance(module, nn.Linear):
                    return module
        raise SpecError(
            f"the base has no linear layer {path}",
            why="a layer that is not found would be left out without a word",
            fix="use the base model that the federation's spec names",
            code="layer-not-found",
        )

    def latents(self, images: Sequence[Image.Image]) -> Tensor:
        """Return the scaled latents of RGB ``images``: the mode of the VAE's answer, no draw."""
        shift = self.vae.config.get("shift_factor") or 0.0
        done = []
        with torch.no_grad():
            for start in range(0, len(images), _ENCODE_BATCH):
                pixels = torch.stack([_pixels(i) for i in images[start : start + _ENCODE_BATCH]])
                done.append(self.vae.encode(pixels, return_dict=False)[0].mode())
        return (torch.cat(done) - shift) * self.vae.config["scaling_factor"]

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image's latent."""
        side = int(self.unet.config["sample_size"])
        return int(self.unet.config["in_channels"]), side, side

    @property
    def num_timesteps(self) -> int:
        """Length of the noise schedule; timesteps are 0 .. this - 1."""
        return int(self.noise.config["num_train_timesteps"])

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the latents as they are after ``timesteps`` steps of noising."""
        return self.noise.add_noise(latents, noise, cast("IntTensor", timesteps))

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what the UNet should answer: the noise, or the velocity of a `v` model."""
        kind = self.noise.config["prediction_type"]
        if kind == "epsilon":
            return noise
        if kind == "v_prediction":
            return self.noise.get_velocity(latents, noise, cast("IntTensor", timesteps))
        raise SpecError(
            f"the base predicts {kind!r}; epsilon and v_prediction are known here",
            why="the loss compares the model's answer with its target",
            fix="use a base model of one of the two kinds",
            code="unknown-prediction-type",
        )

    def clean_and_noise(
        self, noisy: Tensor, answer: Tensor, alpha: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the clean latent and the noise that ``answer`` sees in ``noisy``."""
        if self.noise.config["prediction_type"] == "v_prediction":
            clean = alpha.sqrt() * noisy - (1 - alpha).sqrt() * answer
            return clean, alpha.sqrt() * answer + (1 - alpha).sqrt() * noisy
        return (noisy - (1 - alpha).sqrt() * answer) / alpha.sqrt(), answer

    def predict(self, noisy: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        """Return the UNet's answer to noisy latents under text features."""
        return self.unet(noisy, timesteps, text, return_dict=False)[0]


def quiet() -> None:
    """Keep the libraries' own bars and notes off stderr: a command there draws its own."""
    for logs in (transformers.utils.logging, diffusers.utils.logging):
        logs.set_verbosity_error()
        logs.disable_progress_bar()


def fingerprint_of(folder: Path) -> str:
    """Return the fingerprint of the base in ``folder``, as hex; reads each counted file once.

    Raises InputError: the folder is no pipeline.
    """
    _model_index(folder)
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    return base_fingerprint({n: _sha256(folder / n) for n in names if is_base_file(n)})


def check_base(folder: Path, spec: FederationSpec) -> None:
    """Check that ``folder`` holds the very base that the federation was founded on.

    Raises InputError: its fingerprint is another one.
    """
    found = fingerprint_of(folder)
    if found != spec.base.fingerprint:
        raise InputError(
            f"the base in {folder} has the fingerprint {found[:16]}…, "
            f"the federation's has {spec.base.fingerprint[:16]}…",
            why="a residual fits only the weights that it was trained on",
            fix=f"give --base the folder of {spec.base.name}, revision {spec.base.revision}",
            code="wrong-base",
        )


def _model_index(folder: Path) -> dict:
    try:
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
    except (OSError, ValueError):
        index = {}
    if not isinstance(index, dict) or "unet" not in index or "scheduler" not in index:
        raise InputError(
            f"{folder} is no diffusers pipeline: no model_index.json there names its parts",
            why="the base is loaded from such a folder",
            fix="give the folder that holds model_index.json, unet/, vae/ and text_encoder/",
            code="not-a-pipeline",
        )
    if "text_encoder_2" in index:
        raise SpecError(
            f"{folder} has two text encoders",
            why="training covers Stable-Diffusion-1-shaped pipelines so far",
            fix="use a base with one text encoder",
            code="two-text-encoders",
        )
    return index


def _part(folder: Path) -> Callable[..., Any]:
    """Return a loader of the folder's parts; ``Any`` is the library's own type of each."""

    def load(name: str, kind: Any, **options: object) -> Any:  # noqa: ANN401  # as above
        try:
            return kind.from_pretrained(folder / name, **options)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{folder / name} cannot be loaded: {str(error).splitlines()[0]}",
                why="the base pipeline is not complete, or a file is damaged",
                fix="fetch the base model again",
                code="base-damaged",
            ) from error

    return load


def _pixels(image: Image.Image) -> Tensor:
    data = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    square = data.view(image.height, image.width, 3).permute(2, 0, 1)
    return square.float().div(127.5).sub(1.0)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
