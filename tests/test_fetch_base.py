"""Base folders from a single file and from the hub, offline."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from orthofed.client.base import fingerprint_of
from orthofed.client.fetch_base import fetch_base
from orthofed.core.errors import InputError

from .single_file import write_single_file
from .tiny_base import tiny_base

WEIGHTS = (
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Give the tiny base as a folder, and the same weights as one file."""
    place = tmp_path_factory.mktemp("fetch")
    folder = tiny_base(place / "base")
    return folder, write_single_file(folder, place / "base.safetensors", each=1, blocks=2)


def _configs(folder: Path, place: Path) -> Path:
    return Path(shutil.copytree(folder, place, ignore=shutil.ignore_patterns("*.safetensors")))


def test_a_single_file_becomes_the_folder_it_was_made_of(
    given: tuple[Path, Path], tmp_path: Path
) -> None:
    """Every weight under its published name, bit for bit; a second time the same fingerprint."""
    folder, file = given
    config = _configs(folder, tmp_path / "config")

    made = fetch_base(str(file), tmp_path / "made", config=config)
    again = fetch_base(str(file), tmp_path / "again", config=config)

    for name in WEIGHTS:
        ours, theirs = load_file(made / name), load_file(folder / name)
        assert set(ours) == set(theirs)
        assert all(np.array_equal(ours[key], value) for key, value in theirs.items()), name
    assert fingerprint_of(made) == fingerprint_of(again)
    assert (made / "tokenizer" / "vocab.json").is_file()


def test_half_precision_stays_half_precision(given: tuple[Path, Path], tmp_path: Path) -> None:
    """Weights are named anew and never rounded or widened."""
    folder, file = given
    halves = {name: value.astype(np.float16) for name, value in load_file(file).items()}
    save_file(halves, tmp_path / "half.safetensors")

    made = fetch_base(
        str(tmp_path / "half.safetensors"),
        tmp_path / "made",
        config=_configs(folder, tmp_path / "c"),
    )

    whole = load_file(folder / WEIGHTS[0])
    assert all(
        np.array_equal(value, whole[name].astype(np.float16))
        for name, value in load_file(made / WEIGHTS[0]).items()
    )


OFFLINE = """
import sys
from pathlib import Path
from orthofed.client.fetch_base import fetch_base
from orthofed.core.errors import OrthoFedError
try:
    fetch_base(sys.argv[1], Path(sys.argv[2]))
except OrthoFedError as error:
    print(type(error).__name__, error.code, error.fix)
"""


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("owner/name", "Unreachable hub-unreachable connect this machine"),
        ("file", "InputError no-base-config give --config the pipeline folder of"),
        ("no name at all", "InputError base-not-found give owner/name"),
    ],
)
def test_without_the_network_an_error_says_what_to_do(
    given: tuple[Path, Path], tmp_path: Path, source: str, told: str
) -> None:
    """No hub answers and its cache is empty; nothing is left of the folder."""
    source = str(given[1]) if source == "file" else source
    offline = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")}

    done = subprocess.run(
        [sys.executable, "-P", "-c", OFFLINE, source, str(tmp_path / "made")],
        check=True,
        capture_output=True,
        text=True,
        env=offline,
    )

    assert done.stdout.startswith(told), done.stdout + done.stderr
    assert not list(tmp_path.glob("*made*"))


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("model.ckpt", b"", "not-safetensors"),
        ("model.safetensors", b"x" * 64, "base-damaged"),
        ("absent.safetensors", None, "base-damaged"),
    ],
)
def test_what_is_no_safetensors_is_refused(
    given: tuple[Path, Path], tmp_path: Path, name: str, data: bytes | None, code: str
) -> None:
    """A pickle is never opened; a damaged file is named."""
    if data is not None:
        (tmp_path / name).write_bytes(data)

    with pytest.raises(InputError) as caught:
        fetch_base(str(tmp_path / name), tmp_path / "made", config=given[0])

    assert caught.value.code == code
    assert not (tmp_path / "made").exists()


def test_configs_of_another_model_are_refused(given: tuple[Path, Path], tmp_path: Path) -> None:
    """A weight that has no place there would be left out."""
    config = _configs(given[0], tmp_path / "config")
    said = (config / "unet" / "config.json").read_text()
    (config / "unet" / "config.json").write_text(said.replace("48", "96"))

    with pytest.raises(InputError) as caught:
        fetch_base(str(given[1]), tmp_path / "made", config=config)

    assert caught.value.code == "config-does-not-fit"


def test_a_folder_that_exists_is_left_alone(given: tuple[Path, Path], tmp_path: Path) -> None:
    """It may be somebody's base."""
    with pytest.raises(InputError) as caught:
        fetch_base(str(given[1]), tmp_path, config=given[0])

    assert caught.value.code == "folder-not-empty"
