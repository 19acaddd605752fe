"""From a trained concept to integers and back to a model, for the wire and for the score."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orthofed.client.packed_contribution import PackedContribution
from orthofed.client.packing import lora_bytes, packed, vectors_of
from orthofed.client.session import Session
from orthofed.client.state import MANIFEST
from orthofed.client.trained import Trained
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.core.errors import InputError, VerificationFailed
from orthofed.core.keys import SigningKey
from orthofed.core.layout import ContributionLayout, pack, unpack
from orthofed.core.quantise import dequantise

from .tiny_concept import Bench, bench

TRIGGERS = [Trigger("anna-k7")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("packing"))


@pytest.fixture(scope="module")
def trained(tiny: Bench) -> Trained:
    return tiny.train()


def test_a_trained_concept_fills_the_layout_of_its_lease(tiny: Bench, trained: Trained) -> None:
    """Every tensor has its place and its shape; the blob comes back as the same integers."""
    layout = ContributionLayout(tiny.spec, vectors_of(TRIGGERS))
    tensors = packed(trained, tiny.spec)

    blob = pack(layout, tensors)

    assert len(blob) == layout.size
    back = unpack(layout, blob)
    assert all(np.array_equal(back[name].q, tensor.q) for name, tensor in tensors.items())


def test_quantising_changes_a_by_less_than_a_ten_thousandth(tiny: Bench, trained: Trained) -> None:
    """method.md 3.1: 16-bit integers are finer than fp16."""
    tensors = packed(trained, tiny.spec)

    for path, a in trained.a.items():
        error = np.linalg.norm(dequantise(tensors[f"a.{path}"]) - a)
        assert error < 2e-4 * np.linalg.norm(a)


def test_what_is_scored_is_what_is_sent(tiny: Bench, trained: Trained) -> None:
    """The single variant's residuals are the dequantised integers, times the slot's own block."""
    tensors = packed(trained, tiny.spec)

    variant = Variant.of_contribution(tiny.spec, 2, TRIGGERS, tensors)

    for layer in tiny.spec.layers:
        residual = variant.residuals[layer.path]
        np.testing.assert_array_equal(residual.up, dequantise(tensors[f"a.{layer.path}"]))
        gram = residual.down @ residual.down.T
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-6)


def test_an_upload_is_at_most_55_percent_of_a_lora(tiny: Bench) -> None:
    """Only A travels; probes, vectors, exponents and header are the rest. SD-1-sized layers."""
    wide = [replace(layer, out=320, width=768) for layer in tiny.spec.layers]
    spec = replace(tiny.spec, layers=tuple(wide), ranks=((768, 8),))

    assert ContributionLayout(spec, (2,)).size <= 0.55 * lora_bytes(spec)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e4])
def test_values_that_cannot_travel_are_refused(tiny: Bench, trained: Trained, value: float) -> None:
    """A training that went wrong ends here, with a next step, not at the coordinator."""
    path, a = next(iter(trained.a.items()))
    spoilt = a.copy()
    spoilt[0, 0] = value

    with pytest.raises(InputError, match="lower the learning rate"):
        packed(replace(trained, a={**trained.a, path: spoilt}), tiny.spec)


def test_a_manifest_that_no_command_could_read_is_never_written(
    tiny: Bench, trained: Trained, tmp_path: Path
) -> None:
    """The packed files appear with a manifest that keeps every rule, or not at all."""
    names, vectors = ("anna-k7",), vectors_of(TRIGGERS)
    session = Session("anna-k7", names, vectors, "person", "12" * 16, 1, "trained", 0, fence=1)
    files, key = PackedContribution(tmp_path, tiny.spec, "5" * 64), SigningKey.from_seed(b"a" * 32)
    tensors = packed(trained, tiny.spec)

    with pytest.raises(VerificationFailed, match="licence"):
        files.write(session, tensors, key, title=None, licence="CC BY 4.0")

    assert list(tmp_path.iterdir()) == []
    files.write(session, tensors, key, title=None, licence="CC-BY-4.0")
    assert (tmp_path / MANIFEST).is_file()
