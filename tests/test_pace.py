"""A training that crawls is stopped, with its work saved and what to do; no clock is needed."""

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from orthofed.client import training
from orthofed.client.pace import KeptPace, Pace
from orthofed.client.session import Session
from orthofed.client.step import Step
from orthofed.client.workbench import Workbench
from orthofed.core.errors import OrthoFedError

from .tiny_concept import NOUN, SETTINGS, Bench, bench

CPU = torch.device("cpu")


def _steps(pace: Pace, *seconds: float) -> None:
    for one in seconds:
        pace.look(one)


def test_twenty_slow_steps_in_a_row_stop_the_training_with_cause_and_fix() -> None:
    """Five times the measured second; the nineteenth is still waited for."""
    pace = Pace(1.0, SETTINGS, torch.device("cuda", 0))
    _steps(pace, *[5.1] * 19)

    with pytest.raises(OrthoFedError) as caught:
        pace.look(39.0)

    assert caught.value.code == "crawling"
    assert caught.value.what == (
        "20 steps in a row took over 5 s, the last one 39 s; 1 s was measured before"
    )
    assert "spilled into the main memory" in caught.value.why
    assert "checkpointing = true" in caught.value.fix
    assert "run the same command again" in caught.value.fix


def test_one_step_in_time_begins_the_count_anew() -> None:
    """Nineteen slow ones, one at the bound, nineteen slow ones: it goes on."""
    _steps(Pace(1.0, SETTINGS, CPU), *[60.0] * 19, 5.0, *[60.0] * 19)


def test_steps_under_half_a_second_never_count() -> None:
    """A tiny model on a busy machine: a hundred times as slow, and nothing is lost by it."""
    _steps(Pace(0.004, SETTINGS, CPU), *[0.4] * 100)

    with pytest.raises(OrthoFedError, match=r"over 0\.5 s"):
        _steps(Pace(0.004, SETTINGS, CPU), *[0.6] * 20)


def test_who_wants_to_may_go_on_at_any_pace() -> None:
    """`slow_factor = 0` never stops; 100 is a bound of its own."""
    _steps(Pace(1.0, replace(SETTINGS, slow_factor=0.0), CPU), *[1e6] * 100)
    _steps(Pace(1.0, replace(SETTINGS, slow_factor=100.0), CPU), *[99.0] * 100)


def test_the_figure_is_kept_for_this_machine_and_these_settings_only(tmp_path: Path) -> None:
    """Another batch is another pace; a torn file says nothing."""
    kept = KeptPace.beside(tmp_path, SETTINGS, CPU)
    assert kept.read() is None

    kept.write(1.25)

    assert KeptPace.beside(tmp_path, SETTINGS, CPU).read() == 1.25
    assert KeptPace.beside(tmp_path, replace(SETTINGS, batch=2), CPU).read() is None
    kept.path.write_text('{"mark"')
    assert kept.read() is None


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("pace"))


def test_a_crawling_training_is_saved_and_goes_on_where_it_was(
    tiny: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the workbench, by a clock that runs away: stopped behind step 20, resumed there.

    The process that goes on makes no dry run: the figure lies beside the saves.
    """
    quick = tmp_path / "quick.toml"
    quick.write_text("steps = 22\nbatch = 1\nnull_weight = 0.0\nthreads = 1\n")
    session = Session("anna-k7", ("anna-k7",), (2,), NOUN, "0" * 32, 1, slot=0, fence=1)
    saves, seen = tmp_path / "training", list[int]()
    places = {name: tmp_path / name for name in ("cache", "classes", "log")}

    def desk() -> Workbench:
        images = tiny.folder / "images"
        return Workbench(tiny.spec, tiny.base.folder, images, NOUN, config=quick)

    def note(step: Step) -> None:
        seen.append(step.number)

    first = desk()
    first.probe(session)
    with monkeypatch.context() as patched:
        clock = SimpleNamespace(monotonic=itertools.count(step=60.0).__next__)
        patched.setattr(training, "time", clock)
        with pytest.raises(OrthoFedError, match="20 steps in a row") as caught:
            first.train(session, saves, **places, on_step=note)
    patience = caught.value
    second = desk()
    trained = second.train(session, saves, **places, on_step=note)

    assert patience.code == "crawling"
    assert seen == list(range(1, 23))
    assert trained.resumed_at == 20
    assert (len(first._probes), len(second._probes)) == (1, 0)
