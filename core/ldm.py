"""The original spelling of a UNet's layers: kohya's SDXL files and whole checkpoints (formats 3.2).

    down_blocks.b.{resnets,attentions}.i   input_blocks.{1 + 3b + i}.{0,1}
    down_blocks.b.downsamplers.0.conv      input_blocks.{3 + 3b}.0.op
    mid_block.resnets.{0,1}, attentions.0  middle_block.{0,2}, 1
    up_blocks.b.{resnets,attentions}.i     output_blocks.{3b + i}.{0,1}
    up_blocks.b.upsamplers.0.conv          output_blocks.{3b + 2}.2.conv

3 is ``layers_per_block`` + 1, ``each``. An upsampler stands behind an attention in every SDXL block
that has one; where there is no attention, as in SD 1's first block, it is ``1.conv``, which the
reader of a whole file sees there (core/single_file.py). Inside a residual block the parts are
numbered places of a sequence; transformers are spelt alike. Source: the published layout.
"""

import re

from .errors import SpecError

_INSIDE = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.([01])\.(.+)")
_SAMPLER = re.compile(r"(?:down_blocks\.(\d+)\.downsamplers|up_blocks\.(\d+)\.upsamplers)\.0\.conv")
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def ldm_path(module: str, *, each: int = 3) -> str:
    """Return the original spelling of the layer at ``module``, a path inside the UNet.

    >>> ldm_path("up_blocks.0.resnets.1.conv1"), ldm_path("down_blocks.0.downsamplers.0.conv")
    ('output_blocks.1.0.in_layers.2', 'input_blocks.3.0.op')

    Raises SpecError: a layer outside the blocks, or one that has no such name.
    """
    if (match := _INSIDE.fullmatch(module)) is not None:
        side, block, kind, place, rest = match.groups()
        number = each * int(block) + int(place)
        where = f"input_blocks.{1 + number}" if side == "down" else f"output_blocks.{number}"
        return f"{where}.{int(kind == 'attentions')}.{_part(module, kind, rest)}"
    if (match := _MIDDLE.fullmatch(module)) is not None:
        kind, place, rest = match.groups()
        number = 1 if kind == "attentions" else 2 * int(place)
        return f"middle_block.{number}.{_part(module, kind, rest)}"
    if (match := _SAMPLER.fullmatch(module)) is not None:
        down, up = match.groups()
        if down is not None:
            return f"input_blocks.{each * (1 + int(down))}.0.op"
        return f"output_blocks.{each * int(up) + each - 1}.2.conv"
    raise _unknown(module)


def _part(module: str, kind: str, rest: str) -> str:
    """Return the place inside a residual block; a transformer's parts keep their names."""
    if kind == "attentions":
        return rest
    if rest not in _RESNET:
        raise _unknown(module)
    return _RESNET[rest]


def _unknown(module: str) -> SpecError:
    return SpecError(
        f"UNet path {module[:80]!r}",
        why="only layers of residual blocks, transformers and samplers have an original name",
        fix="adapt the layers that `--targets` names",
        code="unknown-component",
    )
