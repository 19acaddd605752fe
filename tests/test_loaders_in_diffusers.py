"""What `orthofed doctor` says of diffusers is what diffusers' own conversion of names does."""

from types import SimpleNamespace

import pytest
import torch
from diffusers.loaders.lora_pipeline import (
    StableDiffusionLoraLoaderMixin,
    StableDiffusionXLLoraLoaderMixin,
)
from diffusers.utils.state_dict_utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)

from orthofed.core.loaders import Verdict, verdicts
from orthofed.core.module_spelling import module_spellings

KOHYA = (".lora_up.weight", ".lora_down.weight", ".alpha")
PEFT = (".lora_B.weight", ".lora_A.weight")
OLD = ("_lora.up.weight", "_lora.down.weight")


def spelt(family, spellings):
    """Return name and path of each layer of the blocks in these spellings."""
    return {
        name: named.path
        for name, named in module_spellings(family).items()
        if named.spelling in spellings and named.layer is not None
    }


def converted(family, keys) -> set[str]:
    """Return the layers that diffusers adapts with a file of these keys."""
    given = {key: torch.zeros(1) for key in keys}
    if family == "sdxl":
        config = SimpleNamespace(layers_per_block=2)
        found = StableDiffusionXLLoraLoaderMixin.lora_state_dict(given, unet_config=config)[0]
    else:
        found = StableDiffusionLoraLoaderMixin.lora_state_dict(given)[0]
    layers: set[str] = set()
    for part in ("unet", "text_encoder", "text_encoder_2"):
        own = {k.removeprefix(f"{part}."): t for k, t in found.items() if k.startswith(f"{part}.")}
        if part == "unet":
            own = convert_unet_state_dict_to_peft(own)
        elif own:
            own = convert_state_dict_to_peft(convert_state_dict_to_diffusers(own))
        layers |= {f"{part}.{key.partition('.lora_')[0]}" for key in own}
    return layers


def said(family, keys) -> Verdict:
    return next(each for each in verdicts(family, keys) if each.program == "diffusers")


@pytest.mark.parametrize(
    ("family", "spellings", "ends", "count"),
    [
        ("sd1", ("kohya", "te"), KOHYA, 350),
        ("sd1", ("kohya", "te1"), KOHYA, 350),
        ("sd1", ("diffusers",), PEFT, 350),
        ("sd1", ("processor",), OLD, 128),
        ("sd2", ("kohya", "te"), KOHYA, 416),
        ("sdxl", ("kohya", "te1", "te2"), KOHYA, 1052),
        ("sdxl", ("original", "te1", "te2"), KOHYA, 1052),
        ("sdxl", ("diffusers",), PEFT, 1052),
        ("sdxl", ("processor",), OLD, 560),
    ],
)
def test_diffusers_finds_every_layer_of_a_file_that_is_said_to_load(family, spellings, ends, count):
    """Attentions, feed-forward, projections, residual blocks, samplers, both text encoders."""
    layers = spelt(family, spellings)
    keys = [f"{name}{end}" for name in layers for end in ends]

    assert len(layers) == count
    assert said(family, keys).outcome == "all"
    assert converted(family, keys) == set(layers.values())


def test_original_names_of_sd1_are_no_layers_there():
    """Said to stop: diffusers makes paths of them that its UNet does not have."""
    layers = spelt("sd1", ("original",))
    keys = [f"{name}{end}" for name in layers for end in KOHYA]

    assert said("sd1", keys).outcome == "nothing"
    assert not converted("sd1", keys) & set(layers.values())


@pytest.mark.parametrize(
    "odd",
    ["bundle_emb.anna.x", "lora_te_x.hada_w1_a", "lora_te_x.lora_up.weight", "lora_te_x.diff"],
)
def test_what_is_said_to_be_refused_is_refused(odd):
    """One such key beside a whole file."""
    keys = [f"{name}{end}" for name in spelt("sd1", ("kohya", "te")) for end in KOHYA]

    assert odd in said("sd1", [*keys, odd]).why
    if odd.startswith("lora"):
        with pytest.raises(ValueError, match="not been correctly renamed"):
            converted("sd1", [*keys, odd])
    else:
        assert any("lora" not in key for key in [*keys, odd])  # what load_lora_weights refuses
