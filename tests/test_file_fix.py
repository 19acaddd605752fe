"""`orthofed doctor FILE --fix OUT` writes a clean copy, and no layer's change moves by a bit."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from orthofed.client import fixed_file
from orthofed.client.examined_file import ExaminedFile, examine_file
from orthofed.client.fixed_file import write_fixed
from orthofed.core.errors import InputError
from orthofed.core.file_fix import FileFix, file_fix
from orthofed.core.layer import Layer
from orthofed.core.module_spelling import Family, module_spellings
from orthofed.core.tensorfile import header_bytes

from .adapter_files import diffusers, kohya, kohya_names, layers, lora, peft, write
from .test_file_doctor import run

ENDS = {
    ".lora_up.weight": ".lora_down.weight",
    ".lora_B.weight": ".lora_A.weight",
    ".lora_linear_layer.up.weight": ".lora_linear_layer.down.weight",
    "_lora.up.weight": "_lora.down.weight",
}
FIRST = "lora_te_text_model_encoder_layers_0_self_attn_k_proj"
UP = f"{FIRST}.lora_up.weight"


Change = tuple[float, bytes, bytes]


def changes(path: Path, family: Family = "sd1", scale: float = 1.0) -> dict[str, Change]:
    """Return what makes up each layer's change by its path: the scale, up and down in float64.

    The product of equal bits is equal; of a thousand layers it would take the test's memory.
    """
    tensors, known = load_file(path), module_spellings(family)
    found: dict[str, Change] = {}
    for name, up in tensors.items():
        end = next((end for end in ENDS if name.endswith(end)), None)
        if end is not None:
            module = name[: -len(end)]
            down = tensors[module + ENDS[end]].astype("f8")
            alpha = float(tensors.get(f"{module}.alpha", np.array(scale * len(down))))
            factors = up.astype("f8").tobytes(), down.tobytes()
            found[known[module].path] = (alpha / len(down), *factors)
    return found


def fixed(tmp_path: Path, tensors, metadata=None) -> tuple[FileFix, Path]:
    """Write a file and its copy."""
    return copied(write(tmp_path / "anna.safetensors", tensors, metadata))


def copied(path: Path) -> tuple[FileFix, Path]:
    """Write the copy of a file."""
    out = path.with_name("out.safetensors")
    file = examine_file(path)
    assert file.header is not None
    assert file.kind is not None
    assert file.values is not None
    fix = file_fix(file.header, file.kind, file.values)
    write_fixed(path, file.header, fix, out)
    return fix, out


def product(change: Change, layer: Layer) -> bytes:
    """Return dW of a layer, scale * up down, as bytes."""
    scale, up, down = change
    left = np.frombuffer(up).reshape(layer.out, -1)
    return (scale * (left @ np.frombuffer(down).reshape(-1, layer.width))).tobytes()


def complaints(file: ExaminedFile) -> list[str]:
    return [check.name for check in file.checks if check.level != "ok"]


def old(text_leaf: str = ".lora_linear_layer.") -> dict[str, np.ndarray]:
    """Return a file of the time when diffusers had attention processors."""
    found: dict[str, np.ndarray] = {}
    for each in layers("sd15"):
        if each.path.startswith("text"):
            ends = (f"{text_leaf}up.weight", f"{text_leaf}down.weight")
            found |= lora([(each.path, each)], ends=ends, alpha=None)
        else:
            place = each.path.replace(".to_", ".processor.to_").replace(".to_out.0", ".to_out")
            ends = ("_lora.up.weight", "_lora.down.weight")
            found |= lora([(place, each)], ends=ends, alpha=None)
    return found


MENDED = {
    "no alpha": (lambda: kohya(alpha=None, rank=3), {"ss_network_alpha": "1"}),
    "metadata": (lambda: kohya(alpha=0.5, rank=3), {"ss_dataset_dirs": "{}"}),
    "diffusers": (diffusers, {"format": "pt"}),
    "old diffusers": (old, None),
    "types": (lambda: {**kohya(), UP: np.full((768, 1), 1.1, "f4")}, None),
    "several scales": (lambda: {**kohya(), f"{FIRST}.alpha": np.array(1 / 3, "f4")}, None),
    "lonely": (lambda: {**kohya(), "lora_te_gone.alpha": np.array(1, "f2")}, None),
}


@pytest.mark.parametrize("case", MENDED)
def test_the_copy_has_no_complaint_and_every_change_to_the_bit(tmp_path, case):
    """Alpha, metadata, names, types: each put right; all programs load the copy whole."""
    make, metadata = MENDED[case]
    fix, out = fixed(tmp_path, make(), metadata)

    file = examine_file(out)
    before, after = changes(tmp_path / "anna.safetensors"), changes(out)
    assert fix.changes
    assert fix.left == ()
    assert complaints(file) == (["alpha"] if case == "several scales" else [])
    assert {each.outcome for each in file.loads} == {"all"}
    assert before == after
    for layer in (layers("sd15")[0], layers("sd15")[-1]):
        dw = product(before[layer.path], layer)
        assert any(dw)
        assert dw == product(after[layer.path], layer)


def test_one_type_is_the_files_own_where_it_holds_all(tmp_path):
    """An alpha of 1 in F32 goes to F16; a factor in F32 brings the file to F32; F16 stays F16."""
    _, small = fixed(tmp_path, {**kohya(), f"{FIRST}.alpha": np.array(1, "f4")})
    (tmp_path / "b").mkdir()
    _, wide = fixed(tmp_path / "b", {**kohya(), UP: np.full((768, 1), 1.1, "f4")})

    assert examine_file(small).dtypes == ("F16",)
    assert examine_file(wide).dtypes == ("F32",)


def test_the_scale_that_diffusers_header_asks_for_is_written_as_alpha(tmp_path):
    """Alpha 2 at r 1 for the UNet: double there, as diffusers plays it, and 1 for the text."""
    said = json.dumps({f"{part}.{k}": v for part, k, v in ASKED})
    _, out = fixed(tmp_path, diffusers(), {"lora_adapter_metadata": said, "format": "pt"})

    path = tmp_path / "anna.safetensors"
    double, single = changes(path, scale=2.0), changes(path)
    wanted = {p: double[p] if p.startswith("unet") else single[p] for p in single}
    assert wanted == changes(out)
    header = examine_file(out).header
    assert header is not None
    assert header.metadata == {}


ASKED = (
    ("unet", "lora_alpha", 2),
    ("unet", "r", 1),
    ("text_encoder", "lora_alpha", 1),
    ("text_encoder", "r", 1),
)


@pytest.mark.parametrize(
    "asks",
    [
        '{"unet.lora_alpha":1,"unet.r":1,"unet.alpha_pattern":{"x":2}}',
        "[[",
        '{"unet.lora_alpha":1e400,"unet.r":1}',
        f'{{"unet.lora_alpha":1,"unet.r":{10**400}}}',
    ],
)
def test_names_stay_where_a_scale_would_be_guessed(tmp_path, asks):
    """A scale layer by layer, no JSON, no number: said, and nothing is renamed."""
    tensors = diffusers()
    said = {"lora_adapter_metadata": asks, "ss_dataset_dirs": "{}"}
    fix, out = fixed(tmp_path, tensors, said)

    assert fix.left == ("names stay: lora_adapter_metadata scales layers one by one",)
    assert set(load_file(out)) == set(tensors)


def test_sdxl_in_diffusers_spelling_gets_kohyas(tmp_path):
    """The UNet in original names, both text encoders by their numbers."""
    _, out = fixed(tmp_path, diffusers("sdxl"))

    assert set(load_file(out)) == set(kohya("sdxl"))
    assert changes(tmp_path / "anna.safetensors", "sdxl") == changes(out, "sdxl")


def test_what_cannot_be_fixed_is_said_and_left(tmp_path):
    """NaN, half a pair, PEFT's names; the rest of such a file is still put right."""
    broken = {**kohya(alpha=None), "lora_te_half.lora_up.weight": np.ones((2, 1), "f2")}
    broken[UP] = np.full((768, 1), np.nan, "f4")
    fix, out = fixed(tmp_path, broken)
    (tmp_path / "b").mkdir()
    other, _ = fixed(tmp_path / "b", peft(), {"ss_dataset_dirs": "{}"})

    assert [each.partition(":")[0] for each in fix.left] == [
        "768 values NaN or infinite",
        "1 half pair",
        "mixed types",
    ]
    assert load_file(out)[UP].tobytes() == broken[UP].tobytes()
    assert other.left == ("names stay: PEFT's scale is in another file, adapter_config.json",)


def test_types_that_we_do_not_write_are_copied_as_they_are(tmp_path):
    """A whole checkpoint with whole numbers and 64-bit floats: its metadata alone is changed."""
    tensors = {
        "model.diffusion_model.out.2.bias": np.ones(4, "f2"),
        "betas": np.linspace(0, 1, 9),
        "position_ids": np.arange(77),
    }
    fix, out = fixed(tmp_path, tensors, {"ss_dataset_dirs": "{}"})

    assert fix.changes == ("dropped 1 key of metadata: ss_dataset_dirs",)
    assert save(load_file(out)) == save(tensors)


def test_a_bfloat16_file_without_alpha_gets_one_in_bfloat16(tmp_path):
    """A plain LoRA as trainers on newer cards write it; rank 4 is exact in BF16."""
    base = kohya_names("sd15")[0].removesuffix(".lora_up.weight")
    shapes = {f"{base}.lora_down.weight": (4, 768), f"{base}.lora_up.weight": (768, 4)}
    data = bytes(sum(2 * n * m for n, m in shapes.values()))
    header = header_bytes([(name, "BF16", shape) for name, shape in shapes.items()], {})
    path = tmp_path / "anna.safetensors"
    path.write_bytes(header + data)

    _, out = copied(path)

    copy = examine_file(out)
    assert copy.dtypes == ("BF16",)
    assert copy.values is not None
    assert copy.values.alphas == {base: 4.0}


def test_the_hash_in_the_header_is_that_of_the_copy(tmp_path):
    """A file that states a hash states the right one afterwards."""
    _, out = fixed(tmp_path, kohya(alpha=None), {"sshs_model_hash": "0" * 64})

    assert "hash" in complaints(examine_file(tmp_path / "anna.safetensors"))
    assert complaints(examine_file(out)) == []


def test_nothing_is_overwritten_and_nothing_half_written_stays(tmp_path, monkeypatch):
    """An OUT that is there, the file itself, a dangling link; a disk that fails in the middle."""
    path = write(tmp_path / "anna.safetensors", kohya(alpha=None))
    before = path.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for out in (path, tmp_path / "link"):
        done = run(str(path), "--fix", str(out), "--json")
        assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (2, "file-exists")

    def fail(*_: object) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(fixed_file, "_data", fail)
    with pytest.raises(OSError, match="input/output"):
        fixed(tmp_path, kohya(alpha=None))

    assert path.read_bytes() == before
    assert not (tmp_path / "out.safetensors").exists()
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_shrinks_while_it_is_read_is_an_error_and_no_copy(tmp_path):
    """Its last tensor is gone when the copy is written."""
    path = write(tmp_path / "anna.safetensors", kohya(alpha=None))
    file = examine_file(path)
    assert file.header is not None
    assert file.kind is not None
    assert file.values is not None
    fix = file_fix(file.header, file.kind, file.values)
    path.write_bytes(path.read_bytes()[:-8])

    with pytest.raises(InputError, match="ends early"):
        write_fixed(path, file.header, fix, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_the_command_says_what_it_changed_and_shows_the_copy(tmp_path):
    """Exit code 0; run on the copy there is nothing to change, and no third file."""
    path = write(tmp_path / "anna.safetensors", diffusers())
    out, third = tmp_path / "out.safetensors", tmp_path / "third.safetensors"

    done = run(str(path), "--fix", str(out))
    again = run(str(out), "--fix", str(third), "--json")

    assert done.returncode == 0
    assert "changed: renamed 352 tensors to kohya's spelling" in done.stdout
    assert "out.safetensors: LoRA, kohya's names" in done.stdout
    assert json.loads(again.stdout)["fixed"] == {"out": None, "changes": [], "left": []}
    assert not third.exists()
    assert run(str(tmp_path), "--fix", str(third)).returncode == 2
