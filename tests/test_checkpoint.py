"""Saves of a running training: resume is bit-identical, wherever the run was stopped (R5)."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orthofed.client.checkpoint import TrainingSaves, TrainingState
from orthofed.client.step import Step
from orthofed.client.trained import Trained
from orthofed.client.training import identity_of, train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger

from .tiny_concept import NOUN, SETTINGS, Bench, bench

TRIGGERS = [Trigger("anna-k7")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def uninterrupted(tiny: Bench) -> str:
    return _hash(tiny.train())


class _Stop(Exception):  # the kill of the scenario
    pass


def _hash(trained: Trained) -> str:
    total = hashlib.sha256()
    for path in sorted(trained.a):
        total.update(path.encode() + trained.a[path].tobytes())
    total.update(trained.embeddings["text_encoder", 0].tobytes())
    return total.hexdigest()


def _saves(tiny: Bench, folder: Path, settings: TrainingSettings = SETTINGS) -> TrainingSaves:
    identity = identity_of(tiny.spec, 0, TRIGGERS, NOUN, tiny.images, settings)
    return TrainingSaves(folder, identity)


def _run(tiny: Bench, saves: TrainingSaves, *, stop_at: int | None = None) -> Trained:
    def on_step(step: Step) -> None:
        if step.number == stop_at:
            raise _Stop

    return train(
        tiny.base, tiny.spec, 0, TRIGGERS, NOUN, tiny.images, SETTINGS, on_step=on_step, saves=saves
    )


@pytest.mark.parametrize("stop_at", [1, 2, 3, 5, 6])
def test_a_run_stopped_at_any_step_resumes_bit_identical(
    tiny: Bench, uninterrupted: str, tmp_path: Path, stop_at: int
) -> None:
    """Stopped after a step, started again: the SHA-256 of A and the vectors is the same."""
    saves = _saves(tiny, tmp_path)
    with pytest.raises(_Stop):
        _run(tiny, saves, stop_at=stop_at)

    resumed = _run(tiny, saves)

    assert resumed.resumed_at == stop_at
    assert _hash(resumed) == uninterrupted
    assert len(resumed.losses) == 6


def test_a_run_stopped_again_and_again_still_ends_the_same(
    tiny: Bench, uninterrupted: str, tmp_path: Path
) -> None:
    """Stopped after every single step."""
    saves = _saves(tiny, tmp_path)
    for step in range(1, 6):
        with pytest.raises(_Stop):
            _run(tiny, saves, stop_at=step)

    assert _hash(_run(tiny, saves)) == uninterrupted


def test_a_save_without_the_optimiser_would_be_noticed(
    tiny: Bench, uninterrupted: str, tmp_path: Path
) -> None:
    """The test above is not blind: spoil one moment of the save and the bits differ."""
    saves = _saves(tiny, tmp_path)
    with pytest.raises(_Stop):
        _run(tiny, saves, stop_at=3)
    state = saves.newest()
    assert state is not None
    name = next(name for name in state.tensors if name.endswith("/exp_avg"))
    spoilt = {**state.tensors, name: np.zeros_like(state.tensors[name])}
    saves.write(TrainingState(state.step, spoilt, state.losses))

    assert _hash(_run(tiny, saves)) != uninterrupted


def test_a_save_cut_short_leaves_the_older_generation(tiny: Bench, tmp_path: Path) -> None:
    """A kill inside a save, or a bad disk: the newest is not believed, the one before is."""
    saves = _saves(tiny, tmp_path)
    for step in (2, 4):
        with pytest.raises(_Stop):
            _run(tiny, saves, stop_at=step)

    (newest,) = tmp_path.glob("train-00000004-*.safetensors")
    newest.write_bytes(newest.read_bytes()[:-1])

    state = saves.newest()
    assert state is not None
    assert state.step == 2


def test_a_tensor_file_without_its_record_does_not_count(tiny: Bench, tmp_path: Path) -> None:
    """The record is written last: killed before it, the save never was."""
    saves = _saves(tiny, tmp_path)
    with pytest.raises(_Stop):
        _run(tiny, saves, stop_at=3)

    next(tmp_path.glob("train-00000003-*.json")).unlink()

    assert saves.newest() is None


def test_another_run_never_resumes_from_the_save(tiny: Bench, tmp_path: Path) -> None:
    """Other settings, another slot or other images: the training starts anew."""
    saves = _saves(tiny, tmp_path)
    with pytest.raises(_Stop):
        _run(tiny, saves, stop_at=3)
    other = replace(SETTINGS, rate=2e-2)

    assert _saves(tiny, tmp_path, other).newest() is None
    elsewhere = identity_of(tiny.spec, 1, TRIGGERS, NOUN, tiny.images, SETTINGS)
    assert TrainingSaves(tmp_path, elsewhere).newest() is None


def test_two_generations_are_kept_and_clear_removes_them(tmp_path: Path) -> None:
    """The folder does not grow with the length of the run."""
    saves = TrainingSaves(tmp_path, "run")
    for step in range(1, 6):
        saves.write(TrainingState(step, {"a": np.ones(3, np.float32)}, (0.5,)))

    assert sorted((p.name[:14], p.suffix) for p in tmp_path.iterdir()) == [
        (f"train-0000000{step}", kind) for step in (4, 5) for kind in (".json", ".safetensors")
    ]
    saves.clear()
    assert not list(tmp_path.iterdir())


def _write(saves: TrainingSaves, *steps: int) -> None:
    for step in steps:
        saves.write(TrainingState(step, {"a": np.ones(3, np.float32)}, (0.5,)))


def _steps(saves: TrainingSaves) -> list[int]:
    """Return the steps that the folder has saves of; each record has its tensors."""
    tensors = sorted(int(path.stem[6:14]) for path in saves.folder.glob("*.safetensors"))
    assert tensors == sorted(int(path.stem[6:14]) for path in saves.folder.glob("*.json"))
    return tensors


def test_saves_of_an_earlier_setting_never_crowd_out_those_of_the_run(tmp_path: Path) -> None:
    """Seed 0 was saved at 41 and 50; with seed 1 it stops at 20, 30 and 40."""
    before, now = TrainingSaves(tmp_path, "seed 0"), TrainingSaves(tmp_path, "seed 1")
    _write(before, 41, 50)

    for step in (20, 30, 40):
        _write(now, step)
        state = now.newest()
        assert state is not None
        assert state.step == step

    assert _steps(now) == [30, 40, 41, 50]
    back = before.newest()
    assert back is not None
    assert back.step == 50


def test_a_save_at_the_very_step_of_an_earlier_setting_leaves_that_one(tmp_path: Path) -> None:
    """Both were saved at 10 and 20, as `save_every` has it: the settings may be changed back."""
    before, now = TrainingSaves(tmp_path, "seed 0"), TrainingSaves(tmp_path, "seed 1")

    for saves, loss in ((before, 0.5), (now, 0.25)):
        for step in (10, 20):
            saves.write(TrainingState(step, {"a": np.ones(3, np.float32)}, (loss,)))

    found = [saves.newest() for saves in (before, now)]
    assert [(each.step, each.losses) for each in found if each] == [(20, (0.5,)), (20, (0.25,))]


def test_a_save_of_an_earlier_version_is_gone_on_from_and_superseded(tmp_path: Path) -> None:
    """Its name says the step alone."""
    saves = TrainingSaves(tmp_path, "run")
    _write(saves, 10)
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_name(f"train-00000010{path.suffix}"))

    state = saves.newest()
    _write(saves, 20, 30)

    assert state is not None
    assert state.step == 10
    assert _steps(saves) == [20, 30]


def test_runs_of_ever_other_settings_keep_two_saves_of_all_others(tmp_path: Path) -> None:
    """The folder does not grow with the number of settings that were tried."""
    for number in range(4):
        _write(TrainingSaves(tmp_path, f"seed {number}"), 10 * number + 1, 10 * number + 2)

    assert _steps(TrainingSaves(tmp_path, "seed 3")) == [21, 22, 31, 32]


def test_a_save_goes_on_counting_behind_two_that_were_damaged(tmp_path: Path) -> None:
    """Both generations are spoilt, the run begins anew: what it saves is there to resume from."""
    saves = TrainingSaves(tmp_path, "run")
    _write(saves, 41, 50)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(b"spoilt")

    _write(saves, 30)

    state = saves.newest()
    assert state is not None
    assert state.step == 30
    assert _steps(saves) == [30]
