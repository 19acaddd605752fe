# pyright: basic
# diffusers publishes partial types.
"""Pictures: a labelled grid from a pulled release or a base, and models compared on equal noise.

`sample` is the consumer's view: the folder's own pipeline (opened.py). `compare` is the report's:
base, single and merged in one process, each image of a column from the same noise.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from ..core.errors import InputError
from .base import Base, quiet
from .drawing import Drawing
from .draws import generator
from .grid import grid
from .opened import opened
from .placement import Machine, Placement
from .tokens import LearnedTokens
from .variant import Variant


def sample(
    folder: Path,
    prompts: Sequence[str],
    drawing: Drawing | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3),
    device: str = "auto",
) -> Image.Image:
    """Return a grid: a row for each prompt, an image each of ``seeds``, labelled with both.

    ``folder`` is a release (its `checkpoint/` is used) or a pipeline's folder. Raises InputError:
    no pipeline there, no prompt, no such device, or a size or region that does not fit.
    """
    drawing = drawing or Drawing()
    placement = Placement.of(device, "fp32", Machine.here())
    if not prompts or not 1 <= len(seeds) <= 64:  # noqa: PLR2004  # a grid that one can look at
        raise InputError(
            f"{len(prompts)} prompts and {len(seeds)} images a prompt",
            why="a grid needs a prompt, and 1 to 64 images of each",
            fix="give --prompt TEXT at least once",
            code="no-prompt",
        )
    told = "".join(f"\n{region.prompt}" for region in drawing.regions)
    rows = []
    with opened(folder, placement) as model:
        for prompt in prompts:
            images = model.draw(prompt, drawing, seeds)
            labels = [f"{prompt}{told}\nseed {seed}" for seed in seeds]
            rows.append(list(zip(images, labels, strict=True)))
    return grid(rows)


def compare(  # what a report chooses
    base: Base,
    variants: Sequence[Variant],
    prompts: Sequence[str],
    *,
    count: int = 1,
    seed: int = 0,
    steps: int = 25,
    guidance: float = 4.0,
) -> list[list[Image.Image]]:
    """Return ``count`` images of each variant for its prompt; image k has the same noise in all."""
    rows = []
    for variant, prompt in zip(variants, prompts, strict=True):
        with variant.applied(base) as tokens:
            rows += draw(
                base, tokens, [prompt], count=count, seed=seed, steps=steps, guidance=guidance
            )
    return rows


@torch.no_grad()
def draw(  # as compare
    base: Base,
    tokens: LearnedTokens,
    prompts: Sequence[str],
    *,
    count: int,
    seed: int,
    steps: int,
    guidance: float = 4.0,
) -> list[list[Image.Image]]:
    """Return ``count`` images a prompt of the base as it is now, with whatever is attached to it.

    Image k starts from the same noise in every row and at every call with this seed.
    """
    quiet()
    pipeline = base.pipeline()
    noise = torch.randn(count, *base.latent_shape, generator=generator(seed, "compare"))
    rows = []
    for prompt in prompts:
        positive, negative = tokens.encode([prompt] * count), tokens.encode([""] * count)
        with base.autocast():
            latents = pipeline(
                **base.family.guided(positive, negative),
                latents=noise.to(base.device, copy=True),
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=generator(seed, "draw"),  # of samplers that add noise on the way
                output_type="latent",  # the VAE is asked outside the block, in float32
            ).images
        rows.append(base.images(latents))
    return rows
