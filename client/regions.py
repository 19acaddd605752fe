# pyright: basic
# diffusers publishes partial types.
"""Regions in a picture: each is drawn as a picture of its own, and all together where they meet.

    eps(p) = (1 - sum_r s_r(p)) eps_0(p) + sum_r s_r(p) eps_r(p)
    s_r    = w_r        for t > (1 - apart) T
             w_r f_r    later, where f_r falls from 1 inside the region to 0 at its edges

t is the noise level, T the schedule's length. eps_r is the network's answer to the window of region
r alone, under its own prompt; eps_0 that to everything, under the prompt of the whole picture where
no region is, and in a region under the region's: out(p) = sum_r w_r(p) attn2(h(p), text_r). What a
base was trained to draw fills a picture of its own size; on a wider canvas, masked attention or
not, it smears heads over the seams, and one face takes the other's colours. So the windows, which
have that size, settle what is where and keep it, and the passes over everything join them
(docs/sample.md has the figures). With apart = 0 there are no windows.

The prompts lie side by side in the text that diffusers' pipelines pass on (n, parts x length,
width), and a processor on each `attn2` takes them apart again and asks the network's own
processor, for those positions alone that read a part; in a window all positions read its region's.
SDXL's pooled vectors lie side by side as well: a window gets its region's, and its own size.
Laws: where w_r is 0 nothing of prompt r is computed, so there the attention's bits are those of any
other prompt r; one part gives the bits of the plain attention. What regions do not part: in the
passes over everything self-attention and convolutions. Geometry: core/regions.py.

Cost of a window's pass: its area, in every step. Of a pass over everything: one, plus overlaps in
attention; k and v are made for every prompt.
"""

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError
from ..core.regions import APART, Region, inside, region_weights, window

_READS = ".attn2.processor"
_FADE: Final = 4
"""Later, regions fade into one another over this part of the width of the model's own pictures."""
_Masks = Mapping[int, Sequence[tuple[Tensor, Tensor]]]
"""Number of positions -> for each part the positions that read it, and their weights (k, 1)."""


@dataclass(slots=True)
class _Area:
    """What the network answers for at the moment: everything, or one window."""

    masks: _Masks


@dataclass(frozen=True, slots=True)
class RegionReader:
    """A processor of diffusers' Attention: prompts side by side in one text, read by position."""

    inner: Any  # the processor that was there: how the network itself attends
    area: _Area

    def __call__(
        self,
        attn: Any,  # noqa: ANN401  # diffusers' own
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        **kwargs: Any,  # noqa: ANN401  # diffusers' own
    ) -> Tensor:
        """Return the attention's answer. Shapes: (n, positions, d), (n, parts x length, width)."""
        masks = self.area.masks[hidden_states.shape[1]]
        out = torch.zeros_like(hidden_states)
        texts = encoder_hidden_states.chunk(len(masks), dim=1)
        for text, (places, weights) in zip(texts, masks, strict=True):
            if len(places):
                told = self.inner(attn, hidden_states[:, places], text, attention_mask, **kwargs)
                out[:, places] += weights.to(told.dtype) * told
        return out


@dataclass(frozen=True, slots=True)
class _Window:
    """One region's part of the latent, the masks of its own passes, and its shares there."""

    rows: slice
    columns: slice
    masks: _Masks
    shares: tuple[Tensor, Tensor]  # s (height, width) of the window: while apart, and later


@dataclass(frozen=True, slots=True)
class _Regional:
    """The network's forward pass with regions; diffusers' pipelines call it as the network's."""

    forward: Callable[..., Any]
    area: _Area
    whole: _Masks
    rests: tuple[Tensor, Tensor]  # (height, width): what all windows leave, while apart, and later
    windows: Sequence[_Window]
    parts: int
    until: float  # the noise level down to which windows answer alone
    patch: int  # pixels of a position

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        added_cond_kwargs: Mapping[str, Tensor] | None = None,
        **kwargs: Any,  # noqa: ANN401  # diffusers' own
    ) -> tuple[Tensor]:
        """Return what the network says of ``sample`` (n, channels, height, width)."""

        def asked(part: int, of: Tensor, masks: _Masks) -> Tensor:
            self.area.masks = masks
            added = self._added(added_cond_kwargs, part, of.shape[-2:])
            kwargs["return_dict"] = False
            return self.forward(
                of, timestep, encoder_hidden_states, added_cond_kwargs=added, **kwargs
            )[0]

        phase = int(float(timestep) <= self.until)
        out, rest = torch.zeros_like(sample), self.rests[phase]
        if rest.any():
            out += rest.to(out.dtype) * asked(0, sample, self.whole)
        for part, one in enumerate(self.windows, start=1):
            there = (..., one.rows, one.columns)
            told = asked(part, sample[there].contiguous(), one.masks)
            out[there] += one.shares[phase].to(out.dtype) * told
        return (out,)

    def _added(
        self, given: Mapping[str, Tensor] | None, part: int, shape: Sequence[int]
    ) -> Mapping[str, Tensor] | None:
        """Return SDXL's conditions of one part: its pooled vector; in a window, the window's size.

        They are as of a picture of that size that nobody cut.
        """
        if given is None:
            return None
        pooled = given["text_embeds"].chunk(self.parts, dim=1)[part]
        sizes = given["time_ids"]
        if part:
            height, width = (side * self.patch for side in shape)
            sizes = sizes.new_tensor([height, width, 0, 0, height, width]).expand_as(sizes)
        return {"text_embeds": pooled, "time_ids": sizes}


@contextlib.contextmanager
def regional(
    unet: Any,  # noqa: ANN401  # diffusers' own
    regions: Sequence[Region],
    shape: tuple[int, int],
    *,
    apart: float = APART,
    levels: int = 1000,
    patch: int = 8,
) -> Generator[None]:
    """Let ``unet`` draw by region inside the block, for latents (height, width) ``shape``.

    ``apart``: the share of the noise ``levels``, from the noisiest down, where each region is drawn
    on its own up to its edges; later only further inside. At 0 all are drawn together throughout.
    ``patch``: pixels of a position.
    Raises InputError: a region is too small for the coarsest level.
    """
    if not regions:
        yield
        return
    area = _Area(_masks(unet, regions, shape))
    windows, rests = _windows(unet, regions, shape, apart)
    before, forward = dict(unet.attn_processors), unet.forward
    unet.set_attn_processor(
        {
            name: RegionReader(own, area) if name.endswith(_READS) else own
            for name, own in before.items()
        }
    )
    until = (1 - apart) * levels
    parts = len(regions) + 1
    unet.forward = _Regional(forward, area, area.masks, rests, windows, parts, until, patch)
    try:
        yield
    finally:
        del unet.forward  # the class's own is back
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


def _windows(
    unet: Any,  # noqa: ANN401  # diffusers' own
    regions: Sequence[Region],
    shape: tuple[int, int],
    apart: float,
) -> tuple[list[_Window], tuple[Tensor, Tensor]]:
    """Return the windows, and what they leave to passes over everything: while apart, and later."""
    own, device = unet.config["sample_size"], unet.device
    if not apart:
        every = torch.ones(shape, device=device)
        return [], (every, every)
    alone = region_weights(regions, *shape)
    fading = [inside(region, *shape, depth=own / _FADE) for region in regions]
    later = alone[1:] * np.stack(fading)
    step = 2 ** (len(unet.config["block_out_channels"]) - 1)

    def on_device(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).float().to(device)

    windows = []
    for number, region in enumerate(regions, start=1):
        rows, columns = window(region, *shape, own=(own, own), step=step)
        size = rows.stop - rows.start, columns.stop - columns.start
        masks = _all_read(unet, number, len(regions) + 1, size)
        first, then = (of[rows, columns] for of in (alone[number], later[number - 1]))
        windows.append(_Window(rows, columns, masks, (on_device(first), on_device(then))))
    return windows, (on_device(alone[0]), on_device(1 - later.sum(0)))


def _masks(unet: Any, regions: Sequence[Region], shape: tuple[int, int]) -> _Masks:  # noqa: ANN401  # diffusers' own
    """Return who reads what in a pass over everything, for each level of the network."""
    masks = {}
    for height, width in _levels(unet, shape):
        found = []
        for row in region_weights(regions, height, width).reshape(len(regions) + 1, -1):
            weights = torch.from_numpy(row).float().to(unet.device)
            places = weights.nonzero()[:, 0]
            found.append((places, weights[places, None]))
        masks[height * width] = found
    return masks


def _all_read(unet: Any, part: int, parts: int, shape: tuple[int, int]) -> _Masks:  # noqa: ANN401  # diffusers' own
    """Return who reads what in a window: every position ``part``."""
    masks = {}
    for height, width in _levels(unet, shape):
        every = torch.arange(height * width, device=unet.device)
        ones = torch.ones(len(every), 1, device=unet.device)
        masks[len(every)] = [
            (every, ones) if k == part else (every[:0], ones[:0]) for k in range(parts)
        ]
    return masks


def _levels(unet: Any, shape: tuple[int, int]) -> list[tuple[int, int]]:  # noqa: ANN401  # diffusers' own
    """Return each level's size, the coarsest first, since its bound is the one to name."""
    depth = len(unet.config["block_out_channels"])
    return [(shape[0] >> level, shape[1] >> level) for level in reversed(range(depth))]
