"""Names and metadata of LoRA files against formats.md 3 and 6."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace

import pytest

from orthofed.core.errors import SpecError
from orthofed.core.lorafile import (
    ConceptEntry,
    FileOrigin,
    checkpoint_metadata,
    content_digest,
    embedding_metadata,
    file_rank,
    kohya_key,
    lora_entries,
    lora_metadata,
)
from orthofed.core.published import published_layers
from orthofed.core.spec import BaseModel, Encoder, FederationSpec, plan_spec
from orthofed.core.targets import Targets

HASH = "ab" * 32
WREN = ConceptEntry(3, "wren-cat", ("wren-c1", "wren-c2"), "1" * 64, 614, "CC0-1.0")
ANNA = ConceptEntry(0, "anna", ("anna-k7",), "2" * 64, 1024, "Apache-2.0")


def digest(keys: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()


def sd1(*, family: str = "sd1", targets: Targets = "attention") -> FederationSpec:
    return plan_spec(
        name="toy-fed",
        base=BaseModel(family, "sd-v1-5", "main", "0" * 64, "MIT"),
        layers=published_layers("sd15", targets),
        encoders=[Encoder("text_encoder", 768)],
        seed=bytes(32),
        rank=20,
    )


def sdxl(targets: Targets = "attention") -> FederationSpec:
    return plan_spec(
        name="toy-fed",
        base=BaseModel("sdxl", "sdxl-base", "main", "0" * 64, "MIT"),
        layers=published_layers("sdxl", targets),
        encoders=[Encoder("text_encoder", 768), Encoder("text_encoder_2", 1280)],
        seed=bytes(32),
        rank=20,
    )


MODULES = {
    "sd1": (176, "a6889254ccf8ba57022a7224b290c64e39fa01933383e44ccb2b3fa38f3e2b4b"),
    "sdxl": (736, "8a667b4dbee87e16321ee74f771854ad6796a8b5cb87e3dfe980429d27d5e1b1"),
}
KOHYA = {
    "sd1": (528, "b4a2198f4282fc0210d64f235325f69436f3abcad7842fdebdf5b828c55403db"),
    "sdxl": (2208, "f91414ed9264954364d821e7d7b3ac62b5d3d85d0ae4d83427dc85212738222b"),
}


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_module_ids_and_kohya_keys_have_the_reference_check_sums(family: str) -> None:
    """formats.md 3.2, full target set."""
    spec = sd1() if family == "sd1" else sdxl()

    ids = [layer.path for layer in spec.layers]
    keys = [name for name, _ in lora_entries(spec, 20)]

    assert (len(ids), digest(ids)) == MODULES[family]
    assert (len(keys), digest(keys)) == KOHYA[family]


def test_every_module_has_up_down_and_alpha_of_one_rank() -> None:
    """formats.md 4.1."""
    shapes = dict(lora_entries(sd1(), 60))
    base = kohya_key("unet.up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_k")

    assert shapes[f"{base}.lora_up.weight"] == (320, 60)
    assert shapes[f"{base}.lora_down.weight"] == (60, 768)
    assert shapes[f"{base}.alpha"] == ()


def test_a_convolution_has_kernels_below_and_a_pixel_above() -> None:
    """As kohya's convolutions: R kernels of the layer's own size, then 1 x 1."""
    shapes = dict(lora_entries(sd1(targets="all"), 60))
    base = kohya_key("unet.up_blocks.3.resnets.0.conv1")

    assert shapes[f"{base}.lora_down.weight"] == (60, 960, 3, 3)
    assert shapes[f"{base}.lora_up.weight"] == (320, 60, 1, 1)
    assert shapes[f"{base}.alpha"] == ()


def test_an_other_base_uses_the_spellings_of_sd1() -> None:
    """It loads in diffusers; no UI knows such a base."""
    assert lora_entries(sd1(family="other"), 4) == lora_entries(sd1(), 4)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("down_blocks.2.attentions.1.x.to_q", "lora_unet_input_blocks_8_1_x_to_q"),
        ("mid_block.attentions.0.x.to_q", "lora_unet_middle_block_1_x_to_q"),
        ("up_blocks.1.attentions.2.x.to_out.0", "lora_unet_output_blocks_5_1_x_to_out_0"),
        ("down_blocks.1.attentions.0.proj_in", "lora_unet_input_blocks_4_1_proj_in"),
        ("down_blocks.0.resnets.0.conv1", "lora_unet_input_blocks_1_0_in_layers_2"),
        ("down_blocks.2.resnets.1.conv2", "lora_unet_input_blocks_8_0_out_layers_3"),
        ("down_blocks.0.downsamplers.0.conv", "lora_unet_input_blocks_3_0_op"),
        ("mid_block.resnets.1.time_emb_proj", "lora_unet_middle_block_2_emb_layers_1"),
        ("up_blocks.1.upsamplers.0.conv", "lora_unet_output_blocks_5_2_conv"),
        ("up_blocks.2.resnets.2.conv_shortcut", "lora_unet_output_blocks_8_0_skip_connection"),
    ],
)
def test_sdxl_keys_are_in_ldm_spelling(path: str, key: str) -> None:
    """The merge script of kohya skips any other."""
    assert kohya_key(f"unet.{path}", "sdxl") == key


def test_unknown_components_are_refused() -> None:
    """No name is invented."""
    for path, family in (
        ("vae.a", "sd1"),
        ("text_encoder_2.a", "sd1"),
        ("unet.time", "sdxl"),
        ("unet.mid_block.resnets.0.dropout", "sdxl"),
    ):
        with pytest.raises(SpecError):
            kohya_key(path, family)


@pytest.mark.parametrize(("concepts", "rank"), [(1, 20), (12, 240), (103, 2060), (104, 2080)])
def test_the_rank_of_a_file_is_exact_in_fp16(concepts: int, rank: int) -> None:
    """Even numbers above 2048; alpha is stored in the file's type."""
    assert file_rank(sd1(), concepts) == rank


def test_an_odd_rank_above_2048_is_raised() -> None:
    """2049 is no fp16 number."""
    spec = replace(sd1(), ranks=tuple((w, 1) for w, _ in sd1().ranks), capacity=1)

    assert file_rank(spec, 2048) == 2048
    assert file_rank(spec, 2049) == 2050
    assert file_rank(spec, 4097) == 4100


def test_the_content_digest_ignores_the_order_of_concepts() -> None:
    """Lines by slot: the same set, the same bytes."""
    text = f"0 {ANNA.blob} 1024\n3 {WREN.blob} 614\n"

    assert content_digest([WREN, ANNA]) == hashlib.sha256(text.encode()).hexdigest()
    assert content_digest([ANNA, WREN]) == content_digest([WREN, ANNA])


def test_lora_metadata_is_exactly_the_allow_list() -> None:
    """Every key of formats.md 6 column L, and no other."""
    metadata = lora_metadata(FileOrigin(sd1(), HASH), [WREN, ANNA], rank=40, tensor_hash=HASH)

    assert sorted(metadata) == [
        *(f"modelspec.{key}" for key in ("architecture", "hash_sha256", "implementation")),
        *(f"modelspec.{key}" for key in ("license", "prediction_type", "resolution")),
        *(f"modelspec.{key}" for key in ("sai_model_spec", "tags", "title", "trigger_phrase")),
        "modelspec.usage_hint",
        *(f"orthofed.{key}" for key in ("basis", "content", "format", "spec")),
        "ss_base_model_version",
        *(f"ss_network_{key}" for key in ("alpha", "dim", "module")),
        *("ss_output_name", "ss_sd_model_name", "ss_tag_frequency", "ss_v2", "sshs_model_hash"),
    ]
    assert metadata["modelspec.title"] == "toy-fed: 2 concepts"
    assert metadata["modelspec.trigger_phrase"] == "anna-k7, wren-c1, wren-c2"
    assert metadata["modelspec.license"] == "Apache-2.0 AND CC0-1.0"
    assert metadata["ss_network_alpha"] == metadata["ss_network_dim"] == "40"
    assert metadata["modelspec.hash_sha256"] == f"0x{metadata['sshs_model_hash']}"
    assert json.loads(metadata["ss_tag_frequency"])["wren-cat"] == {"wren-c1": 1, "wren-c2": 1}


@pytest.mark.parametrize(("num", "length"), [(340, 10), (1_000, 12), (400, 9), (371, 9), (370, 9)])
def test_more_triggers_than_a_value_holds_are_counted(num: int, length: int) -> None:
    """A thousand concepts make a file: the first triggers whole, the others by number."""
    names = [f"c{number:0{length - 1}d}" for number in range(num)]
    entries = [
        replace(WREN, slot=number, concept=name, triggers=(name,))
        for number, name in enumerate(names)
    ]
    metadata = lora_metadata(FileOrigin(sd1(), HASH), entries, rank=num, tensor_hash=HASH)
    said, hint = metadata["modelspec.trigger_phrase"], metadata["modelspec.usage_hint"]

    assert hint == f"Trigger words: {said}"
    assert len(hint) <= 4_096
    if ", and " in said:
        kept, _, rest = said.partition(", and ")
        shown = kept.split(", ")
        assert shown == names[: len(shown)]
        assert rest == f"{num - len(shown)} more"
        assert len(hint) > 4_096 - 2 * length - 16
    else:
        assert said.split(", ") == names
    assert len(json.loads(metadata["ss_tag_frequency"])) == num


def test_a_single_concept_and_sdxl_have_their_own_values() -> None:
    """A1111 reads the prefix `sdxl_`."""
    metadata = lora_metadata(
        FileOrigin(sdxl(), HASH), [WREN], rank=20, tensor_hash=HASH, single=True
    )

    assert metadata["modelspec.title"] == "toy-fed: wren-cat"
    assert metadata["ss_output_name"] == "toy-fed-wren-cat"
    assert metadata["ss_base_model_version"] == "sdxl_base_v1-0"
    assert metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert metadata["modelspec.resolution"] == "1024x1024"


def test_embedding_and_checkpoint_metadata() -> None:
    """The trigger alone; and what diffusers asks of a pipeline's weights."""
    metadata = embedding_metadata(
        FileOrigin(sd1(), HASH), WREN, trigger="wren-c2", tensor_hash=HASH
    )

    assert metadata["modelspec.title"] == "toy-fed: wren-c2"
    assert metadata["modelspec.trigger_phrase"] == "wren-c2"
    assert metadata["modelspec.is_negative_embedding"] == "false"
    assert not any(key.startswith("ss") for key in metadata)
    assert checkpoint_metadata() == {"format": "pt"}


@pytest.mark.parametrize(
    "change",
    [
        {"concept": "<b>"},
        {"concept": "Wren"},
        {"triggers": ("a'b",)},
        {"blob": "x"},
        {"licence": "<script>"},
        {"licence": "x" * 5000},
        {"licence": "a\nb"},
    ],
)
def test_nothing_that_could_be_markup_gets_into_a_header(change: dict[str, object]) -> None:
    """A header is a script-injection path in A1111's page."""
    with pytest.raises(SpecError) as caught:
        lora_metadata(FileOrigin(sd1(), HASH), [replace(WREN, **change)], rank=20, tensor_hash=HASH)

    assert caught.value.code == "bad-metadata"


def test_hashes_are_hashes_and_files_are_not_empty() -> None:
    """A hash is shown unescaped."""
    origin = FileOrigin(sd1(), HASH)
    with pytest.raises(SpecError):
        lora_metadata(origin, [WREN], rank=20, tensor_hash="abc")
    with pytest.raises(SpecError):
        lora_metadata(FileOrigin(sd1(), "abc"), [WREN], rank=20, tensor_hash=HASH)
    with pytest.raises(SpecError):
        lora_metadata(origin, [], rank=20, tensor_hash=HASH)
