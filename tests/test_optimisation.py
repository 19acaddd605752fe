"""The optimiser's bookkeeping: rates by group, averages, and a state that gives the same bits."""

import sys

import pytest
import torch
from torch import nn

from orthofed.client.optimisation import Group, Optimisation
from orthofed.client.training_settings import TrainingSettings
from orthofed.core.errors import InputError


class _Pair:
    """Two parameters that are pulled to (1, 1, 1), as an image would pull A."""

    def __init__(self, settings: TrainingSettings) -> None:
        self.a, self.tokens = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
        groups = [
            Group({"a": self.a}, settings.rate, settings.weight_decay),
            Group({"tokens": self.tokens}, settings.token_rate),
        ]
        self.optimisation = Optimisation(groups, settings)

    def run(self, begin: int, end: int) -> None:
        for number in range(begin, end):
            pulled = torch.cat([self.a, self.tokens])
            (pulled - 1).square().sum().backward()
            self.optimisation.step(number)


def _settings(**changes: object) -> TrainingSettings:
    return TrainingSettings(**{"steps": 20, "warmup_steps": 2, "clip_norm": 0.0, **changes})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("optimiser", ["adamw", "prodigy"])
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_restored_state_goes_on_with_the_same_bits(optimiser: str, ema_decay: float) -> None:
    """Every number that the next step reads is in the state, those of Prodigy too."""
    settings = _settings(optimiser=optimiser, ema_decay=ema_decay, weight_decay=0.1)
    whole, begun, resumed = (_Pair(settings) for _ in range(3))
    whole.run(0, 20)
    begun.run(0, 7)

    resumed.optimisation.restore(*begun.optimisation.state())
    resumed.run(7, 20)

    assert torch.equal(resumed.a, whole.a)
    assert not torch.equal(begun.a, whole.a)
    with resumed.optimisation.averaged(), whole.optimisation.averaged():
        assert torch.equal(resumed.tokens, whole.tokens)


def test_each_group_has_its_rate() -> None:
    """Adam's first step is its rate: tokens go a hundred times as far as A."""
    pair = _Pair(_settings(rate=1e-4, token_rate=1e-2, warmup_steps=0, schedule="constant"))

    pair.run(0, 1)

    assert torch.allclose(pair.a, torch.full((3,), 1e-4), rtol=1e-3)
    assert torch.allclose(pair.tokens, torch.full((3,), 1e-2), rtol=1e-3)


def test_clipping_bounds_the_gradient_of_each_group_alone() -> None:
    """A group of small gradients is not shrunk because another group's are large."""
    pair = _Pair(_settings(clip_norm=1.0))
    pair.a.grad, pair.tokens.grad = torch.full((3,), 10.0), torch.full((3,), 0.1)
    seen: list[torch.Tensor] = []
    inner = pair.optimisation._optimisers[0]
    inner.register_step_pre_hook(
        lambda *_: seen.extend(p.grad.clone() for g in inner.param_groups for p in g["params"])
    )

    pair.optimisation.step(0)

    assert seen[0].norm().item() == pytest.approx(1.0, rel=1e-4)
    assert torch.equal(seen[1], torch.full((3,), 0.1))


def test_the_average_is_between_the_start_and_the_end_and_the_run_goes_on_unmoved() -> None:
    """Inside `averaged` the parameters are the averages, outside they are what was trained."""
    pair = _Pair(_settings(ema_decay=0.99))
    pair.run(0, 20)
    trained = pair.tokens.detach().clone()

    with pair.optimisation.averaged():
        average = pair.tokens.detach().clone()

    assert torch.equal(pair.tokens, trained)
    assert (average > 0).all()
    assert (average < trained).all()


def test_an_optimiser_that_is_not_there_is_an_error_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The extra is not installed; the 8-bit one has no kernels on a CPU."""
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(InputError, match="prodigyopt is not installed") as caught:
        _Pair(_settings(optimiser="prodigy"))
    assert "pip install prodigyopt" in caught.value.fix

    with pytest.raises(InputError, match="adamw8bit") as caught:
        _Pair(_settings(optimiser="adamw8bit"))
    assert caught.value.code == "optimiser-needs-a-gpu"
