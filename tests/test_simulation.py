"""`orthofed simulate`: nothing is lost, nothing bad is taken, one seed gives one sum."""

import datetime as dt
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orthofed.core.errors import InputError
from orthofed.simulation import circumstances
from orthofed.simulation.outcome import outcome
from orthofed.simulation.plan import Plan
from orthofed.simulation.scenario import ILLS, Scenario
from orthofed.simulation.toy import Toy

pytestmark = pytest.mark.long


def run(*words: str, code: int = 0, **environment: str) -> dict[str, Any]:
    """Run the command to its end and return what it prints."""
    command = [sys.executable, "-P", "-m", "orthofed", "simulate", "--json", *words]
    environment = {**os.environ, **environment}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env=environment
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return a run in which nothing goes wrong; a client that loads torch would not come far."""
    trap = tmp_path_factory.mktemp("trap")
    (trap / "torch.py").write_text('raise RuntimeError("the clients of a toy need no torch")\n')
    return run("--clients", "8", "--seed", "3", PYTHONPATH=str(trap))


def test_deaths_and_engines_leave_the_sums_alone(quiet):
    """Half are killed in training and come back, then Flower runs the same: one release each."""
    killed = run("--clients", "8", "--seed", "3", "--faults", "0.5")
    by_flower = run("--clients", "8", "--seed", "3", "--engine", "flower", "--faults", "0.25")

    assert killed["fates"] == {"plain": 4, "returns": 4}
    assert quiet["contributions"] == killed["contributions"] == by_flower["contributions"] == 8
    sums = [each["releases"][0]["tensors_sha256"] for each in (quiet, killed, by_flower)]
    assert len(set(sums)) == 1


def test_the_report_adds_up(quiet):
    """Leaves, bytes, waits and retention are those of eight clients that all arrived."""
    assert quiet["states"] == {"accepted": 8}
    assert quiet["leased"] == 8
    assert dt.date.fromisoformat(quiet["date"]) <= dt.datetime.now(dt.UTC).date()
    assert re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?|unknown", quiet["commit"])
    assert quiet["hardware"]
    assert quiet["lost"] == quiet["bad_taken"] == quiet["findings"] == []
    # Spec and keyring, leases, contributions, the release.
    assert quiet["ledger_leaves"] == 2 + 8 + 8 + 1
    assert quiet["upload_bytes"] > 8 * 4 * 256 * 2
    assert 0 <= quiet["lease_wait_s"]["median"] <= quiet["receipt_wait_s"]["median"]
    (release,) = quiet["releases"]
    assert release["retention"]["concepts"] == release["concepts"] == 8
    assert 0.5 < release["retention"]["worst"] <= release["retention"]["median"] < 1.1


def test_the_costs_are_those_of_the_first_concepts(quiet):
    """Bytes grow by the concept, the last row is the release itself, one alone keeps most."""
    (release,) = quiet["releases"]
    counts = [each["concepts"] for each in quiet["costs"]]
    sent = [each["upload_bytes"] for each in quiet["costs"]]
    first, last = quiet["costs"][0], quiet["costs"][-1]

    assert counts == [1, 2, 4, 8]
    assert sent == [count * sent[0] for count in counts]
    assert sent[-1] == quiet["upload_bytes"]
    kept = {"concepts": 8, **{key: last[key] for key in ("median", "mean", "worst")}}
    assert kept == release["retention"]
    assert 0 < release["lora_bytes"] - last["lora_bytes"] < 20_000  # its header
    assert abs(first["median"] - 1) < 0.01
    assert first["median"] > last["median"]


def test_each_way_to_mean_ill_is_refused_by_its_own_code():
    """Forty who mean ill, in five ways, beside ten honest ones: none of theirs is taken."""
    found = run("--clients", "50", "--bad", "0.8", "--seed", "1")

    assert found["states"] == {"accepted": 10}
    assert {ill: set(codes) for ill, codes in found["refused_by_ill"].items()} == {
        "huge": {"norm-too-large"},
        "copy": {"manifest-differs"},
        "other-block": {"wrong-block"},
        "cut-blob": {"blob-differs"},
        "squat": {"squatted"},
    }
    assert set(found["refused_by_ill"]) == set(ILLS)


def test_what_is_lost_or_taken_is_named():
    """A receipt whose contribution nobody lists, and a bad one that has no refusal."""
    plan = Plan(Path(), Scenario(clients=3), 1_024, 0.0)
    fate = {"fate": "plain", "ill": None, "arrived_s": 0.0, "leased_s": 1.0, "code": ""}
    told = {
        0: {**fate, "received_s": 2.0},
        1: {**fate, "received_s": 2.0},
        2: {**fate, "fate": "bad", "ill": "huge", "code": "taken"},
    }
    listed = [{"concept": "toy-00000", "state": "accepted"}]

    found = outcome(plan, told, [], listed, {"leaves": 4, "findings": []})

    assert found["lost"] == [1]
    assert found["bad_taken"] == [2]


def test_an_installed_package_names_no_other_repositorys_commit(tmp_path, monkeypatch):
    """A package in somebody's environment, whose project is a checkout, is of no known commit."""
    assert circumstances.commit() != "unknown" or not (circumstances._ROOT / ".git").exists()
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    installed = tmp_path / "site-packages"
    installed.mkdir()

    monkeypatch.setattr(circumstances, "_ROOT", installed)

    assert circumstances.commit() == "unknown"


def test_a_scenario_follows_from_its_seed():
    """The same seed casts the same; shares come out as asked; arrivals only grow."""
    one = Scenario(clients=200, seed=5, arrivals_s=0.5, slow=0.1, leaves=0.05, bad=0.1)
    cast = one.cast()

    assert cast == one.cast()
    assert cast != Scenario(clients=200, seed=6, arrivals_s=0.5, slow=0.1).cast()
    fates = [client.fate for client in cast]
    assert {fate: fates.count(fate) for fate in set(fates)} == {
        "slow": 20,
        "leaves": 10,
        "bad": 20,
        "plain": 150,
    }
    times = [client.arrives_s for client in cast]
    assert times == sorted(times)
    assert 0.3 < times[-1] / 200 < 0.8


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("clients = 0", "1 to 4096"),
        ("clients = true", "another type"),
        ("slow = 0.6\nbad = 0.6", "add up to 1.2"),
        ("arrival_s = 3", "the key arrival_s"),
        ("lambda = nan", "0 to 2"),
        ("clients = [", "Invalid"),
    ],
)
def test_a_bad_scenario_is_refused_with_value_and_bound(tmp_path, text, says):
    """Before a folder is made or a process started."""
    path = tmp_path / "scenario.toml"
    path.write_text(text)

    with pytest.raises(InputError, match=says):
        Scenario.read(path)


def test_more_clients_than_slots_are_refused(tmp_path):
    """4,096 columns are the widest toy."""
    path = tmp_path / "scenario.toml"
    path.write_text("clients = 100\nrank = 64\n")
    found = run("--scenario", str(path), code=2)

    assert found["error"]["code"] == "bad-scenario"


def _kept(toy: Toy, names: list[str], columns: list[int]) -> float:
    """Return the mean retention of toys that were learnt behind these columns of one O."""
    square = np.linalg.qr(np.random.default_rng(0).normal(size=(toy.width, toy.width)))[0]
    learnt = []
    for name, column in zip(names, columns, strict=True):
        block = square[:, [column]].astype(np.float32)
        learning = toy.learnt(name, dict.fromkeys(toy.weights, block), 60)
        for _ in range(learning.steps):
            learning.step()
        learnt.append((name, learning, block))
    kept = []
    for name, learning, block in learnt:
        single = {path: [(a, block.T)] for path, a in learning.a.items()}
        merged = {path: [(each.a[path], b.T) for _, each, b in learnt] for path in toy.weights}
        base = toy.loss(name, None, {})
        alone = toy.loss(name, learning.token, single)
        kept.append((base - toy.loss(name, learning.token, merged)) / (base - alone))
        assert alone < base / 50
    return float(np.mean(kept))


def test_the_toy_needs_disjoint_blocks():
    """Eight concepts, equally well learnt: own columns keep most, one shared column nothing."""
    toy = Toy.of(0, 1_024)
    names = [f"toy-{number:05d}" for number in range(8)]

    own = _kept(toy, names, list(range(8)))
    shared = _kept(toy, names, [0] * 8)

    assert own > 0.8
    assert shared < 0.2
