# pyright: basic
# diffusers publishes partial types.
"""A model that draws: a folder's own pipeline, or a base as it is now, and how prompts go to it.

A folder is opened by diffusers and nothing of ours, so that what it shows is what anybody gets;
only layer-wise tokens, which diffusers does not know, come to that pipeline as our text features,
and regions as a processor and a forward pass of their own (regions.py). Deterministic on the CPU
for a seed, whose noise is drawn on the CPU whatever device it runs on. Cost: two passes a step and
image (guidance), on all threads of torch.
"""

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..core.errors import InputError
from ..core.regions import Region
from .base import Base, quiet
from .drawing import Drawing
from .placement import Placement
from .regions import checked_size, regional, side_by_side
from .tokens import LearnedTokens
from .variant import Variant, has_layerwise

Encode = Callable[[str, str, int], dict[str, Any]]
"""From a prompt, a negative one and a number of images to embeddings, a pipeline's arguments."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A pipeline, how prompts are put to it, and how many texts of its own one has."""

    pipeline: Any
    encode: Encode
    readers: int = 1

    @staticmethod
    def of_base(base: Base, tokens: LearnedTokens) -> "Opened":
        """Return ``base`` as it is now, with whatever is attached to it; ``tokens`` knows it."""
        readers = tokens.layered.readers if tokens.layered is not None else 1
        return Opened(base.pipeline(), _by_tokens(base, tokens), readers)

    @torch.no_grad()
    def draw(self, prompt: str, drawing: Drawing, seeds: Sequence[int]) -> list[Image.Image]:
        """Return an image each of ``seeds``.

        Raises InputError: a size or region that does not fit this model.
        """
        pipeline, patch = self.pipeline, self.pipeline.vae_scale_factor
        width, height = checked_size(pipeline, drawing.size)
        areas = regional(
            pipeline.unet,
            drawing.regions,
            (height // patch, width // patch),
            apart=drawing.apart,
            levels=pipeline.scheduler.config["num_train_timesteps"],
            patch=patch,
        )
        with areas:
            return pipeline(
                **self._asked(prompt, drawing.regions, drawing.negative, len(seeds)),
                width=width,
                height=height,
                num_inference_steps=drawing.steps,
                guidance_scale=drawing.guidance,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            ).images

    def _asked(
        self, prompt: str, regions: Sequence[Region], negative: str, count: int
    ) -> dict[str, Any]:
        """Return the pipeline's arguments for ``count`` images; each region's lie beside."""
        every = [
            self.encode(text, negative, count)
            for text in [prompt, *(region.prompt for region in regions)]
        ]
        joined = {}
        for name in every[0]:
            parts = [one[name] for one in every]
            pooled = name.endswith("pooled_prompt_embeds")
            joined[name] = torch.cat(parts, 1) if pooled else side_by_side(parts, self.readers)
        return joined


@contextlib.contextmanager
def opened(folder: Path, placement: Placement) -> Generator[Opened]:
    """Give the pipeline of ``folder``: a release (its `checkpoint/`), or a pipeline's own.

    Raises InputError: no pipeline there, or a damaged one.
    """
    inside = folder / "checkpoint"
    if not has_layerwise(folder):
        pipeline = _open(inside if inside.is_dir() else folder).to(placement.device)
        yield Opened(pipeline, _by_pipeline(pipeline))
        return
    base = Base.load(inside, placement=placement)
    with Variant.of_layerwise(folder, base).applied(base) as tokens:
        yield Opened.of_base(base, tokens)


def _by_tokens(base: Base, tokens: LearnedTokens) -> Encode:
    """Return how prompts become the text features of ``base`` with ``tokens``."""

    @torch.no_grad()
    def encode(prompt: str, negative: str, count: int) -> dict[str, Any]:
        given, against = (
            tokens.encode([tokens.spelt(text)] * count) for text in (prompt, negative)
        )
        found = base.family.guided(given, against)
        if negative:  # only an empty one may be zeros
            for name, value in base.family.guided(against, against).items():
                found |= {} if name.startswith("negative") else {f"negative_{name}": value}
        return found

    return encode


def _by_pipeline(pipeline: Any) -> Encode:  # noqa: ANN401  # diffusers' own
    """Return the pipeline's own way of encoding prompts."""

    @torch.no_grad()
    def encode(prompt: str, negative: str, count: int) -> dict[str, Any]:
        found = pipeline.encode_prompt(
            prompt=[prompt] * count,
            device=pipeline.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            # SDXL may take zeros for none, never for a text.
            negative_prompt=[negative] * count if negative else None,
        )
        names = ("prompt_embeds", "negative_prompt_embeds")  # then SDXL's pooled
        pooled = tuple(f"{side}pooled_prompt_embeds" for side in ("", "negative_"))
        return dict(zip((*names, *pooled), found, strict=False))

    return encode


def _open(pipeline_folder: Path) -> Any:  # noqa: ANN401  # the folder names the pipeline's class
    if not (pipeline_folder / "model_index.json").is_file():
        raise InputError(
            f"{pipeline_folder} holds no pipeline: no model_index.json there",
            why="pictures are made by the release's own pipeline",
            fix="give the folder that orthofed pull made",
            code="not-a-pipeline",
        )
    quiet()
    from diffusers.pipelines.pipeline_utils import (  # noqa: PLC0415  # slow, and only needed here
        DiffusionPipeline,
    )

    try:
        pipeline = DiffusionPipeline.from_pretrained(
            pipeline_folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"{pipeline_folder} cannot be opened: {str(error).splitlines()[0]}",
            why="a file is missing or damaged",
            fix="run orthofed pull again",
            code="pipeline-damaged",
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
