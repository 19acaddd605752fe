"""Where a UNet reads the prompt: the places that have vectors of their own in layer-wise tokens.

    cross-attentions    ``*.attn2``
    add_embedding       what takes the pooled vector, where there is one (SDXL); it comes first

Law: their order is the one in which the UNet runs them, by the numbers in their paths, and no
library is asked: down blocks, middle, up blocks. SD 1.x has 16, SDXL 71. Input: the tensor names of
the UNet's file. Source: P+ (arXiv:2303.09522), whose 16 vectors a token the paper learns
(method.md 1.1). Cost: one pass over the names.
"""

import re
from collections.abc import Iterable

from .errors import SpecError

POOLED = "unet.add_embedding"
"""The place that reads the pooled vector, not the text."""
_STAGES = ("add_embedding", "down_blocks", "mid_block", "up_blocks")
_READS = re.compile(r"(add_embedding|.+\.attn2)\.(?:linear_1|to_k)\.weight")
_PATH = re.compile(r"unet\.(?:add_embedding|(?:down_blocks|mid_block|up_blocks)[a-z0-9_.]+\.attn2)")


def token_layers(names: Iterable[str]) -> tuple[str, ...]:
    """Return the paths of the places, in the order in which the UNet runs them.

    >>> block = "attentions.0.transformer_blocks.0.attn2"
    >>> token_layers([f"up_blocks.1.{block}.to_k.weight", f"down_blocks.0.{block}.to_k.weight"])[0]
    'unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2'

    Raises SpecError: the names are of no such UNet.
    """
    found = {f"unet.{match[1]}" for name in names if (match := _READS.fullmatch(name))}
    if not found:
        raise SpecError(
            "a UNet without cross-attention",
            why="layer-wise tokens are vectors for each layer that reads the prompt",
            fix="found the federation without --layerwise-tokens, or on another base model",
            code="no-token-layers",
        )
    return tuple(sorted(found, key=run_order))


def run_order(path: str) -> tuple[int, ...]:
    """Return what the paths of the places are sorted by. Raises SpecError: it is no such place."""
    if _PATH.fullmatch(path) is None:
        raise SpecError(
            f"{path[:80]!r} as a place that reads the prompt",
            why="the order of such places is known in Stable Diffusion's UNets only",
            fix="use a base model of Stable Diffusion 1, 2 or XL",
            code="bad-token-layer",
        )
    stage = path.split(".")[1]
    return (_STAGES.index(stage), *(int(number) for number in re.findall(r"(?<=\.)\d+", path)))
