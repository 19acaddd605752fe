# pyright: basic
# diffusers and transformers publish partial types.
"""The base model on this machine: loaded, frozen, its layers found by their canonical paths.

A base is a diffusers pipeline folder of a known family (families/). It is held on one device
(placement.py), in evaluation mode and without gradients: what trains lives beside it (adapter.py,
tokens.py). Latents come and go in CPU memory; passes move them and answer in float32. Laws:

    fingerprint_of(folder) = the hash that the spec names (core/fingerprint.py), or nothing trains
    layer(path) = the one module of a canonical path, with or without `text_model.`, or an error

transformers 5.6 dropped `text_model.` from module names while files keep it (formats.md 3.3); a
path that matches nothing must never be a silent no-op. Left to others: what a family is asked and
how it answers (families/diffusion.py), sampling (sample.py), where folders come from.
"""

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from PIL import Image
from torch import Tensor, nn

from ..core.errors import InputError, SpecError
from ..core.fingerprint import base_fingerprint, is_base_file
from ..core.spec import FederationSpec
from .families.conditioning import Conditioning
from .families.diffusion import Diffusion
from .families.framing import Framing
from .families.parts import Parts
from .families.stable_diffusion import StableDiffusion
from .families.stable_diffusion_xl import StableDiffusionXL
from .families.text_tower import TextTower
from .placement import ON_CPU, Placement
from .plain import Target

_ENCODE_BATCH = 16
FAMILIES = {
    frozenset({"unet", "text_encoder"}): StableDiffusion.load,
    frozenset({"unet", "text_encoder", "text_encoder_2"}): StableDiffusionXL.load,
}
"""How a model is loaded, by the networks that its folder names beside the VAE."""
_ASIDE = frozenset({"vae", "safety_checker", "image_encoder"})  # networks that are no family's mark


@dataclass(frozen=True, slots=True)
class Base:
    """One pipeline, frozen. ``sampler`` is the scheduler that the folder names."""

    folder: Path
    family: Diffusion
    vae: AutoencoderKL
    sampler: SchedulerMixin

    @staticmethod
    def load(
        folder: Path, *, spec: FederationSpec | None = None, placement: Placement = ON_CPU
    ) -> "Base":
        """Return the base in ``folder``, checked against ``spec`` first if one is given.

        Raises InputError: the folder is no pipeline, or not the base that the spec names. Raises
        SpecError: no family here is like it.
        """
        quiet()
        if placement.device.type == "cuda":
            # What cuBLAS asks for before it is deterministic; read once, at its first product.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        parts = Parts.of(folder, dtype=placement.dtype)
        load = _loader(parts)
        if spec is not None:
            check_base(folder, spec)
        vae: AutoencoderKL = parts.module("vae", AutoencoderKL, dtype=torch.float32)
        family = load(parts)
        _check_channels(family.latent_shape[0], int(vae.config["latent_channels"]))
        networks: list[nn.Module] = [*family.components.values(), vae]
        for network in networks:
            network.to(placement.device)
        return Base(folder, family, vae, parts.sampler())

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.family.denoiser.parameters()).device

    @property
    def num_bytes(self) -> int:
        """Memory that the networks take."""
        networks: list[nn.Module] = [*self.family.components.values(), self.vae]
        held = (p for network in networks for p in network.parameters())
        return sum(p.numel() * p.element_size() for p in held)

    def autocast(
        self, dtype: torch.dtype | None = None
    ) -> contextlib.AbstractContextManager[object]:
        """Let the networks multiply in ``dtype`` inside the block; None: in what they are held in.

        float32 changes nothing, so inside another block that one's type stays.
        """
        wanted: torch.dtype = dtype or next(self.family.denoiser.parameters()).dtype
        if wanted == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=wanted)

    @property
    def towers(self) -> Mapping[str, TextTower]:
        """The text encoders by component name, sorted."""
        return self.family.towers

    @property
    def image_size(self) -> int:
        """Side of the square images that the model was trained on, in pixels."""
        return self.latent_shape[-1] * self.pixels_per_latent

    @property
    def pixels_per_latent(self) -> int:
        """Side of the patch of pixels that becomes one latent position."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def image_step(self) -> int:
        """What the sides of an image must be multiples of, in pixels, for every level to fit."""
        return self.pixels_per_latent * self.family.latent_step

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image's latent."""
        return self.family.latent_shape

    @property
    def num_timesteps(self) -> int:
        """Length of the noise schedule; timesteps are 0 .. this - 1."""
        return self.family.noise.num_timesteps

    def layer(self, path: str) -> Target:
        """Return the linear layer or convolution at the canonical ``path``, for example
        ``text_encoder.text_model.encoder.layers.0.self_attn.q_proj``.

        Raises SpecError: this model has no such layer.
        """  # noqa: D205  # a path does not break
        component, _, inside = path.partition(".")
        root = self.family.components.get(component)
        if root is not None:
            bare = inside.removeprefix("text_model.")
            for name in (inside, bare, f"text_model.{bare}"):
                try:
                    module = root.get_submodule(name)
                except AttributeError:
                    continue
                if isinstance(module, Target):
                    return module
        raise SpecError(
            f"the base has no layer {path}",
            why="a layer that is not found would be left out without a word",
            fix="use the base model that the federation's spec names",
            code="layer-not-found",
        )

    def latents(self, images: Sequence[Image.Image]) -> Tensor:
        """Return the scaled latents of RGB ``images``: the mode of the VAE's answer, no draw.

        They lie in CPU memory.
        """
        shift = self.vae.config.get("shift_factor") or 0.0
        done = []
        with torch.no_grad():
            for start in range(0, len(images), _ENCODE_BATCH):
                pixels = torch.stack([_pixels(i) for i in images[start : start + _ENCODE_BATCH]])
                told = self.vae.encode(pixels.to(self.device), return_dict=False)[0]
                done.append(told.mode().cpu())
        return (torch.cat(done) - shift) * self.vae.config["scaling_factor"]

    @torch.no_grad()
    def images(self, latents: Tensor) -> list[Image.Image]:
        """Return the pictures of scaled ``latents``, decoded in float32."""
        shift = self.vae.config.get("shift_factor") or 0.0
        clean = latents.to(self.device, torch.float32) / self.vae.config["scaling_factor"] + shift
        pixels = self.vae.decode(clean, return_dict=False)[0].cpu()
        images: Any = VaeImageProcessor().postprocess(pixels, output_type="pil")
        return images

    def condition(
        self, ids: Mapping[str, Tensor], framings: Sequence[Framing] | None = None
    ) -> Conditioning:
        """Return the conditions of n prompts: token ids (n, length) of each tower.

        ``framings``: how each image was cut; without them every image is whole and of this base's
        size, as a pipeline asks by default.
        """
        with self.autocast():
            plain = self.family.condition({name: one.to(self.device) for name, one in ids.items()})
        whole = [Framing.whole(self.image_size)] * len(plain)
        return self.family.framed(plain, whole if framings is None else framings)

    def framing(self, shape: Sequence[int]) -> Framing:
        """Return the framing of an uncut image whose latent has ``shape`` (..., height, width)."""
        height, width = (side * self.pixels_per_latent for side in shape[-2:])
        return Framing((height, width), (0, 0), (height, width))

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the latents as they are at ``timesteps``."""
        return self.family.noise.add(latents, noise, timesteps)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what the network should answer there."""
        return self.family.noise.target(latents, noise, timesteps)

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the network's answer to noisy latents under ``conditioning``, in float32.

        The latents and timesteps may lie in CPU memory; the answer is on the base's device.
        """
        with self.autocast():
            place = self.device
            return self.family.predict(noisy.to(place), timesteps.to(place), conditioning).float()

    def pipeline(self) -> Any:  # noqa: ANN401  # diffusers' own
        """Return diffusers' pipeline of these very parts, silent, with a fresh scheduler."""
        sampler: Any = self.sampler
        pipeline = self.family.pipeline(self.vae, sampler.from_config(sampler.config))
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def quiet() -> None:
    """Keep the libraries' own bars and notes off stderr: a command there draws its own."""
    for logs in (transformers.utils.logging, diffusers.utils.logging):
        logs.set_verbosity_error()
        logs.disable_progress_bar()


def fingerprint_of(folder: Path) -> str:
    """Return the fingerprint of the base in ``folder``, as hex; reads each counted file once.

    Raises InputError: the folder is no pipeline.
    """
    Parts.of(folder)
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


def _loader(parts: Parts) -> Any:  # noqa: ANN401  # a family's `load`
    """Return how a model with these parts is loaded.

    Raises SpecError: no family here has exactly these networks.
    """
    networks = {
        name
        for name in parts.index
        if name.partition("_")[0] not in ("tokenizer", "scheduler", "feature")
    }
    load = FAMILIES.get(frozenset(networks - _ASIDE))
    if load is None:
        kind = parts.settings.get("_class_name", "a pipeline without a name")
        raise SpecError(
            f"{parts.folder} is {str(kind)[:80]}, made of {', '.join(sorted(networks))[:200]}",
            why="training knows Stable Diffusion 1, 2 and XL so far",
            fix="use a base model of one of these families",
            code="unknown-family",
        )
    return load


def _check_channels(taken: int, made: int) -> None:
    if taken != made:
        raise SpecError(
            f"the network takes {taken} channels, the VAE makes {made}",
            why="the others would be a mask or a picture, as in models for inpainting",
            fix="use a text-to-image base model",
            code="unknown-family",
        )


def _pixels(image: Image.Image) -> Tensor:
    data = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    square = data.view(image.height, image.width, 3).permute(2, 0, 1)
    return square.float().div(127.5).sub(1.0)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
