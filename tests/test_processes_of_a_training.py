"""One training made by several processes: the same steps, nothing lost with a process, none left.

Real processes on the CPU, which meet and add their gradients as they would on GPUs of one machine.
"""

import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from orthofed.client.caches import Caches
from orthofed.client.checkpoint import TrainingSaves
from orthofed.client.placement import Gpu, Machine, Placement
from orthofed.client.probe import probe
from orthofed.client.process_group import ProcessGroup, WorkerLost
from orthofed.client.step import Step
from orthofed.client.trained import Trained
from orthofed.client.training import identity_of, train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.client.worker import Shared
from orthofed.client.workers import Workers, shared_among
from orthofed.core.errors import InputError, OrthoFedError

from .tiny_concept import NOUN, SETTINGS, Bench, bench

TRIGGERS = [Trigger("anna-k7")]
TWO = replace(SETTINGS, batch=2, accumulation=2, caption_dropout=0.3)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Make a base, a spec and images once."""
    return bench(tmp_path_factory.mktemp("bench"))


def _shared(tiny: Bench, folder: Path, settings: TrainingSettings) -> Shared:
    """Return what `Workbench.train` gives its workers, with saves and caches under ``folder``."""
    identity = identity_of(tiny.spec, 0, TRIGGERS, NOUN, tiny.images, settings)
    return Shared(
        *(tiny.spec, 0, TRIGGERS, NOUN, tiny.images, settings, tiny.folder / "base"),
        TrainingSaves(folder / "saves", identity),
        folder / "cache",
        folder / "class",
    )


def _run(tiny: Bench, folder: Path, settings: TrainingSettings, on_step: Any = None) -> Trained:
    """Train as `Workbench.train` does."""
    shared = _shared(tiny, folder, settings)
    with shared_among(shared) as group:
        return train(
            *(tiny.base, tiny.spec, 0, TRIGGERS, NOUN, tiny.images, settings),
            on_step=on_step,
            saves=shared.saves,
            caches=Caches.at(shared.cache, shared.classes, settings),
            group=group,
        )


def _bits(trained: Trained) -> list[bytes]:
    return [value.tobytes() for part in (trained.a, trained.embeddings) for value in part.values()]


def test_two_processes_with_a_pass_each_end_with_the_bits_of_one(
    tiny: Bench, tmp_path: Path
) -> None:
    """Sums of two terms have no order; the losses are the same numbers, too."""
    alone = _run(tiny, tmp_path / "alone", TWO)
    together = _run(tiny, tmp_path / "together", replace(TWO, processes=2))

    assert _bits(together) == _bits(alone)
    assert together.losses == alone.losses
    assert list((tmp_path / "together" / "cache").iterdir()), "what one made, the other read"
    assert not torch.distributed.is_initialized(), "the process has left the group"
    assert not _workers(), "and no worker has stayed"


def test_three_processes_differ_from_one_in_last_bits_only(tiny: Bench, tmp_path: Path) -> None:
    """Six passes a step, with class images: each process makes two."""
    many = replace(
        SETTINGS, batch=1, accumulation=6, prior_weight=1.0, prior_images=2, prior_steps=1
    )
    alone = _run(tiny, tmp_path, replace(many, cache="disk"))
    together = _run(tiny, tmp_path, replace(many, processes=3))

    for path, a in alone.a.items():
        np.testing.assert_allclose(together.a[path], a, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(together.losses, alone.losses, rtol=1e-4)


def test_a_worker_that_is_killed_costs_no_step(tiny: Bench, tmp_path: Path) -> None:
    """The step it was lost in is not half made: saved, said, and taken up with the same bits."""
    settings = replace(TWO, processes=2)
    expected = _run(tiny, tmp_path / "expected", settings)
    seen: list[int] = []

    def kill(step: Step) -> None:
        seen.append(step.number)
        if step.number == 3:
            (worker,) = _workers()
            worker.send_signal(signal.SIGKILL)

    with pytest.raises(WorkerLost, match=r"process 1 of the training is gone .*SIGKILL") as caught:
        _run(tiny, tmp_path, settings, kill)

    assert seen == [1, 2, 3]
    assert "run the same command again" in caught.value.fix
    resumed = _run(tiny, tmp_path, settings)
    assert resumed.resumed_at == 3
    assert _bits(resumed) == _bits(expected)
    later = _run(tiny, tmp_path, replace(settings, processes=1))
    assert later.resumed_at == SETTINGS.steps, "one process takes a save of two for its own"


def test_the_first_process_alone_saves(tiny: Bench, tmp_path: Path) -> None:
    """Two that write the same files would tear each other's."""
    shared = _shared(tiny, tmp_path, TWO)
    train(
        *(tiny.base, tiny.spec, 0, TRIGGERS, NOUN, tiny.images, TWO),
        saves=shared.saves,
        group=ProcessGroup(rank=1, size=1),
    )

    assert not shared.saves.folder.exists()


def test_ctrl_c_reaches_the_first_process_alone(tiny: Bench, tmp_path: Path) -> None:
    """A terminal sends it to all: the workers go on until the first one ends them."""
    settings = replace(TWO, processes=2)
    seen: list[int] = []

    def interrupt(step: Step) -> None:
        seen.append(step.number)
        for worker in _workers():
            worker.send_signal(signal.SIGINT)

    trained = _run(tiny, tmp_path, settings, interrupt)

    assert seen == list(range(1, SETTINGS.steps + 1))
    assert len(trained.losses) == SETTINGS.steps


def test_what_stops_the_first_process_ends_all(tiny: Bench, tmp_path: Path) -> None:
    """The error goes on as it is, the run is saved, no process is left."""

    def stop(step: Step) -> None:
        if step.number == 2:
            raise InputError("enough", why="the test says so", fix="go on", code="enough")

    with pytest.raises(InputError, match="enough"):
        _run(tiny, tmp_path, replace(TWO, processes=2), stop)

    assert not _workers()
    assert _run(tiny, tmp_path, replace(TWO, processes=2)).resumed_at == 2


def test_a_worker_that_cannot_begin_says_why(tiny: Bench, tmp_path: Path) -> None:
    """Its base is another one: the first process reports its words, with its rank."""
    other = replace(tiny, folder=tmp_path / "nowhere")

    with pytest.raises(OrthoFedError, match="process 1 of the training: ") as caught:
        _run(other, tmp_path, replace(TWO, processes=2))

    assert str(tmp_path / "nowhere") in caught.value.what
    assert not _workers()


def test_workers_that_wait_for_a_meeting_end_with_the_block(tiny: Bench, tmp_path: Path) -> None:
    """The first process may fail before it comes; nothing would ever end them."""
    with Workers() as workers:
        workers.start(_shared(tiny, tmp_path, replace(TWO, processes=2)), tmp_path / "meeting")
        assert len(_workers()) == 1

    assert not _workers()


def test_no_worker_outlives_a_first_process_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL gives it no chance to end the others; they wait for a meeting that never comes."""
    program = """
        import sys, time, types
        from pathlib import Path
        here = types.ModuleType("here")
        here.__path__ = [sys.argv[1]]
        sys.modules["here"] = here
        from here import test_processes_of_a_training as this
        if __name__ == "__main__":
            folder = Path(sys.argv[2])
            shared = this._shared(this.bench(folder), folder, this.replace(this.TWO, processes=2))
            with this.Workers() as workers:
                workers.start(shared, folder / "meeting")
                print("ready", flush=True)
                time.sleep(600)
    """
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(program))
    command = [sys.executable, str(script), str(Path(__file__).parent), str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "ready\n"
        workers = _workers(first.pid)
        assert len(workers) == 1
        first.kill()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []


def test_each_process_has_a_gpu_of_its_own_and_the_cpu_has_room_for_all() -> None:
    """Ranks count from the GPU that the setting names; one that is not there is refused."""
    machine = Machine(gpus=(Gpu("first"), Gpu("second"), Gpu("third")))

    places = [Placement.of("cuda:1", "bf16", machine, rank=n).device for n in range(2)]
    assert places == [torch.device("cuda", 1), torch.device("cuda", 2)]
    with pytest.raises(InputError, match=r"'cuda:1' for 3 processes, here are: .*cuda:2") as caught:
        Placement.of("cuda:1", "bf16", machine, rank=2)
    assert caught.value.code == "device-not-there"
    with pytest.raises(InputError, match="'mps' for 2 processes"):
        Placement.of("mps", "fp32", Machine(mps=True), rank=1)
    assert Placement.of("cpu", "fp32", machine, rank=5).device == torch.device("cpu")


def test_processes_that_cannot_share_the_passes_are_refused() -> None:
    """The number of images a step never depends on the machine, so the passes must divide."""
    with pytest.raises(
        InputError, match="accumulation = 3, allowed is a multiple of processes = 2"
    ):
        TrainingSettings(accumulation=3, processes=2)


def test_the_dry_run_counts_on_every_process(tiny: Bench) -> None:
    """Half of the passes each in half of the time; on a CPU twice the memory, with the base."""
    alone = probe(tiny.base, tiny.spec, TRIGGERS, NOUN, tiny.images, replace(TWO, accumulation=2))
    shared = replace(TWO, accumulation=2, processes=2)
    together = probe(tiny.base, tiny.spec, TRIGGERS, NOUN, tiny.images, shared)

    assert together.seconds_per_step < alone.seconds_per_step
    assert together.peak_bytes >= tiny.base.num_bytes


def _workers(of: int | None = None) -> list[psutil.Process]:
    """Return the spawned children; the interpreter's own resource tracker is none of them."""
    children = psutil.Process(of).children()
    return [child for child in children if any("spawn_main" in x for x in child.cmdline())]
