"""Each check of `orthofed doctor FILE`: what it sees, how it says it, and that it can be quiet."""

import hashlib

import numpy as np
import pytest

from orthofed.client.examined_file import examine_file
from orthofed.core.file_check import FileCheck
from orthofed.core.metadata_rules import LISTED, kept_metadata

from .adapter_files import diffusers, kohya, peft, write

SIXTY_FIVE = {f"k{i}": "" for i in range(65)}
FIRST = "lora_te_text_model_encoder_layers_0_self_attn_k_proj"


def checks(tmp_path, tensors, metadata=None) -> dict[str, FileCheck]:
    """Return the worst check of each name."""
    rank = {"ok": 0, "warn": 1, "fail": 2}
    found = examine_file(write(tmp_path / "anna.safetensors", tensors, metadata)).checks
    return {each.name: each for each in sorted(found, key=lambda each: rank[each.level])}


def level(tmp_path, name: str, tensors, metadata=None) -> str:
    return checks(tmp_path, tensors, metadata)[name].level


def test_a_clean_file_is_well_in_every_check(tmp_path):
    """No warning at all, so that a warning means something."""
    found = checks(tmp_path, kohya(), {"ss_network_dim": "1"})

    assert {each.level for each in found.values()} == {"ok"}
    assert set(found) >= {"pairs", "shapes", "alpha", "types", "limits", "values", "metadata"}
    assert not any(each.fix for each in found.values())


def test_a_missing_alpha_is_said_to_play_at_scale_one(tmp_path):
    """Whatever ss_network_alpha says: no program reads it."""
    found = checks(tmp_path, kohya(alpha=None, rank=4), {"ss_network_alpha": "1"})

    assert found["alpha"].level == "warn"
    assert "176 layers" in found["alpha"].what
    assert "'1' of ss_network_alpha is read by none" in found["alpha"].what
    assert "--fix" in found["alpha"].fix


@pytest.mark.parametrize(
    ("alpha", "said"),
    [(0.0, "alpha / rank of 0"), (-1.0, "alpha / rank of -1"), (64.0, "alpha / rank of 64")],
)
def test_an_odd_scale_is_named(tmp_path, alpha, said):
    """Nothing, the opposite, and far too much."""
    found = checks(tmp_path, kohya(alpha=alpha))

    assert (found["alpha"].level, found["alpha"].what[: len(said)]) == ("warn", said)


@pytest.mark.parametrize("alpha", [np.array(np.nan, "f2"), np.ones(2, "f2")])
def test_an_alpha_that_is_no_number_fails(tmp_path, alpha):
    """NaN, and two numbers in place of one."""
    assert level(tmp_path, "alpha", {**kohya(), f"{FIRST}.alpha": alpha}) == "fail"


def test_several_scales_and_ranks_are_named(tmp_path):
    """One layer of another alpha; one of another rank, which diffusers mis-scales."""
    other = {**kohya(), f"{FIRST}.alpha": np.array(0.5, "f2")}
    rank = {
        **kohya(),
        f"{FIRST}.lora_up.weight": np.ones((768, 2), "f2"),
        f"{FIRST}.lora_down.weight": np.ones((2, 768), "f2"),
        f"{FIRST}.alpha": np.array(2, "f2"),
    }

    assert "1 in 175 layers, 0.5 in 1 layer" in checks(tmp_path, other)["alpha"].what
    assert checks(tmp_path, rank)["rank"].what.startswith("ranks from 1 to 2")
    assert "rank" not in checks(tmp_path, kohya())


def test_diffusers_own_files_lack_no_alpha_unless_their_header_asks_for_a_scale(tmp_path):
    """lora_adapter_metadata with alpha 2 at r 1: diffusers alone would double it."""
    asks = '{"unet.lora_alpha":2,"unet.r":1}'

    assert level(tmp_path, "alpha", diffusers()) == "ok"
    found = checks(tmp_path, diffusers(), {"lora_adapter_metadata": asks})
    assert "scale 2, which diffusers alone reads" in found["alpha"].what
    assert level(tmp_path, "alpha", diffusers(), {"lora_adapter_metadata": "[[["}) == "warn"


def test_mixed_types_are_counted(tmp_path):
    """One tensor in F32 among F16."""
    found = checks(tmp_path, {**kohya(), f"{FIRST}.alpha": np.array(1, "f4")})

    assert (found["types"].level, "527 F16, 1 F32" in found["types"].what) == ("warn", True)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_every_nan_and_infinity_is_counted(tmp_path, dtype):
    """Three in one tensor, the last value among them, of a tensor larger than one piece."""
    large = np.zeros((1 << 20) + 3, dtype)
    large[[0, 5, -1]] = np.nan, np.inf, -np.inf

    found = checks(tmp_path, {"weights": large})["values"]

    assert (found.level, found.what[:30]) == ("fail", "3 NaN or infinite in 1 tensor:")


@pytest.mark.parametrize("side", ["lora_up", "lora_down"])
def test_half_a_pair_fails_and_is_named(tmp_path, side):
    """Either side lost; and an alpha whose layer is gone."""
    tensors = kohya()
    del tensors[f"{FIRST}.{side}.weight"]

    found = checks(tmp_path, tensors)["pairs"]

    assert (found.level, FIRST in found.what) == ("fail", True)
    assert level(tmp_path, "pairs", {**kohya(), "lora_te_x.alpha": np.array(1, "f2")}) == "warn"


def test_shapes_that_do_not_fit_each_other_or_the_base_fail(tmp_path):
    """Up of rank 2 on a down of rank 1; a layer of another width."""
    torn = {**kohya(), f"{FIRST}.lora_up.weight": np.ones((768, 2), "f2")}
    other = {**kohya(), f"{FIRST}.lora_up.weight": np.ones((1024, 1), "f2")}

    assert "do not fit each other in 1 layer" in checks(tmp_path, torn)["shapes"].what
    assert "1024 x 768, not 768 x 768" in checks(tmp_path, other)["shapes"].what
    assert level(tmp_path, "shapes", torn) == level(tmp_path, "shapes", other) == "fail"


def test_linear_layers_kept_as_convolutions_are_named_for_sdxl_alone(tmp_path):
    """Kohya's merge script squeezes such factors for SD 1 and stops at them for SDXL."""

    def pixels(tensors):
        return {n: t.reshape(*t.shape, 1, 1) if t.ndim == 2 else t for n, t in tensors.items()}

    found = checks(tmp_path, pixels(kohya("sdxl")))["shapes"]

    assert (found.level, found.what[:17]) == ("warn", "736 linear layers")
    assert level(tmp_path, "shapes", pixels(kohya("sd15"))) == "ok"


@pytest.mark.parametrize(
    ("end", "named"),
    [("dora_scale", "a DoRA"), ("hada_w1_a", "LoHa"), ("lokr_w1", "LoKr"), ("oft_blocks", "OFT")],
)
def test_relatives_of_lora_are_named_as_such(tmp_path, end, named):
    """A layer of that kind among plain ones."""
    found = checks(tmp_path, {**kohya(), f"{FIRST}.{end}": np.ones((1, 768), "f2")})

    assert (found["kind"].level, found["kind"].what.startswith(named)) == ("warn", True)


def test_older_diffusers_names_are_named(tmp_path):
    """lora_linear_layer, which some programs no longer read."""
    old = {
        name.replace("lora_B", "lora_linear_layer.up").replace(
            "lora_A", "lora_linear_layer.down"
        ): t
        for name, t in diffusers().items()
    }

    assert level(tmp_path, "spelling", old) == "warn"
    assert "spelling" not in checks(tmp_path, diffusers())


def test_pefts_file_without_its_config_has_lost_its_scale(tmp_path):
    """With it: a warning about the wrong loader."""
    assert level(tmp_path, "kind", peft()) == "fail"
    (tmp_path / "adapter_config.json").write_text("{}")

    found = checks(tmp_path, peft())["kind"]

    assert (found.level, "load_lora_weights" in found.fix) == ("warn", True)


def test_metadata_that_tells_of_the_training_is_listed_by_key_and_size_alone(tmp_path):
    """Folder names and captions are in the file; no line repeats them (T8)."""
    said = {
        "ss_dataset_dirs": '{"4_anna karenina":{}}',
        "ss_tag_frequency": '{"4_anna":{"red hair":12}}',
        "modelspec.thumbnail": "data:image/jpeg;base64," + "A" * 4000,
        "ss_network_dim": "1",
    }

    found = checks(tmp_path, kohya(), said)["metadata"]

    assert found.level == "warn"
    assert "modelspec.thumbnail (4,023 bytes), ss_tag_frequency" in found.what
    assert "3 keys" in found.what
    assert "anna" not in found.what


def test_a_value_that_is_no_plain_text_is_named_and_markup_in_a_hash_fails(tmp_path):
    """A1111 writes sshs_model_hash into its page unescaped."""
    turned = checks(tmp_path, kohya(), {"modelspec.title": "anna\u202e"})
    script = checks(tmp_path, kohya(), {"sshs_model_hash": "<img src=x onerror=alert(1)>"})

    assert (turned["characters"].level, script["characters"].level) == ("warn", "fail")
    assert "<img" not in script["characters"].what
    assert "characters" not in checks(tmp_path, kohya(), {"modelspec.title": "anna: two concepts"})


def test_a_hash_of_other_tensors_is_named(tmp_path):
    """The right one is quiet."""
    path = write(tmp_path / "anna.safetensors", kohya())
    data = path.read_bytes()
    right = hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()

    assert "hash" not in checks(tmp_path, kohya(), {"sshs_model_hash": right})
    found = checks(tmp_path, kohya(), {"modelspec.hash_sha256": f"0x{'0' * 64}"})
    assert right[:12] in found["hash"].what


@pytest.mark.parametrize(
    ("tensors", "metadata", "said"),
    [
        ({"x": np.ones((1, 1, 1, 1, 1), "f2")}, {}, "5 dimensions (limit 4)"),
        ({"x": np.ones(1, "f8")}, {}, "F64 (read: F16, BF16, F32, I16, I64)"),
        (
            {"x": np.ones(1, "f2")},
            SIXTY_FIVE,
            "65 keys of metadata (limit 64)",
        ),
        ({"x": np.ones(1, "f2")}, {"k": "x" * (1 << 20)}, "bytes (limit 1,048,576)"),
    ],
)
def test_what_strict_readers_refuse_is_said_with_the_limit(tmp_path, tensors, metadata, said):
    """Others load such a file: it is described and the limit is named; at the limit all is well."""
    found = checks(tmp_path, tensors, metadata)["limits"]
    at_the_limit = {f"k{i}": "" for i in range(64)}

    assert (found.level, said in found.what) == ("warn", True)
    assert level(tmp_path, "limits", {"x": np.ones(1, "f2")}, at_the_limit) == "ok"


def test_a_tensor_that_no_program_knows_is_named(tmp_path):
    """Beside 528 that all of them know."""
    found = checks(tmp_path, {**kohya(), "notes": np.ones(1, "f2")})["names"]

    assert (found.level, found.what) == ("warn", "1 tensor that no program knows: notes")


def test_what_is_kept_of_metadata_is_on_the_list_and_has_the_right_hash():
    """Free of what is forbidden or strange; a hash that was there is renewed."""
    said = {
        "format": "pt",
        "modelspec.title": "anna\x1b",
        "ss_dataset_dirs": "{}",
        "ss_tag_frequency": "{}",
        "sshs_model_hash": "<b>",
    }

    kept = kept_metadata(said, tensor_hash="0" * 64)

    assert kept == {"format": "pt", "sshs_model_hash": "0" * 64}
    assert set(kept) <= LISTED
    assert "ss_tag_frequency" in kept_metadata({**said, "orthofed.format": "1"}, tensor_hash="0")
