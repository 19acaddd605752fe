"""Every name in our LoRA files finds its layer in ComfyUI, A1111, Forge and kohya's scripts."""

import pytest

from orthofed.core.lorafile import lora_entries
from orthofed.core.published import PublishedModel, published_layers
from orthofed.core.spec import BaseModel, Encoder, FederationSpec, plan_spec

from .loader_rules import FORGE_MOST, MODELS, RULES, attentions, unet, unmatched

WIDTHS = {"sd15": (768,), "sd21": (1024,), "sdxl": (768, 1280)}
FAMILY = {"sd15": "sd1", "sd21": "other", "sdxl": "sdxl"}
COUNTS = {"sd15": (128, 48), "sd21": (128, 92), "sdxl": (560, 48 + 128)}
ALL: tuple[PublishedModel, ...] = ("sd15", "sd21", "sdxl")


def spec(model: PublishedModel) -> FederationSpec:
    """Return a federation over every attention projection of a published base."""
    names = ("text_encoder", "text_encoder_2")
    return plan_spec(
        name="toy-fed",
        base=BaseModel(FAMILY[model], "base", "main", "0" * 64, "MIT"),
        layers=published_layers(model),
        encoders=[Encoder(n, w) for n, w in zip(names, WIDTHS[model], strict=False)],
        seed=bytes(32),
        rank=8,
    )


def keys(model: PublishedModel) -> list[str]:
    return [name for name, _ in lora_entries(spec(model), 8)]


@pytest.mark.parametrize("program", RULES)
@pytest.mark.parametrize("model", ALL)
def test_every_key_of_a_stacked_file_finds_its_layer(program: str, model: PublishedModel) -> None:
    """128 of 128 projections of SD 1.5 and 2.1, 560 of SDXL, and all of the text encoders'."""
    ours = keys(model)
    num_unet, num_text = COUNTS[model]

    assert unmatched(program, MODELS[model], ours) == []
    assert len([key for key in ours if key.startswith("lora_unet_")]) == 3 * num_unet
    assert len([key for key in ours if key.startswith("lora_te")]) == 3 * num_text


@pytest.mark.parametrize("model", ALL)
def test_no_layer_of_the_model_is_left_without_a_key(model: PublishedModel) -> None:
    """The walk over the original layout and our table name the same attentions, one to one."""
    there = {f"lora_unet_{name}" for name in unet(MODELS[model], original=model == "sdxl")}

    ours = {key.partition(".")[0] for key in keys(model) if key.startswith("lora_unet_")}

    assert ours == there


def test_the_walk_meets_the_places_that_are_published() -> None:
    """Known by heart: SD 1.5's first attention, its last, and SDXL's first."""
    sd15 = {place: ldm for place, ldm, _ in attentions(MODELS["sd15"])}
    sdxl = {place: ldm for place, ldm, _ in attentions(MODELS["sdxl"])}

    assert sd15["down_blocks_0_attentions_0"] == "input_blocks_1_1"
    assert sd15["up_blocks_3_attentions_2"] == "output_blocks_11_1"
    assert sdxl["down_blocks_1_attentions_0"] == "input_blocks_4_1"
    assert sdxl["up_blocks_0_attentions_0"] == "output_blocks_0_1"


@pytest.mark.parametrize("program", RULES)
@pytest.mark.parametrize(
    ("model", "old", "new"),
    [
        ("sd15", "_text_model_", "_"),  # what transformers 5.6 calls its modules
        ("sd15", "down_blocks_0_attentions_0", "down_blocks_0_attentions_7"),
        ("sdxl", "lora_te2_", "lora_te3_"),
        ("sd15", ".lora_up.weight", ".lora_B.weight"),
    ],
)
def test_a_wrong_name_is_left_over(program: str, model: PublishedModel, old: str, new: str) -> None:
    """The rules can say no: each of these keys finds nothing."""
    right = keys(model)
    wrong = [key.replace(old, new) for key in right]
    changed = sorted(set(wrong) - set(right))

    assert changed
    assert sorted(unmatched(program, MODELS[model], wrong)) == changed


def test_only_those_who_should_take_the_original_names_for_sd1() -> None:
    """ComfyUI takes both spellings; kohya's merge script passes the wrong one over."""
    to_original = {place: ldm for place, ldm, _ in attentions(MODELS["sd15"])}
    renamed = []
    for key in keys("sd15"):
        place = next((p for p in to_original if f"_{p}_" in key), None)
        renamed.append(key if place is None else key.replace(place, to_original[place]))

    assert unmatched("comfyui", MODELS["sd15"], renamed) == []
    assert len(unmatched("kohya", MODELS["sd15"], renamed)) == 3 * 128


@pytest.mark.parametrize("model", ALL)
def test_bundled_vectors_are_for_a1111_alone_and_forge_may_drop_them(model: PublishedModel) -> None:
    """Why the canonical file has none: 13 triggers of SD 1, 7 of SDXL (formats.md 5.3)."""
    parts = ("clip_g", "clip_l") if model == "sdxl" else ("string_to_param.*",)
    num = 7 if model == "sdxl" else 13
    bundle = [f"bundle_emb.anna-k{k}.{part}" for k in range(num) for part in parts]

    assert unmatched("a1111", MODELS[model], [*keys(model), *bundle]) == []
    assert unmatched("comfyui", MODELS[model], [*keys(model), *bundle]) == bundle
    assert len(unmatched("forge", MODELS[model], bundle)) > FORGE_MOST
