"""What `--dp` claims, put to the test by who would deny it (T22).

Backs: "(epsilon, delta) per image, add or remove one, for what was sent, with this accountant and
this audit." The audit in its short form, its kept result, the statistic behind it; the accountant
has tests/test_dp_plan.py, what one image can move tests/test_noisy_gradient.py.
"""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytestmark = pytest.mark.long

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def statistic() -> ModuleType:
    spec = importlib.util.spec_from_file_location("one_run_audit", FOLDER / "one_run_audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("mode", ["sgd", "mean"])
def test_the_audit_stays_below_the_claim_and_sees_the_missing_noise(mode: str) -> None:
    """One seed: at most epsilon 3 as trained; above it with the noise off, the seeded control."""
    # A script finds its neighbours beside it, which PYTHONSAFEPATH would forbid.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    words = [sys.executable, str(FOLDER / "dp_audit.py"), "--json", "--seeds", "1", "--mode", mode]

    done = subprocess.run(
        [*words, "--images", "4"], check=True, capture_output=True, env=env, text=True
    )

    found = json.loads(done.stdout)
    results = found["results"]
    assert (results["claim"]["eps_milli"], results["canaries"]) == (3_000, 1_000)
    assert results["at_most_the_claim"] == 1
    assert results["above_the_claim_without_noise"] == 1
    for key in ("date", "command", "commit", "hardware", "threads", "versions"):
        assert found[key], key


@pytest.mark.parametrize("name", ["dp-audit-cpu-1", "dp-mean-audit-cpu-1"])
def test_the_kept_result_meets_the_aim(name: str) -> None:
    """20 of 20 seeds at most the claim; 18 of 20 or more above it without noise."""
    results = json.loads((FOLDER / "results" / f"{name}.json").read_bytes())["results"]

    assert results["seeds"] == results["at_most_the_claim"] == 20
    assert results["above_the_claim_without_noise"] >= 18


def test_without_delta_the_bound_is_the_binomial_one(statistic: ModuleType) -> None:
    """All of r right: p^r = .05 at the bound, so epsilon is the odds of .05^(1/r)."""
    accuracy = 0.05 ** (1 / 1_000)

    bound = statistic.lower_bound(1_000, 1_000, 1_000, delta=0.0)

    assert bound == pytest.approx(math.log(accuracy / (1 - accuracy)), abs=1e-6)
    assert bound == pytest.approx(5.81, abs=0.01)
    assert statistic.lower_bound(1_000, 400, 200, delta=0.0) == 0
    assert statistic.lower_bound(1_000, 1_000, 1_000, delta=1e-5) < bound


def test_randomised_response_is_seldom_refuted(statistic: ModuleType) -> None:
    """Who answers as (2, 0) allows is above 2 in 5 % of runs at most, and near it in most."""
    random, accuracy = np.random.default_rng(1), 1 / (1 + math.exp(-2))

    bounds = [
        statistic.lower_bound(1_000, 1_000, int(random.binomial(1_000, accuracy)), delta=0.0)
        for _ in range(200)
    ]

    assert np.mean(np.array(bounds) > 2) <= 0.08
    assert np.median(bounds) > 1.7


def test_guesses_are_made_at_both_ends(statistic: ModuleType) -> None:
    """The highest are said to have taken part, the lowest not; the middle is left out."""
    scores = np.array([5.0, -3.0, 0.1, 4.0, -2.0])
    took_part = np.array([True, False, True, False, False])

    assert statistic.right_guesses(scores, took_part, 4) == 3
    assert statistic.right_guesses(-scores, took_part, 4) == 1
