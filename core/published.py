"""The adapted layers of the published base models, from their configs alone: no weights, no file.

``sd15``, ``sd21``, ``sdxl`` are stable-diffusion-v1-5, stable-diffusion-2-1 and
stable-diffusion-xl-base-1.0. What their config.json files say is written below, and the tensor
names and shapes follow as the libraries build them: residual blocks widen where the channels do and
read skip connections on the way up; a transformer has self- and cross-attention and a gated MLP.
Made for planning before anything is downloaded. tests/test_published_shapes.py builds the models of
the same configs without weights and compares.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from .layer import Layer
from .targets import Targets, target_layers

PublishedModel = Literal["sd15", "sd21", "sdxl"]
PUBLISHED: tuple[PublishedModel, ...] = get_args(PublishedModel)

Shape = tuple[str, tuple[int, ...]]
_RESNETS = 2  # `layers_per_block`; one more on the way up


@dataclass(frozen=True, slots=True)
class _Model:
    """``depths``: transformer blocks in each attention of a level, 0 for none.

    ``texts``: component, layers and width of each text encoder.
    """

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    linear_projection: bool
    texts: tuple[tuple[str, int, int], ...]

    @property
    def text_width(self) -> int:
        """Inputs of cross-attention's keys and values: the encoders' features side by side."""
        return sum(width for _, _, width in self.texts)


_SD = ((320, 640, 1280, 1280), (1, 1, 1, 0))
_MODELS: Mapping[PublishedModel, _Model] = {
    "sd15": _Model(*_SD, linear_projection=False, texts=(("text_encoder", 12, 768),)),
    "sd21": _Model(*_SD, linear_projection=True, texts=(("text_encoder", 23, 1024),)),
    "sdxl": _Model(
        (320, 640, 1280),
        (0, 2, 10),
        linear_projection=True,
        texts=(("text_encoder", 12, 768), ("text_encoder_2", 32, 1280)),
    ),
}


def published_layers(model: PublishedModel, targets: Targets = "attention") -> tuple[Layer, ...]:
    """Return the layers of ``model`` that ``targets`` adapts, sorted by path.

    >>> len(published_layers("sd15")), len(published_layers("sdxl"))
    (176, 736)
    """
    said = _MODELS[model]
    found = [*target_layers("unet", dict(_unet(said)), targets)]
    for component, depth, width in said.texts:
        found += target_layers(component, dict(_text(depth, width)), targets)
    return tuple(sorted(found))


def _unet(model: _Model) -> Iterator[Shape]:
    """Give the UNet's weights; the time embedding is four times as wide as the first level."""
    channels, last = model.channels, len(model.channels) - 1
    time = 4 * channels[0]
    before = channels[0]
    for level, width in enumerate(channels):
        place = f"down_blocks.{level}"
        for i in range(_RESNETS):
            yield from _resnet(f"{place}.resnets.{i}", width if i else before, width, time)
            yield from _attention(f"{place}.attentions.{i}", width, model.depths[level], model)
        if level < last:
            yield f"{place}.downsamplers.0.conv.weight", (width, width, 3, 3)
        before = width
    for i in range(2):
        yield from _resnet(f"mid_block.resnets.{i}", before, before, time)
    yield from _attention("mid_block.attentions.0", before, max(model.depths), model)
    skips = (*reversed(channels), channels[0])
    for level, (width, skip) in enumerate(pairwise(skips)):
        place, depth = f"up_blocks.{level}", model.depths[last - level]
        for i in range(_RESNETS + 1):
            read = (width if i else before) + (width if i < _RESNETS else skip)
            yield from _resnet(f"{place}.resnets.{i}", read, width, time)
            yield from _attention(f"{place}.attentions.{i}", width, depth, model)
        if level < last:
            yield f"{place}.upsamplers.0.conv.weight", (width, width, 3, 3)
        before = width


def _resnet(place: str, read: int, width: int, time: int) -> Iterator[Shape]:
    yield f"{place}.conv1.weight", (width, read, 3, 3)
    yield f"{place}.time_emb_proj.weight", (width, time)
    yield f"{place}.conv2.weight", (width, width, 3, 3)
    if read != width:
        yield f"{place}.conv_shortcut.weight", (width, read, 1, 1)


def _attention(place: str, width: int, depth: int, model: _Model) -> Iterator[Shape]:
    """Give one spatial transformer; nothing at depth 0."""
    if not depth:
        return
    pixel = () if model.linear_projection else (1, 1)
    for projection in ("proj_in", "proj_out"):
        yield f"{place}.{projection}.weight", (width, width, *pixel)
    for d in range(depth):
        block = f"{place}.transformer_blocks.{d}"
        for attention, source in (("attn1", width), ("attn2", model.text_width)):
            for name, read in (("q", width), ("k", source), ("v", source), ("out.0", width)):
                yield f"{block}.{attention}.to_{name}.weight", (width, read)
        yield f"{block}.ff.net.0.proj.weight", (8 * width, width)
        yield f"{block}.ff.net.2.weight", (width, 4 * width)


def _text(depth: int, width: int) -> Iterator[Shape]:
    for i in range(depth):
        block = f"text_model.encoder.layers.{i}"
        for projection in ("q", "k", "v", "out"):
            yield f"{block}.self_attn.{projection}_proj.weight", (width, width)
        yield f"{block}.mlp.fc1.weight", (4 * width, width)
        yield f"{block}.mlp.fc2.weight", (width, 4 * width)
