"""Where a training runs: which device, in which type, and that nothing is left behind on the CPU.

No GPU is needed: real code runs on a base that lies on a device without values (ghost_device.py).
What needs a real one is marked `gpu`.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from orthofed.client.base import Base
from orthofed.client.checkpoint import TrainingSaves
from orthofed.client.dataset import ConceptImages
from orthofed.client.placement import ON_CPU, Gpu, Machine, Placement
from orthofed.client.probe import probe
from orthofed.client.sample import compare
from orthofed.client.score import Scorer
from orthofed.client.step import Step
from orthofed.client.trained import Trained
from orthofed.client.training import identity_of, train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Residual, Variant
from orthofed.client.workbench import Workbench
from orthofed.core.dp_claim import DpClaim
from orthofed.core.errors import InputError
from orthofed.core.token_layers import token_layers

from .ghost_device import GHOST, GhostDevice
from .tiny_concept import NOUN, SETTINGS, Bench, bench, write_images
from .tiny_families import tiny_sdxl

OLD, NEW = Gpu("GTX 1080", bf16=False), Gpu("RTX 4090")
TRIGGERS = [Trigger("anna-k7")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("placement"))


@pytest.fixture
def ghost(tiny: Bench) -> Iterator[Bench]:
    """Give the bench with its base on the ghost device, in use."""
    there = replace(tiny, base=Base.load(tiny.base.folder, placement=GHOST))
    with GhostDevice():
        yield there


@pytest.mark.parametrize(
    ("asked", "machine", "device"),
    [
        ("auto", Machine(), "cpu"),
        ("auto", Machine(mps=True), "cpu"),
        ("auto", Machine((NEW, OLD)), "cuda:0"),
        ("cpu", Machine((NEW,)), "cpu"),
        ("cuda", Machine((NEW,)), "cuda:0"),
        ("cuda:1", Machine((NEW, NEW)), "cuda:1"),
        ("mps", Machine(mps=True), "mps"),
    ],
)
def test_the_setting_names_a_device_of_the_machine(
    asked: str, machine: Machine, device: str
) -> None:
    """`auto` is the first CUDA GPU, else the CPU; `cuda` is the first one."""
    assert Placement.of(asked, "fp32", machine) == Placement(torch.device(device))


def test_frozen_weights_are_held_in_the_type_of_the_passes_on_a_gpu_only() -> None:
    """On the CPU they stay float32: it casts as it goes, and memory is not what is short."""
    machine = Machine((NEW,))

    assert Placement.of("cuda", "bf16", machine).dtype == torch.bfloat16
    assert Placement.of("cuda", "fp32", machine).dtype == torch.float32
    assert Placement.of("cpu", "bf16", machine).dtype == torch.float32


@pytest.mark.parametrize(
    ("asked", "machine", "what", "fix"),
    [
        ("cuda:1", Machine((NEW,)), "here are: cpu, cuda:0 (RTX 4090)", "set device to one of"),
        ("cuda", Machine(), "here are: cpu", "set device to one of"),
        ("cuda", Machine(with_cuda=False), "here are: cpu", "install a CUDA build of torch"),
        ("mps", Machine((OLD,)), "here are: cpu, cuda:0 (GTX 1080)", "set device to one of"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    asked: str, machine: Machine, what: str, fix: str
) -> None:
    """Before anything is loaded; the error names every device of the machine."""
    with pytest.raises(InputError) as caught:
        Placement.of(asked, "fp32", machine)

    assert caught.value.code == "device-not-there"
    assert what in caught.value.what
    assert fix in caught.value.fix


@pytest.mark.parametrize("machine", [Machine((OLD,)), Machine(mps=True)], ids=["old", "mps"])
def test_a_precision_that_the_device_lacks_is_refused_with_one_that_it_has(
    machine: Machine,
) -> None:
    """bfloat16 on a GPU of before 2020 is emulated; on Apple's it was never tried."""
    with pytest.raises(InputError) as caught:
        Placement.of("cuda" if machine.gpus else "mps", "bf16", machine)

    assert caught.value.code == "precision-not-there"
    assert "'fp32'" in caught.value.fix
    assert ("'fp16'" in caught.value.fix) == bool(machine.gpus)


def test_the_owners_option_wins_and_is_refused_before_the_base_is_read(tiny: Bench) -> None:
    """`--device cuda:77`: no machine has it, and no folder is opened for it."""
    nowhere = Path("no-such-folder")
    desk = Workbench(tiny.spec, nowhere, nowhere, NOUN, device="cuda:77")

    with pytest.raises(InputError, match="device = 'cuda:77', here are: cpu") as caught:
        _ = desk.base
    assert caught.value.code == "device-not-there"

    with pytest.raises(InputError, match="allowed is auto or cpu or cuda or cuda:N or mps"):
        TrainingSettings(device="gpu")


def _shapes(trained: Trained) -> dict[str, tuple[int, ...]]:
    return {path: a.shape for path, a in trained.a.items()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"checkpointing": True, "accumulation": 2, "ema_decay": 0.9},
        {"min_snr_gamma": 5.0, "noise_offset": 0.1, "caption_dropout": 0.5, "null_weight": 0.0},
    ],
    ids=["plain", "recomputed", "weighted"],
)
def test_a_training_leaves_no_tensor_of_a_pass_on_the_cpu(
    ghost: Bench, changes: dict[str, Any]
) -> None:
    """Encoding, public states, passes, backward, optimiser, probes; any mixed operation fails."""
    trained = ghost.train(steps=2, **changes)

    assert _shapes(trained) == {layer.path: (layer.out, 4) for layer in ghost.spec.layers}
    assert all(a.dtype == np.float32 for a in trained.a.values())


def test_all_that_sdxl_and_the_presets_can_ask_for_follows_too(tmp_path: Path) -> None:
    """Sizes, pooled vector, end token; convolutions; a set of vectors for each cross-attention."""
    made = bench(tmp_path, tiny_sdxl, targets="all")
    places = token_layers(made.base.family.components["unet"].state_dict())
    spec = replace(made.spec, token_layers=places)
    there = replace(made, spec=spec, base=Base.load(made.base.folder, placement=GHOST))

    with GhostDevice():
        trained = there.train(steps=1, null_sampling_steps=1)

    assert _shapes(trained) == {layer.path: (layer.out, 4) for layer in made.spec.layers}


def test_text_states_that_wait_on_the_cpu_follow_too(tmp_path: Path) -> None:
    """Of public prompts, where no text encoder is adapted; with pooled vectors beside them."""
    made = bench(tmp_path, tiny_sdxl, targets="unet")
    there = replace(made, base=Base.load(made.base.folder, placement=GHOST))

    with GhostDevice():
        trained = there.train(steps=1, null_sampling_steps=1)

    assert _shapes(trained) == {layer.path: (layer.out, 4) for layer in made.spec.layers}


def test_images_with_masks_and_of_many_shapes_follow_too(ghost: Bench, tmp_path: Path) -> None:
    """Each bucket's masks and public states are moved with its passes, class images with theirs."""
    folder = write_images(tmp_path / "images", 8)
    Image.new("RGB", (60, 30), "red").save(folder / "00.png")
    Image.new("L", (20, 20), 255).save(folder / "01-masklabel.png")
    base = ghost.base
    images = ConceptImages.load(
        folder,
        size=base.image_size,
        noun=NOUN,
        step=base.image_step,
        class_folder=write_images(tmp_path / "class", 5),
    )
    settings = replace(SETTINGS, steps=3, prior_weight=1.0)

    trained = train(base, ghost.spec, 0, TRIGGERS, NOUN, images, settings)

    assert len(trained.losses) == 3


def test_gradients_of_single_images_and_their_noise_follow_too(ghost: Bench) -> None:
    """Under differential privacy copies, sums and noise are where A is; draws stay on the CPU."""
    claim = DpClaim(
        clip_milli=20,
        delta_e12=10**9,
        eps_milli=8_000,
        images=6,
        q_ppm=10**6,
        sigma_milli=500,
        steps=2,
    )
    settings = replace(SETTINGS, steps=2, dp_epsilon=8.0)

    trained = train(ghost.base, ghost.spec, 0, TRIGGERS, NOUN, ghost.images, settings, dp=claim)

    assert _shapes(trained) == {layer.path: (layer.out, 4) for layer in ghost.spec.layers}


def test_a_step_is_read_once(tiny: Bench) -> None:
    """Whatever the passes: two steps more are two reads more, each of which waits for the GPU."""
    there = replace(tiny, base=Base.load(tiny.base.folder, placement=GHOST))

    def reads(steps: int) -> int:
        with GhostDevice() as device:
            there.train(steps=steps, accumulation=2, null_weight=0.0)
        return device.reads

    assert reads(3) - reads(1) == 2


def test_scores_pictures_and_the_dry_run_follow_the_base(ghost: Bench) -> None:
    """Before, beside and after the training; pixels come back to the CPU."""
    probed = probe(ghost.base, ghost.spec, TRIGGERS, NOUN, ghost.images, SETTINGS)
    scorer = Scorer.on(ghost.base, ghost.images.held_out, num_draws=8)
    residuals = {
        layer.path: Residual(np.zeros((layer.out, 4), "f4"), np.zeros((4, layer.width), "f4"))
        for layer in ghost.spec.layers
    }

    assert probed.seconds_per_step > 0
    assert scorer.loss(Variant(residuals), "a fox") > 0
    assert ghost.base.images(torch.zeros(2, *ghost.base.latent_shape))[1].size == (16, 16)


def test_a_save_made_on_one_device_goes_on_on_another(tiny: Bench, tmp_path: Path) -> None:
    """Made on the CPU, restored on the ghost: nothing of the optimiser stays behind."""
    settings = replace(SETTINGS, steps=4, ema_decay=0.9, save_every_s=0.0)

    def run(device: str, there: Base, *, stop: int) -> Trained | None:
        chosen = replace(settings, device=device)
        identity = identity_of(tiny.spec, 0, TRIGGERS, NOUN, tiny.images, chosen)
        saves = TrainingSaves(tmp_path, identity)

        def on_step(step: Step) -> None:
            if step.number == stop:
                raise TimeoutError

        return train(
            there,
            tiny.spec,
            0,
            TRIGGERS,
            NOUN,
            tiny.images,
            chosen,
            on_step=on_step,
            saves=saves,
        )

    with pytest.raises(TimeoutError):
        run("cpu", tiny.base, stop=2)
    with GhostDevice():
        trained = run("cuda", Base.load(tiny.base.folder, placement=GHOST), stop=9)

    assert trained is not None
    assert trained.resumed_at == 2
    assert len(trained.losses) == 4


def test_a_base_held_in_16_bits_trains_float32_factors(tiny: Bench) -> None:
    """As on a GPU, here on the CPU: networks in bfloat16, the VAE, A and vectors in float32."""
    there = Base.load(tiny.base.folder, placement=replace(ON_CPU, dtype=torch.bfloat16))
    scorer = Scorer.on(there, tiny.images.held_out, num_draws=64)

    held = replace(tiny, base=there).train(precision="bf16")
    exact = tiny.train()

    networks = there.family.components.values()
    assert {p.dtype for network in networks for p in network.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in there.vae.parameters()} == {torch.float32}
    assert all(a.dtype == np.float32 for a in held.a.values())
    assert held.losses != exact.losses
    assert np.allclose(held.losses, exact.losses, rtol=0.05)
    assert scorer.base_loss(NOUN) == pytest.approx(
        Scorer.on(tiny.base, tiny.images.held_out, num_draws=64).base_loss(NOUN), rel=0.02
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_learns_what_the_cpu_learns(tiny: Bench, precision: str) -> None:
    """The same draws: losses within a rounding of the CPU's, and the same bits when repeated."""
    settings = TrainingSettings(precision=precision)  # pyright: ignore[reportArgumentType]
    placement = Placement.of("cuda", settings.precision, Machine.here())
    there = replace(tiny, base=Base.load(tiny.base.folder, placement=placement))

    first, again = (there.train(precision=precision) for _ in range(2))

    assert np.allclose(first.losses, tiny.train().losses, rtol=0.05)
    assert all(np.array_equal(a, again.a[path]) for path, a in first.a.items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
def test_a_base_held_in_16_bits_on_a_gpu_draws_pictures(tiny: Bench) -> None:
    """Two from the same noise as on the CPU, by diffusers' own sampler."""
    placement = replace(Placement.of("cuda", "fp32", Machine.here()), dtype=torch.float16)
    there = Base.load(tiny.base.folder, placement=placement)
    ways: dict[str, Any] = {"count": 2, "steps": 3}

    far = compare(there, [Variant()], ["a fox"], **ways)
    near = compare(tiny.base, [Variant()], ["a fox"], **ways)

    for one, other in zip(far[0], near[0], strict=True):
        assert np.abs(np.asarray(one, "i4") - np.asarray(other, "i4")).mean() < 8
