"""Passes in float16: the loss is scaled, nothing is learnt from an overflow, a resume loses no bit.

Scaling runs on the CPU too, so all of it is tested here; only its speed needs a GPU.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from orthofed.client.base import Base
from orthofed.client.checkpoint import TrainingSaves
from orthofed.client.optimisation import Group, Optimisation
from orthofed.client.placement import Gpu, Machine, Placement
from orthofed.client.step import Step
from orthofed.client.trained import Trained
from orthofed.client.training import identity_of, train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.core.errors import InputError, OrthoFedError

from .tiny_concept import NOUN, SETTINGS, Bench, bench

TRIGGERS = [Trigger("anna-k7")]


class _Pulled:
    """Six numbers that are pulled to 1; a pull may be too strong for float16."""

    def __init__(self, **changes: object) -> None:
        settings = replace(
            TrainingSettings(steps=40, warmup_steps=2, precision="fp16", ema_decay=0.9), **changes
        )
        self.a, self.tokens = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
        self.optimisation = Optimisation(
            [Group({"a": self.a}, 1e-2), Group({"tokens": self.tokens}, 1e-1)], settings
        )

    def step(self, number: int, *, strength: float = 1.0) -> bool:
        loss = strength * (torch.cat([self.a, self.tokens]) - 1).square().sum()
        self.optimisation.scaled(loss).backward()
        return self.optimisation.step(number)

    def scale(self) -> float:
        return self.optimisation.state()[1]["scaler/scale"]

    def bits(self) -> list[np.ndarray]:
        tensors, _ = self.optimisation.state()
        return [tensors[name] for name in sorted(tensors)]


def _same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_scaling_alone_changes_no_bit() -> None:
    """The scale is a power of two: with and without it every number of the state is the same."""
    scaled, plain = _Pulled(), _Pulled(precision="fp32")

    for number in range(20):
        assert scaled.step(number)
        assert plain.step(number)

    assert _same(scaled.bits(), plain.bits())
    assert np.abs(scaled.bits()[0]).max() > 0


def test_a_step_that_overflows_is_skipped_and_the_scale_halved() -> None:
    """Parameters, moments, averages and AdamW's count stay as they were; the next step counts."""
    pulled = _Pulled()
    pulled.step(0)
    before, scale = pulled.bits(), pulled.scale()

    assert not pulled.step(1, strength=1e38)

    assert _same(before, pulled.bits())
    assert pulled.scale() == scale / 2
    assert pulled.step(2)
    assert not np.array_equal(before[0], pulled.bits()[0])


def test_gradients_are_clipped_after_the_scale_is_taken_off() -> None:
    """A norm of 0.22 is below the bound of 1 and stays, though its scaled self is 14,000."""
    pulled = _Pulled(clip_norm=1.0)
    seen: list[torch.Tensor] = []
    inner = pulled.optimisation._optimisers[0]
    inner.register_step_pre_hook(
        lambda *_: seen.extend(p.grad.clone() for g in inner.param_groups for p in g["params"])
    )

    pulled.step(0, strength=0.0625)

    assert torch.equal(seen[0], torch.full((3,), -0.125))


def test_a_scale_that_falls_to_nothing_is_an_error_with_the_fix() -> None:
    """Thirty overflows in a row and one more: step, scale and bound are named."""
    pulled = _Pulled()

    with pytest.raises(OrthoFedError, match=r"fell to 3\.1e-05 at step 31") as caught:
        any(pulled.step(number, strength=float("inf")) for number in range(40))

    assert caught.value.code == "loss-scale-gone"
    assert "set precision = 'bf16'" in caught.value.fix


def test_scale_and_its_count_are_part_of_the_save() -> None:
    """Resumed behind an overflow: the same scale, and the same bits as if it had never stopped."""
    whole, begun, resumed = _Pulled(), _Pulled(), _Pulled()
    strengths = [1.0, 1e38, 1e38, *(1.0 for _ in range(17))]
    for number, strength in enumerate(strengths):
        whole.step(number, strength=strength)
        if number < 8:
            begun.step(number, strength=strength)

    resumed.optimisation.restore(*begun.optimisation.state())
    for number in range(8, 20):
        resumed.step(number)

    assert resumed.optimisation.state()[1] == whole.optimisation.state()[1]
    assert resumed.scale() == 65536 / 4
    assert whole.optimisation.state()[1]["scaler/_growth_tracker"] == 17
    assert _same(resumed.bits(), whole.bits())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("fp16"))


def test_float16_passes_train_float32_factors_and_resume_with_the_same_bits(
    tiny: Bench, tmp_path: Path
) -> None:
    """Real passes, slow on a CPU: near fp32's losses; stopped behind a step that was skipped."""
    held = replace(Placement(torch.device("cpu")), dtype=torch.float16)
    base = Base.load(tiny.base.folder, placement=held)
    settings = replace(SETTINGS, steps=4, precision="fp16")
    skipped: list[bool] = []

    def run(folder: Path, *, stop: int) -> Trained:
        identity = identity_of(tiny.spec, 0, TRIGGERS, NOUN, tiny.images, settings)

        def on_step(step: Step) -> None:
            skipped.append(step.skipped)
            if step.number == stop:
                raise TimeoutError

        saves = TrainingSaves(folder, identity)
        parts = (base, tiny.spec, 0, TRIGGERS, NOUN, tiny.images, settings)
        return train(*parts, on_step=on_step, saves=saves)

    whole = run(tmp_path / "whole", stop=9)
    with pytest.raises(TimeoutError):
        run(tmp_path / "cut", stop=2)
    resumed = run(tmp_path / "cut", stop=9)

    assert skipped[:2] == skipped[4:6]
    assert resumed.resumed_at == 2
    assert all(np.array_equal(a, resumed.a[path]) for path, a in whole.a.items())
    assert np.allclose(whole.losses, tiny.train(steps=4).losses, rtol=0.05)


def test_float16_on_a_cpu_is_refused_with_what_is_allowed() -> None:
    """Measured: a convolution takes hundreds of times as long. A GPU of any age takes it."""
    with pytest.raises(InputError, match="precision = 'fp16' on cpu, allowed is fp32 or bf16") as e:
        Placement.of("auto", "fp16", Machine())
    assert e.value.code == "precision-not-there"
    assert "set precision = 'bf16' or 'fp32'" in e.value.fix

    old = Machine((Gpu("GTX 1080", bf16=False),))
    assert Placement.of("auto", "fp16", old).dtype == torch.float16
