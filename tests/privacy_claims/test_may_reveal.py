"""T21: what a published concept gives away: A, trigger and vectors, to whoever downloads it.

Backs: "A published concept can be prompted by anyone and may reveal training images. With few
images assume it does." The warning is true, not careful: the files hold all that was learnt, and no
key is asked for.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from orthofed.client.state import BLOB
from orthofed.core.layout import ContributionLayout, unpack
from orthofed.core.quantise import dequantise

from ..owner import Owner
from ..serving import founded, running


@pytest.fixture
def released(tmp_path: Path) -> tuple[Path, Owner]:
    with running(founded(tmp_path)) as coordinator:
        owner = Owner.joined(tmp_path / "home", coordinator.invite())
        owner.contribute("anna")
        for name, seed in (("bert", 2), ("carl", 3)):
            Owner.joined(tmp_path / name, coordinator.invite()).contribute(name, seed=seed)
        coordinator.release()
        return coordinator.folder.releases / "1", owner


def unit(values: np.ndarray) -> np.ndarray:
    """Return ``values`` divided by their norm."""
    wide = values.astype(np.float64)
    return wide / np.linalg.norm(wide)


def test_a_release_gives_every_a_back(released):
    """A_i as it was sent, from the file of its concept: the same direction, 16-bit floats apart.

    Hence no aggregation hides it, and what can be drawn from A_i anyone can draw. (The file's two
    factors share a constant, so A_i stands in it times a known number.)
    """
    folder, owner = released
    session = owner.saved("anna")
    layout = ContributionLayout(owner.federation.spec, session.vectors)
    sent = unpack(layout, (owner.home.run("anna") / BLOB).read_bytes())

    file = load_file(folder / "concepts" / "wren-fed-anna.safetensors")
    ups = [unit(up) for name, up in file.items() if "lora_up" in name]
    mine = [unit(dequantise(each)) for name, each in sent.items() if name.startswith("a.")]

    assert len(ups) == len(mine)
    for a in mine:
        errors = [float(np.linalg.norm(up - a)) for up in ups if up.shape == a.shape]
        assert min(errors) < 1e-3


def test_the_trigger_is_in_the_tokenizer_for_everyone(released):
    """The published pipeline knows the word: it can be prompted without any key."""
    folder, _ = released
    added = json.loads((folder / "checkpoint" / "tokenizer" / "added_tokens.json").read_text())

    assert "anna-k7" in added
    assert (folder / "embeddings" / "anna-k7.safetensors").is_file()
