"""Will it fit: five steps say what a training costs, before a slot is leased for it."""

import gc
import os
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from orthofed.client.memory import MemoryWatch
from orthofed.client.out_of_memory import told_when_out_of_memory
from orthofed.client.probe import Probed, probe
from orthofed.client.trigger import Trigger
from orthofed.core.errors import OrthoFedError

from .tiny_concept import NOUN, SETTINGS, Bench, bench

TRIGGERS = [Trigger("anna-k7")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("probe"))


def _probed(tiny: Bench, **changes: object) -> Probed:
    settings = replace(SETTINGS, **changes)
    return probe(tiny.base, tiny.spec, TRIGGERS, NOUN, tiny.images, settings)


def test_the_cost_of_the_whole_training_follows_from_a_step(tiny: Bench) -> None:
    """Ten times the steps, ten times the time; without public states nothing comes on top."""
    found = _probed(tiny, steps=1000, null_weight=0.0)

    assert found.seconds_per_step > 0
    assert found.total_s == pytest.approx(1000 * found.seconds_per_step)
    assert found.free_bytes > 0
    found.check(SETTINGS, hold_s=10**9)


def test_public_states_are_counted_a_third_of_a_passs_latent_each(tiny: Bench) -> None:
    """Two class images of two steps and two states of six images: 16 forward passes of one."""
    found = _probed(tiny, steps=10, accumulation=3)

    passes = 10 + 16 / (3 * (SETTINGS.batch + SETTINGS.null_batch)) / 3
    assert found.total_s == pytest.approx(passes * found.seconds_per_step)


def test_class_images_are_counted_two_passes_a_step_each(tiny: Bench) -> None:
    """Eight of three steps: 48 forward passes of one latent, and each pass has class images too."""
    found = _probed(
        tiny, steps=10, null_weight=0.0, prior_weight=1.0, prior_images=8, prior_steps=3
    )

    passes = 10 + 48 / (2 * SETTINGS.batch) / 3
    assert found.total_s == pytest.approx(passes * found.seconds_per_step)


def test_the_probe_changes_no_bit_of_what_is_trained(tiny: Bench) -> None:
    """The same A with and without, and the base as it was."""
    plain = tiny.train()

    _probed(tiny, checkpointing=True)
    probed = tiny.train()

    assert all(np.array_equal(a, probed.a[path]) for path, a in plain.a.items())
    assert not tiny.base.family.denoiser.is_gradient_checkpointing


def test_a_training_that_outlasts_its_lease_is_refused_with_what_to_change(tiny: Bench) -> None:
    """100,000 steps, and a lease of at most 5 s: measured, allowed, the steps that fit."""
    settings = replace(SETTINGS, steps=100_000)
    found = probe(tiny.base, tiny.spec, TRIGGERS, NOUN, tiny.images, settings)

    with pytest.raises(OrthoFedError, match="70% of the 5 s that a lease may be held") as caught:
        found.check(settings, hold_s=5)

    assert caught.value.code == "takes-too-long"
    assert f"{found.total_s:.0f} s" in caught.value.what
    assert f"set steps = {int(100_000 * 3.5 / found.total_s)}" in caught.value.fix
    assert "set batch = 2" in caught.value.fix


@pytest.mark.parametrize(("peak", "fits"), [(90, True), (91, False)])
def test_nine_tenths_of_the_free_memory_is_the_bound(peak: int, fits: bool) -> None:
    """At the bound it passes; above it, both figures and the four settings that help are named."""
    found = Probed(0.1, 1.0, peak * 10**9, 100 * 10**9)

    if fits:
        found.check(SETTINGS, hold_s=60)
        return
    with pytest.raises(OrthoFedError, match=r"a step takes 91\.00 GB of memory, 90%") as caught:
        found.check(SETTINGS, hold_s=60)
    assert caught.value.code == "does-not-fit"
    for setting in ("checkpointing = true", "batch = 2", "accumulation = 2", 'precision = "bf16"'):
        assert setting in caught.value.fix


def test_what_cannot_be_made_smaller_is_not_advised() -> None:
    """Everything is at its least already: the advice names something else."""
    least = replace(SETTINGS, batch=1, null_batch=1, precision="bf16", checkpointing=True)

    with pytest.raises(OrthoFedError) as caught:
        Probed(0.1, 1.0, 10, 1).check(least, hold_s=60)

    assert caught.value.fix == "use smaller images or a base model of smaller size"


def test_the_watch_sees_what_was_taken_and_given_back() -> None:
    """400 MB in the block, none of it left afterwards; free memory is what was before.

    The bounds leave room for what other tests left behind and the system takes back meanwhile.
    """
    gc.collect()

    with MemoryWatch(torch.device("cpu")) as watch:
        block = torch.ones(100_000_000)
        time.sleep(0.1)  # several looks at the whole block
        del block

    assert 300_000_000 <= watch.peak_bytes <= 600_000_000
    assert watch.free_bytes > 400_000_000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_watch_sees_a_gpus_memory() -> None:
    """200 MB in the block, as torch's allocator reserves them."""
    with MemoryWatch(torch.device("cuda")) as watch:
        block = torch.ones(50_000_000, device="cuda")
        del block

    assert 190_000_000 <= watch.peak_bytes <= 400_000_000
    assert watch.free_bytes > 0


# Python 3.12 warns of a fork beside threads; the child only fails to allocate, and leaves.
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_step_that_finds_no_memory_ends_with_advice_and_the_saves_stay(
    tiny: Bench, tmp_path: Path
) -> None:
    """A real limit on the address space, in a process of its own: no traceback but three parts."""
    process = os.fork()
    if not process:
        code = 1
        try:
            in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            most = in_use + 30_000_000
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            _probed(tiny, batch=1024)
        except OrthoFedError as error:
            (tmp_path / "said").write_text(f"{error.code}\n{error}")
            code = 0
        finally:
            os._exit(code)
    os.waitpid(process, 0)

    said = (tmp_path / "said").read_text()
    assert said.startswith("out-of-memory\nno memory was left at batch 1024")
    assert "set batch = 512 and accumulation = 2" in said


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("could not create a primitive"),
    ],
    ids=["python", "gpu", "cpu", "onednn"],
)
def test_every_spelling_of_out_of_memory_is_understood(error: Exception) -> None:
    """Any other RuntimeError stays what it is."""
    caught = pytest.raises(OrthoFedError, match="no memory was left")
    with caught as said, told_when_out_of_memory(SETTINGS):
        raise error
    assert said.value.code == "out-of-memory"

    with pytest.raises(RuntimeError, match="shapes"), told_when_out_of_memory(SETTINGS):
        raise RuntimeError("shapes do not match")
