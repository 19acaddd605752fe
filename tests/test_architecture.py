"""What headers call a base: Stable Diffusion 1, 2 with either answer, XL, or one of its own."""

from dataclasses import replace
from typing import Any

import pytest

from orthofed.core.architecture import Architecture
from orthofed.core.lorafile import FileOrigin, embedding_metadata, lora_metadata
from orthofed.core.published import PublishedModel, published_layers
from orthofed.core.spec import BaseModel, Encoder, FederationSpec, plan_spec
from orthofed.core.targets import Targets

from .test_lorafile import ANNA, HASH

FAMILIES: dict[PublishedModel, tuple[str, tuple[int, ...]]] = {
    "sd15": ("sd1", (768,)),
    "sd21": ("other", (1024,)),
    "sdxl": ("sdxl", (768, 1280)),
}
WORDS: list[tuple[PublishedModel, str, tuple[str, ...]]] = [
    ("sd15", "epsilon", ("stable-diffusion-v1", "sd_v1", "False", "512x512", "SD1")),
    ("sd21", "epsilon", ("stable-diffusion-v2-512", "sd_v2", "True", "512x512", "SD2")),
    ("sd21", "v", ("stable-diffusion-v2-768-v", "sd_v2_v", "True", "768x768", "SD2")),
    (
        "sdxl",
        "epsilon",
        ("stable-diffusion-xl-v1-base", "sdxl_base_v1-0", "False", "1024x1024", "SDXL"),
    ),
]


def spec_of(model: PublishedModel, targets: Targets = "attention") -> FederationSpec:
    family, widths = FAMILIES[model]
    names = ("text_encoder", "text_encoder_2")
    return plan_spec(
        name="toy-fed",
        base=BaseModel(family, model, "main", "0" * 64, "MIT"),
        layers=published_layers(model, targets),
        encoders=[Encoder(name, width) for name, width in zip(names, widths, strict=False)],
        seed=bytes(32),
        rank=4,
    )


def generation(said: dict[str, str]) -> str:
    """AUTOMATIC1111's rule, which hides a LoRA of another generation than the model's."""
    if said["ss_base_model_version"].startswith("sdxl_"):
        return "SDXL"
    return "SD2" if said["ss_v2"] == "True" else "SD1"


@pytest.mark.parametrize("targets", ["unet", "attention", "linear", "all"])
@pytest.mark.parametrize(("model", "prediction", "words"), WORDS)
def test_headers_name_the_base_as_kohya_does(
    model: PublishedModel, prediction: str, words: tuple[str, ...], targets: Targets
) -> None:
    """formats.md 6, whatever is adapted; SD 2 has no family of its own in the spec."""
    origin = FileOrigin(spec_of(model, targets), HASH, prediction)
    said = lora_metadata(origin, [ANNA], rank=4, tensor_hash=HASH)
    vectors = embedding_metadata(origin, ANNA, trigger="anna-k7", tensor_hash=HASH)

    name, version, v2, resolution, shown = words
    assert said["modelspec.architecture"] == f"{name}/lora"
    assert vectors["modelspec.architecture"] == f"{name}/textual-inversion"
    assert (said["ss_base_model_version"], said["ss_v2"]) == (version, v2)
    assert said["modelspec.resolution"] == vectors["modelspec.resolution"] == resolution
    assert said["modelspec.prediction_type"] == prediction
    assert generation(said) == shown


@pytest.mark.parametrize(
    "change",
    [
        {"encoders": (Encoder("text_encoder", 1280),)},
        {"encoders": (Encoder("text_encoder", 1024), Encoder("text_encoder_2", 1024))},
        {"base": BaseModel("sd1", "x", "main", "0" * 64, "MIT")},
    ],
)
def test_another_text_encoder_or_family_is_no_stable_diffusion_2(change: dict[str, Any]) -> None:
    """The widths of the UNet alone do not make one."""
    like = Architecture.of(replace(spec_of("sd21"), **change), "v")

    assert not like.is_sd2
    assert like.version == "sd_v1"


def test_a_model_of_ones_own_is_none_that_programs_know() -> None:
    """The base that ships, and every tiny one of the tests."""
    spec = spec_of("sd15")
    own = replace(spec, base=replace(spec.base, family="other"))

    assert not Architecture.of(own, "epsilon").is_published
    assert all(Architecture.of(spec_of(model), "v").is_published for model in FAMILIES)
