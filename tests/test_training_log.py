"""The log of a training: each step once, whatever happened; pictures; a page that holds itself."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from orthofed.client.checkpoint import TrainingSaves
from orthofed.client.packing import packed
from orthofed.client.samples import Samples
from orthofed.client.score import Scorer, phrase_of
from orthofed.client.step import Step
from orthofed.client.trained import Trained
from orthofed.client.training import identity_of, train
from orthofed.client.training_log import Logged, TrainingLog
from orthofed.client.training_report import TrainingReport
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.client.validation import Validation
from orthofed.client.variant import Variant
from orthofed.core.errors import InputError

from .tiny_concept import NOUN, SETTINGS, Bench, bench

TRIGGERS = [Trigger("anna-k7")]
SHOWN = replace(
    SETTINGS,
    sample_every=4,
    sample_steps=2,
    sample_prompts=("a {}", "<b> & {}"),
    validate_every=4,
    validate_draws=8,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("log"))


class _Stop(Exception):
    pass


def _stop_behind(number: int) -> Callable[[Step], None]:
    def on_step(step: Step) -> None:
        if step.number == number:
            raise _Stop

    return on_step


def _run(
    tiny: Bench,
    folder: Path,
    settings: TrainingSettings = SHOWN,
    then: Callable[[Step], None] = lambda _: None,
) -> Trained:
    """Train with everything that shows it."""
    identity = identity_of(tiny.spec, 0, TRIGGERS, NOUN, tiny.images, settings)
    samples = Samples(tiny.base, settings)
    validation = Validation(tiny.base, tiny.images.held_out, settings)
    facts = {"concept": "anna-k7"}
    with TrainingLog(folder / "log", identity, settings.as_dict(), facts) as log:

        def on_step(step: Step) -> None:
            log.record(replace(step, held_out_loss=validation.after(step)))
            for name, png in samples.after(step):
                log.picture(step.number, name, png)
            then(step)

        return train(
            tiny.base,
            tiny.spec,
            0,
            TRIGGERS,
            NOUN,
            tiny.images,
            settings,
            on_step=on_step,
            saves=TrainingSaves(folder / "saves", identity),
        )


def _steps(folder: Path) -> list[int]:
    logged = Logged.read(folder / "log")
    assert logged is not None
    return [step.step for step in logged.steps]


def _events(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder / "log" / "tensorboard"), purge_orphaned_data=False)
    return events.Reload()


def test_looking_at_a_training_changes_none_of_its_bits(tiny: Bench, tmp_path: Path) -> None:
    """Log and samples on and off: the same A, and the same identity to resume from."""
    plain = tiny.train()

    shown = _run(tiny, tmp_path)

    assert all(np.array_equal(a, shown.a[path]) for path, a in plain.a.items())
    assert plain.losses == shown.losses
    names = [(tiny.spec, 0, TRIGGERS, NOUN, tiny.images, s) for s in (SETTINGS, SHOWN)]
    assert identity_of(*names[0]) == identity_of(*names[1])


def test_every_step_is_logged_with_its_loss_and_rate(tiny: Bench, tmp_path: Path) -> None:
    """The lines, and TensorBoard's own reader finds the same figures."""
    trained = _run(tiny, tmp_path)

    logged = Logged.read(tmp_path / "log")
    assert logged is not None
    assert [step.loss for step in logged.steps] == list(trained.losses)
    rates = [SHOWN.rate * SHOWN.rate_at(n) for n in range(6)]
    assert [step.rate for step in logged.steps] == rates
    events = _events(tmp_path)
    for tag, values in (("loss", trained.losses), ("rate", rates)):
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        assert found == [(n, pytest.approx(v, rel=1e-6)) for n, v in enumerate(values, start=1)]


def test_the_held_out_loss_is_that_of_the_score_and_falls_due_as_asked(
    tiny: Bench, tmp_path: Path
) -> None:
    """Steps 4 and 6 of six; the last is what scoring the quantised contribution says."""
    trained = _run(tiny, tmp_path)

    logged = Logged.read(tmp_path / "log")
    assert logged is not None
    found = {step.step: step.held_out_loss for step in logged.steps}
    assert [step for step, loss in found.items() if loss is not None] == [4, 6]
    scorer = Scorer.on(tiny.base, tiny.images.held_out, num_draws=8)
    single = Variant.of_contribution(tiny.spec, 0, TRIGGERS, packed(trained, tiny.spec))
    assert found[6] == pytest.approx(scorer.loss(single, phrase_of(TRIGGERS)), rel=1e-4)
    assert found[6] != pytest.approx(scorer.base_loss(NOUN), rel=1e-3)
    assert [event.step for event in _events(tmp_path).Scalars("held_out_loss")] == [4, 6]


def test_samples_are_drawn_when_due_and_at_the_end(tiny: Bench, tmp_path: Path) -> None:
    """Every fourth of six steps, two prompts, two images each; the pictures differ by step."""
    _run(tiny, tmp_path)

    files = sorted((tmp_path / "log" / "samples").iterdir())
    wanted = [f"{step:08d}-{p}-{k}.png" for step in (4, 6) for p in (1, 2) for k in (1, 2)]
    assert [file.name for file in files] == wanted
    with Image.open(files[0]) as image:
        assert image.size == (tiny.base.image_size,) * 2
    assert files[0].read_bytes() != files[4].read_bytes(), "step 4 and 6"
    assert files[0].read_bytes() != files[1].read_bytes(), "two noises"
    images = _events(tmp_path).Images("samples/1-1")
    assert [image.step for image in images] == [4, 6]


def test_a_resumed_training_goes_on_in_the_log_without_doubled_steps(
    tiny: Bench, tmp_path: Path
) -> None:
    """Stopped behind step 3, and its last save is lost: step 3 is done and logged again, once."""
    with pytest.raises(_Stop):
        _run(tiny, tmp_path, replace(SHOWN, save_every_s=0.0), _stop_behind(3))
    assert _steps(tmp_path) == [1, 2, 3]
    for path in (tmp_path / "saves").glob("train-00000003*"):
        path.unlink()

    resumed = _run(tiny, tmp_path)

    assert resumed.resumed_at == 2
    assert _steps(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in _events(tmp_path).Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    assert len(list((tmp_path / "log" / "tensorboard").iterdir())) == 1


def test_a_line_that_was_cut_is_no_step(tiny: Bench, tmp_path: Path) -> None:
    """Half of the last line is on the disk: it is left out, and the next process mends the file."""
    with pytest.raises(_Stop):
        _run(tiny, tmp_path, SHOWN, _stop_behind(3))
    lines = tmp_path / "log" / "steps.jsonl"
    lines.write_bytes(lines.read_bytes()[:-20])
    assert _steps(tmp_path) == [1, 2]

    _run(tiny, tmp_path)

    assert _steps(tmp_path) == [1, 2, 4, 5, 6]
    assert all(json.loads(line) for line in lines.read_text().splitlines())


def test_another_training_in_the_same_lease_moves_the_old_log_aside(
    tiny: Bench, tmp_path: Path
) -> None:
    """Other settings are another curve: never mixed, never thrown away."""
    with pytest.raises(_Stop):
        _run(tiny, tmp_path, SHOWN, _stop_behind(3))

    _run(tiny, tmp_path, replace(SHOWN, rate=1e-3))

    assert _steps(tmp_path) == [1, 2, 3, 4, 5, 6]
    aside = Logged.read(tmp_path / "log-before-1")
    assert aside is not None
    assert [step.step for step in aside.steps] == [1, 2, 3]


def test_the_page_holds_everything_itself_and_escapes_what_people_wrote(
    tiny: Bench, tmp_path: Path
) -> None:
    """Curve, pictures and settings; no script, no request; every tag that opens is closed."""
    _run(tiny, tmp_path)

    report = TrainingReport.of(
        tmp_path / "log", "<i>anna", scores={"loss_base": 0.5}, listing=None, state="trained"
    )

    assert report is not None
    html = report.html()
    assert html.count("data:image/png;base64,") == 8
    assert "<polyline" in html
    assert "&lt;b&gt; &amp; {}" in html
    assert "<i>" not in html
    assert "<script" not in html
    assert not re.search(r"(src|href)=.?http|url\(", html)
    assert "<b>4</b>" in html, "batch is not the default, so it is bold"
    assert "<td>1e-06" not in html
    assert _unclosed(html) == []


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed here")
def test_wandb_is_asked_for_or_not_loaded_and_missing_is_said(tmp_path: Path) -> None:
    """The default sends nothing; where the package is missing, the command that installs it."""
    assert SETTINGS.wandb is False
    asked = replace(SETTINGS, wandb=True)

    with pytest.raises(InputError, match="the package wandb is not installed") as caught:
        TrainingLog(tmp_path / "log", "ab", asked.as_dict(), {"concept": "anna-k7"})

    assert 'pip install "orthofed[wandb]"' in caught.value.fix


class _Tags(HTMLParser):
    """Notes the tags that HTML wants closed, as they open and close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an opened tag, but for those that close themselves."""
        del attrs
        if tag in {"div", "dl", "table", "svg", "details", "section", "p", "h1", "h2", "h3"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Take the tag off if it is the one that was opened last."""
        if self.open and self.open[-1] == tag:
            self.open.pop()


def _unclosed(html: str) -> list[str]:
    parser = _Tags()
    parser.feed(html)
    return parser.open
