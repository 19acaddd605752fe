"""Where a UNet reads the prompt, by name alone, in the order in which it runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from orthofed.client.base import Base
from orthofed.client.families.conditioning import Conditioning
from orthofed.client.families.framing import Framing
from orthofed.coordinator.base import BaseFolder
from orthofed.core.errors import SpecError
from orthofed.core.token_layers import run_order, token_layers

from .tiny_base import tiny_base
from .tiny_families import tiny_sd2, tiny_sdxl

BLOCK = "attentions.0.transformer_blocks"


def test_places_are_ordered_by_number_not_by_letter() -> None:
    """Block 10 comes after block 9, the middle before the way up, the pooled vector first."""
    names = [
        f"up_blocks.0.{BLOCK}.0.attn2.to_k.weight",
        f"mid_block.{BLOCK}.10.attn2.to_k.weight",
        f"mid_block.{BLOCK}.9.attn2.to_k.weight",
        f"mid_block.{BLOCK}.9.attn1.to_k.weight",
        f"mid_block.{BLOCK}.9.attn2.to_v.weight",
        f"down_blocks.2.{BLOCK}.0.attn2.to_k.weight",
        "add_embedding.linear_1.weight",
        "time_embedding.linear_1.weight",
    ]

    found = token_layers(names)

    assert found == (
        "unet.add_embedding",
        f"unet.down_blocks.2.{BLOCK}.0.attn2",
        f"unet.mid_block.{BLOCK}.9.attn2",
        f"unet.mid_block.{BLOCK}.10.attn2",
        f"unet.up_blocks.0.{BLOCK}.0.attn2",
    )


@pytest.mark.parametrize(("make", "count"), [(tiny_base, 4), (tiny_sd2, 16), (tiny_sdxl, 18)])
def test_the_order_is_the_one_in_which_the_unet_runs(
    make: Callable[[Path], Path], count: int, tmp_path: Path
) -> None:
    """The coordinator's list, from file headers, is what a forward pass comes by."""
    folder = make(tmp_path / "base")
    base, told, ran = Base.load(folder), BaseFolder(folder).token_layers(), list[str]()
    for name, module in base.family.denoiser.named_modules():
        if f"unet.{name}" in told:
            module.register_forward_pre_hook(_note(ran, f"unet.{name}"))

    width = sum(tower.width for tower in base.towers.values())
    pooled = torch.zeros(1, 40) if len(base.towers) > 1 else None
    conditioning = base.family.framed(
        Conditioning(torch.zeros(1, 3, width), pooled), [Framing.whole(16)]
    )
    base.predict(torch.zeros(1, *base.latent_shape), torch.tensor([3]), conditioning)

    assert tuple(ran) == told
    assert len(told) == count


def _note(ran: list[str], path: str) -> Callable[..., None]:
    def note(_module: Any, _args: Any) -> None:
        ran.append(path)

    return note


def test_a_unet_that_reads_no_prompt_or_in_an_unknown_order_is_refused() -> None:
    """Nothing to learn there; and an order that another side could see otherwise."""
    with pytest.raises(SpecError) as none:
        token_layers(["mid_block.attentions.0.to_q.weight"])
    with pytest.raises(SpecError) as strange:
        token_layers(["transformer_blocks.0.attn2.to_k.weight"])

    assert none.value.code == "no-token-layers"
    assert strange.value.code == "bad-token-layer"
    with pytest.raises(SpecError):
        run_order("unet.mid_block.attentions.0.transformer_blocks.0.attn1")
