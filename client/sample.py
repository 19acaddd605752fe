# pyright: basic
# diffusers publishes partial types.
"""Pictures: a labelled grid from a pulled release or a base, and models compared on equal noise.

`sample` is the consumer's view: the folder's own pipeline, opened by diffusers and nothing of ours,
so that what it shows is what anybody gets; only layer-wise tokens, which diffusers does not know,
come to that pipeline as our text features, and regions as a processor (regions.py). `compare` is
the report's: base, single and merged in one process, each image of a column from the same noise.
Both are deterministic on the CPU for a seed. Cost: two forward passes a step and image (guidance),
on all threads of torch.
"""

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from ..core.errors import InputError
from ..core.regions import Region
from .base import Base, quiet
from .draws import generator
from .placement import Machine, Placement
from .regions import checked_size, regional, side_by_side
from .tokens import LearnedTokens
from .variant import Variant, has_layerwise

_CELL = 160  # pixels, the least width of an image in a grid
_LINE = 14  # pixels, one line of a label

Encode = Callable[[str, str, int], dict[str, Any]]
"""From a prompt, a negative one and a number of images to embeddings, a pipeline's arguments."""
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


@dataclass(frozen=True, slots=True)
class _Opened:
    """A folder's pipeline, how prompts are put to it, and how many texts of its own one has."""

    pipeline: Any
    encode: Encode
    readers: int = 1

    def asked(
        self, prompt: str, regions: Sequence[Region], negative: str, count: int
    ) -> dict[str, Any]:
        """Return the pipeline's arguments for ``count`` images; pooled vectors are ``prompt``'s."""
        whole = self.encode(prompt, negative, count)
        for side in ("prompt_embeds", "negative_prompt_embeds"):
            parts = [self.encode(region.prompt, negative, count)[side] for region in regions]
            whole[side] = side_by_side([whole[side], *parts], self.readers)
        return whole


def sample(  # noqa: PLR0913  # what a person chooses
    folder: Path,
    prompts: Sequence[str],
    *,
    regions: Sequence[Region] = (),
    negative: str = "",
    size: tuple[int, int] | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3),
    steps: int = 25,
    guidance: float = 4.0,
    device: str = "auto",
) -> Image.Image:
    """Return a grid: a row for each prompt, an image each of ``seeds``, labelled with both.

    ``folder`` is a release (its `checkpoint/` is used) or a pipeline's folder. ``regions`` read
    their own prompts, the rest of the picture the row's. ``size`` is (width, height) in pixels, by
    default the model's. A seed's noise is drawn on the CPU whatever ``device`` it runs on. Raises
    InputError: no pipeline there, no prompt, no such device, or a size or region that does not fit.
    """
    placement = Placement.of(device, "fp32", Machine.here())
    if not prompts or not 1 <= len(seeds) <= 64:  # noqa: PLR2004  # a grid that one can look at
        raise InputError(
            f"{len(prompts)} prompts and {len(seeds)} images a prompt",
            why="a grid needs a prompt, and 1 to 64 images of each",
            fix="give --prompt TEXT at least once",
            code="no-prompt",
        )
    told = "".join(f"\n{region.prompt}" for region in regions)
    rows = []
    with _opened(folder, placement) as opened:
        pipeline = opened.pipeline
        width, height = checked_size(pipeline, size)
        patch = pipeline.vae_scale_factor
        with regional(pipeline.unet, regions, (height // patch, width // patch)):
            for prompt in prompts:
                images = pipeline(
                    **opened.asked(prompt, regions, negative, len(seeds)),
                    width=width,
                    height=height,
                    num_inference_steps=steps,
                    guidance_scale=guidance,
                    generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                ).images
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
def _opened(folder: Path, placement: Placement) -> Generator[_Opened]:
    """Give the folder's pipeline, and how a prompt is put to it."""
    inside = folder / "checkpoint"
    if not has_layerwise(folder):
        pipeline = _open(inside if inside.is_dir() else folder).to(placement.device)
        yield _Opened(pipeline, _by_pipeline(pipeline))
        return
    base = Base.load(inside, placement=placement)

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

    with Variant.of_layerwise(folder, base).applied(base) as tokens:
        assert tokens.layered is not None, "a layer-wise release"  # noqa: S101  # our own bug
        yield _Opened(base.pipeline(), encode, tokens.layered.readers)


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
