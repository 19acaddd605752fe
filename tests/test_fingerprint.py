"""One hash for a base model, whatever else lies in its folder."""

import hashlib

import pytest

from orthofed.core.errors import SpecError
from orthofed.core.fingerprint import base_fingerprint, is_base_file

ONE, TWO = "1" * 64, "2" * 64


def test_the_fingerprint_is_the_hash_of_sorted_lines() -> None:
    """Spelt out by hand; a README does not count."""
    files = {"unet/model.safetensors": TWO, "model_index.json": ONE, "README.md": TWO}

    text = f"{ONE}  model_index.json\n{TWO}  unet/model.safetensors\n"

    assert base_fingerprint(files) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("model_index.json", True),
        ("vae/config.json", True),
        ("scheduler/scheduler_config.json", True),
        ("tokenizer_2/merges.txt", True),
        ("text_encoder_2/model-00001-of-00002.safetensors", True),
        ("unet/diffusion_pytorch_model.fp16.safetensors", False),
        ("unet/diffusion_pytorch_model.bin", False),
        ("safety_checker/model.safetensors", False),
        ("model.safetensors", False),
        ("README.md", False),
        ("../unet/config.json", False),
        ("a/unet/config.json", False),
    ],
)
def test_only_what_decides_the_answers_counts(path: str, *, counts: bool) -> None:
    """Twins of another precision and other formats are passed over."""
    assert is_base_file(path) is counts


def test_a_folder_without_weights_is_no_base() -> None:
    """The error says what is looked for."""
    with pytest.raises(SpecError) as caught:
        base_fingerprint({"model_index.json": ONE})

    assert caught.value.code == "not-a-base-model"


def test_a_hash_in_another_spelling_is_refused() -> None:
    """Upper case would give another fingerprint for the same files."""
    with pytest.raises(SpecError):
        base_fingerprint({"unet/model.safetensors": "A" * 64})
