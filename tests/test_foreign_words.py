"""The words of somebody's LoRA, read from a file that is not ours."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from orthofed.client.base import Base
from orthofed.client.foreign_words import rows_of
from orthofed.core.errors import InputError

from .tiny_base import tiny_base


def test_a_file_of_too_many_vectors_is_refused_by_its_header(tmp_path: Path) -> None:
    """Eight vectors are read to the bit; of nine not a byte is, however long the file."""
    base = Base.load(tiny_base(tmp_path / "base"))
    (name, tower), *_ = base.towers.items()
    rows = np.random.default_rng(0).normal(size=(9, tower.width)).astype(np.float32)
    save_file({"words": rows[:8]}, tmp_path / "eight.safetensors")
    save_file({"words": rows}, tmp_path / "nine.safetensors")

    assert np.array_equal(rows_of(base, tmp_path / "eight.safetensors", "")[name], rows[:8])
    with pytest.raises(InputError, match="1 to 8 vectors") as refused:
        rows_of(base, tmp_path / "nine.safetensors", "")
    assert refused.value.code == "bad-embedding"


def test_words_too_long_for_any_trigger_are_refused_before_they_are_tokenised(
    tmp_path: Path,
) -> None:
    """Two words are as many rows of the table; a megabyte of them is refused at once."""
    base = Base.load(tiny_base(tmp_path / "base"))

    spoken = rows_of(base, None, "a b")

    assert {len(rows) for rows in spoken.values()} == {2}
    with pytest.raises(InputError, match="1048576 characters, allowed are 200"):
        rows_of(base, None, "a " * (1 << 19))


@pytest.mark.parametrize("both", [True, False])
def test_words_come_from_a_file_or_from_a_prompt(both: bool, tmp_path: Path) -> None:
    """Both, or neither: which of them is meant is not guessed."""
    base = Base.load(tiny_base(tmp_path / "base"))
    file = tmp_path / "words.safetensors"
    (tower,) = base.towers.values()
    save_file({"words": np.ones((2, tower.width), np.float32)}, file)

    with pytest.raises(InputError, match="both --embedding and --foreign-trigger") as refused:
        rows_of(base, file if both else None, "a b" if both else "")

    assert refused.value.code == "no-foreign-trigger"
