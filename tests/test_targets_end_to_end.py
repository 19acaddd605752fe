"""Other layers, and quiet columns: from images to a checked release, by commands."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.release_score import score_release
from orthofed.client.state import BLOB
from orthofed.client.train_command import train_concept
from orthofed.client.train_options import TrainOptions
from orthofed.core.layout import ContributionLayout, unpack
from orthofed.core.lorafile import kohya_key
from orthofed.core.merge import Term, residual
from orthofed.core.spec import FederationSpec
from orthofed.core.targets import tensor_names

from .coordinator_process import Coordinator, run
from .tiny_release import block_of
from .training_owner import furnished

OPTIONS = {
    "all": ("--targets", "all", "--rank", "4"),
    "unet": ("--targets", "unet", "--rank", "4"),
    "quiet": ("--rank", "4", "--capacity", "3", "--quiet-columns", "shipped"),
}


@pytest.fixture(scope="module", params=sorted(OPTIONS))
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder for a federation; its name says what it is founded with."""
    folder = tmp_path_factory.mktemp("targets") / request.param
    folder.mkdir()
    return furnished(folder)


@pytest.fixture(scope="module")
def coordinator(place: Path) -> Iterator[Coordinator]:
    with Coordinator.found(place / "fed", place / "base", *OPTIONS[place.name]) as running:
        yield running


def test_a_concept_in_every_layer_of_a_preset_goes_from_images_to_a_checkpoint(
    place: Path, coordinator: Coordinator
) -> None:
    """Lease, train, upload, release, pull, verify, score; the checkpoint is base + A B^T."""
    home = Home.at(place / "home")
    join(home, coordinator.invite(), url=None, patience_s=20)
    options = TrainOptions(
        concept="wolf-a1",
        noun="fox",
        images=place / "images",
        base=place / "base",
        config=place / "quick.toml",
    )

    session = train_concept(home, options, report=lambda _: None, ask=lambda _: True, patience_s=20)
    coordinator.release()
    out = place / "release"
    run("pull", coordinator.link(), "-o", str(out), "--contributions")
    run("verify", str(out), "--rebuild", "--base", str(place / "base"))
    run("audit", str(out / "checkpoint"), "--release", str(out), "--base", str(place / "base"))
    found = score_release(
        home, "wolf-a1", images=options.images, base=place / "base", release=out, lambdas=(1.0,)
    ).score

    spec = FederationSpec.from_bytes((place / "fed" / "public" / "spec.json").read_bytes())
    assert any(layer.order for layer in spec.layers) == (place.name == "quiet")
    layout = ContributionLayout(spec, session.vectors)
    tensors = unpack(layout, (home.run("wolf-a1") / BLOB).read_bytes())
    names = {"unet": "diffusion_pytorch_model", "text_encoder": "model"}
    files = {
        (root, part): load_file(root / part / f"{name}.safetensors")
        for root in (place / "base", out / "checkpoint")
        for part, name in names.items()
    }
    (lora,) = (load_file(path) for path in (out / "concepts").glob("*.safetensors"))
    for layer in spec.layers:
        a = tensors[f"a.{layer.path}"]
        term = Term(a.q, a.exponent, 1024, block_of(spec, layer.path, session.slot))
        dw = residual([term], family=spec.basis, width=layer.width, out=layer.out)
        component = layer.path.partition(".")[0]
        name = tensor_names(layer.path)[0]
        before = files[place / "base", component][name]
        after = files[out / "checkpoint", component][name]
        assert before.shape == after.shape == layer.shape
        exact = before.astype(np.float64) + dw.reshape(layer.shape)
        assert np.array_equal(after, exact.astype(before.dtype)), layer.path
        key = kohya_key(layer.path)
        assert lora[f"{key}.lora_down.weight"].shape[1:] == layer.shape[1:]
        assert lora[f"{key}.lora_up.weight"].shape[2:] == (1,) * len(layer.kernel)
        assert np.abs(dw).max() > 0, layer.path
    assert found.loss_single == pytest.approx(found.loss_merged[1.0], rel=1e-3)
    assert found.loss_single != found.loss_base
