# pyright: basic
# diffusers publishes partial types.
"""Regions in a picture: each position of a cross-attention reads the prompt of its own area.

    out(p) = sum_r w_r(p) attn2(h(p), text_r)        r = 0: the prompt of the whole picture

One forward pass. The prompts lie side by side in the text that diffusers' pipelines pass on
(n, parts x length, width), and a processor on each `attn2` takes them apart again and asks the
network's own processor, for those positions alone that read a part. Laws: where w_r is 0 nothing
of prompt r is computed, so there the attention's bits are those of any other prompt r; one part
gives the bits of the plain attention. What regions do not part: self-attention, convolutions and
SDXL's pooled vector, which is of the whole picture's prompt. Geometry: core/regions.py.

Cost of an attention: as one, plus overlaps; k and v are made for every prompt.
"""

import contextlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InputError
from ..core.regions import Region, region_weights

_READS = ".attn2.processor"


@dataclass(frozen=True, slots=True)
class RegionReader:
    """A processor of diffusers' Attention: ``parts`` prompts in one text, read by position.

    ``masks``: number of positions -> for each part the positions that read it and their weights.
    """

    inner: Any  # the processor that was there: how the network itself attends
    masks: Mapping[int, Sequence[tuple[Tensor, Tensor]]]

    def __call__(
        self,
        attn: Any,  # noqa: ANN401  # diffusers' own
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        **kwargs: Any,  # noqa: ANN401  # diffusers' own
    ) -> Tensor:
        """Return the attention's answer. Shapes: (n, positions, d), (n, parts x length, width)."""
        masks = self.masks[hidden_states.shape[1]]
        out = torch.zeros_like(hidden_states)
        texts = encoder_hidden_states.chunk(len(masks), dim=1)
        for text, (places, weights) in zip(texts, masks, strict=True):
            if len(places):
                told = self.inner(attn, hidden_states[:, places], text, attention_mask, **kwargs)
                out[:, places] += weights.to(told.dtype) * told
        return out


@contextlib.contextmanager
def regional(unet: Any, regions: Sequence[Region], shape: tuple[int, int]) -> Generator[None]:  # noqa: ANN401  # diffusers' own
    """Let ``unet`` read prompts by region inside the block, for latents (height, width) ``shape``.

    Raises InputError: a region is too small for the coarsest level.
    """
    depth = len(unet.config["block_out_channels"])
    masks = {}
    for level in reversed(range(depth)):  # the coarsest first: its bound is the one to name
        height, width = (side >> level for side in shape)
        masks[height * width] = _masks(regions, height, width, unet.device)
    before = dict(unet.attn_processors)
    unet.set_attn_processor(
        {
            name: RegionReader(own, masks) if name.endswith(_READS) else own
            for name, own in before.items()
        }
    )
    try:
        yield
    finally:
        unet.set_attn_processor(before)


def side_by_side(texts: Sequence[Tensor], readers: int = 1) -> Tensor:
    """Return one text (n, parts x length, width) of each part's (n, length, width).

    ``readers``: of layer-wise tokens, how many cross-attentions have a text of their own; the parts
    of each then lie together, as layered_text.py cuts.
    """
    return torch.cat([text.unflatten(1, (readers, -1)) for text in texts], dim=2).flatten(1, 2)


def checked_size(pipeline: Any, size: tuple[int, int] | None) -> tuple[int, int]:  # noqa: ANN401  # diffusers' own
    """Return ``size`` (width, height) in pixels, by default the model's own.

    Raises InputError: a side is no multiple of what every level of the model needs, or too long.
    """
    unet, patch = pipeline.unet, pipeline.vae_scale_factor
    own = unet.config["sample_size"] * patch
    step = patch * 2 ** (len(unet.config["block_out_channels"]) - 1)
    width, height = size or (own, own)
    most = 4096 // step * step
    if any(side % step or not step <= side <= most for side in (width, height)):
        raise InputError(
            f"the size {width}x{height}; each side is a multiple of {step}, {step} to {most}",
            why="every level of the model halves the picture",
            fix=f"use a multiple of {step}, for example --size {2 * own}x{own}",
            code="size-does-not-fit",
        )
    return width, height


def _masks(
    regions: Sequence[Region], height: int, width: int, device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Return for each part the positions that read it, row by row, and their weights (k, 1)."""
    found = []
    for row in region_weights(regions, height, width).reshape(len(regions) + 1, -1):
        weights = torch.from_numpy(row).float().to(device)
        places = weights.nonzero()[:, 0]
        found.append((places, weights[places, None]))
    return found
