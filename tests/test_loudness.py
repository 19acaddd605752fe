"""T12: one that is far louder than the federation's others waits, early or late."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orthofed.core.loudness import LEAST, loudness_percent

from .lenient import ANYTHING
from .serving import founded, running
from .test_admission import admissions, contributed

NAMES = ("anna", "bert", "cleo", "dora", "emil")
POLICY = replace(ANYTHING, norm_percent=100_000, loudness_percent=250)


@pytest.fixture
def coordinator(tmp_path):
    with running(founded(tmp_path, rank=2, policy=POLICY)) as started:
        yield started


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_what_is_multiplied_is_so_much_louder(seed: int, factor: float) -> None:
    """The law of the attack that only turns everything up."""
    random = np.random.default_rng(seed)
    others = random.lognormal(size=(8, 20)).tolist()
    layers = random.lognormal(size=20)

    before, after = (loudness_percent(each.tolist(), others) for each in (layers, factor * layers))

    assert after == pytest.approx(factor * before, rel=1e-2, abs=0.2)


def test_neither_one_layer_nor_two_loud_others_decide():
    """A layer that a concept needs much of is honest; loud ones must not make room for more."""
    others = [[1.0] * 9] * 4

    assert loudness_percent([50.0] * 4 + [1.0] * 5, [*others, [1.0] * 9]) == 100.0
    assert loudness_percent([4.0] * 9, [*others, [1.0] * 9, [9.0] * 9, [9.0] * 9]) == 400.0


def test_few_or_silent_others_say_nothing():
    """Zero and too few are named cases."""
    assert loudness_percent([9.0], [[1.0]] * (LEAST - 1)) == 0.0
    assert loudness_percent([9.0], [[0.0]] * LEAST) == 0.0


def test_one_three_times_as_loud_is_quarantined_and_one_twice_as_loud_is_not(coordinator):
    """Its owner reads measure, bound and advice."""
    for name in NAMES:
        contributed(coordinator, name)

    loud, lease, leaf = contributed(coordinator, "fern", size=0.06)
    fine, its, _ = contributed(coordinator, "gino", size=0.04)

    assert loud.status(lease).state == "quarantined"
    assert "allowed are 250 %" in loud.status(lease).why
    assert fine.status(its).state == "accepted"
    assert admissions(coordinator) == [(leaf, "quarantined", "norm-outlier")]


def test_one_that_came_loud_before_all_others_is_found_at_the_release(coordinator):
    """It had nothing to be measured by; what the operator approved stays in."""
    loud, lease, leaf = contributed(coordinator, "loud", size=0.09)
    _, _, approved = contributed(coordinator, "mira", size=0.09)
    coordinator.desk.ask("approve", {"leaf": approved})
    for name in NAMES:
        contributed(coordinator, name)
    before = loud.status(lease).state

    made = coordinator.release()

    assert before == "accepted"
    assert loud.status(lease).state == "quarantined"
    assert made["concepts"] == 6
    assert (leaf, "quarantined", "norm-outlier") in admissions(coordinator)
