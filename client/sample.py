# pyright: basic
# diffusers publishes partial types.
"""Pictures: a labelled grid from a pulled release or a base, and models compared on equal noise.

`sample` is the consumer's view: the folder's own pipeline, opened by diffusers and nothing of ours,
so that what it shows is what anybody gets; only layer-wise tokens, which diffusers does not know,
come to that pipeline as our text features. `compare` is the report's: base, single and merged in
one process, each image of a column from the same noise. Both are deterministic on the CPU for a
seed. Cost: two forward passes a step and image (guidance), on all threads of torch.
"""

import contextlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from ..core.errors import InputError
from .base import Base, quiet
from .draws import generator
from .placement import Machine, Placement
from .tokens import LearnedTokens
from .variant import Variant, has_layerwise

_CELL = 160  # pixels, the least width of an image in a grid
_LINE = 14  # pixels, one line of a label

Asked = Callable[[str, int], dict[str, Any]]
"""From a prompt and a number of images to the arguments of a pipeline."""
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def sample(  # what a person chooses
    folder: Path,
    prompts: Sequence[str],
    *,
    count: int = 4,
    seed: int = 0,
    steps: int = 25,
    guidance: float = 4.0,
    device: str = "auto",
) -> Image.Image:
    """Return a grid: a row for each prompt, ``count`` images each, labelled with prompt and seed.

    ``folder`` is a release (its `checkpoint/` is used) or a pipeline's folder. Image k of every
    row starts from seed + k, drawn on the CPU whatever ``device`` it runs on. Raises InputError: no
    pipeline there, no prompt, or no such device.
    """
    placement = Placement.of(device, "fp32", Machine.here())
    if not prompts or not 1 <= count <= 64:  # noqa: PLR2004  # a grid that one can look at
        raise InputError(
            f"{len(prompts)} prompts and {count} images a prompt",
            why="a grid needs a prompt, and 1 to 64 images of each",
            fix="give --prompt TEXT at least once",
            code="no-prompt",
        )
    rows = []
    with _opened(folder, placement) as (pipeline, asked):
        for prompt in prompts:
            noise = [torch.Generator().manual_seed(seed + k) for k in range(count)]
            images = pipeline(
                **asked(prompt, count),
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=noise,
            ).images
            rows.append([(image, f"{prompt}\nseed {seed + k}") for k, image in enumerate(images)])
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


def grid(rows: Sequence[Sequence[tuple[Image.Image, str]]]) -> Image.Image:
    """Return one image of all ``rows`` of (image, label), each label under its image."""
    font = ImageFont.load_default()
    cells = [[_cell(image, label, font) for image, label in row] for row in rows]
    width = max(cell.width for row in cells for cell in row)
    heights = [max(cell.height for cell in row) for row in cells]
    columns = max(len(row) for row in cells)
    whole = Image.new("RGB", (width * columns, sum(heights)), "white")
    for number, row in enumerate(cells):
        for column, cell in enumerate(row):
            whole.paste(cell, (column * width, sum(heights[:number])))
    return whole


def _cell(image: Image.Image, label: str, font: Font) -> Image.Image:
    """Return ``image``, enlarged if it is tiny, with its label in lines below."""
    times = max(1, _CELL // image.width)
    size = (image.width * times, image.height * times)
    enlarged = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    lines = [line for text in label.split("\n") for line in _wrapped(text, size[0], font)]
    cell = Image.new("RGB", (size[0] + 4, size[1] + _LINE * len(lines) + 6), "white")
    cell.paste(enlarged, (2, 2))
    draw = ImageDraw.Draw(cell)
    for number, line in enumerate(lines):
        draw.text((4, size[1] + 2 + _LINE * number), line, fill="black", font=font)
    return cell


def _wrapped(text: str, width: int, font: Font) -> list[str]:
    """Return ``text`` in lines of at most ``width`` pixels, broken at spaces."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width - 4 or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


@contextlib.contextmanager
def _opened(folder: Path, placement: Placement) -> Generator[tuple[Any, Asked]]:
    """Give the folder's pipeline, and how a prompt is put to it."""
    inside = folder / "checkpoint"
    if not has_layerwise(folder):
        pipeline = _open(inside if inside.is_dir() else folder).to(placement.device)
        yield pipeline, lambda prompt, count: {"prompt": [prompt] * count}
        return
    base = Base.load(inside, placement=placement)

    @torch.no_grad()
    def asked(prompt: str, count: int) -> dict[str, Any]:
        sides = (tokens.encode([text] * count) for text in (tokens.spelt(prompt), ""))
        return base.family.guided(*sides)

    with Variant.of_layerwise(folder, base).applied(base) as tokens:
        yield base.pipeline(), asked


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
