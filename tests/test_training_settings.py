"""Training settings: bounds, TOML, and no key that is misread in silence."""

from pathlib import Path

import pytest

from orthofed.client import cli
from orthofed.client.presets import PRESETS
from orthofed.client.training_settings import Schedule, TrainingSettings
from orthofed.core.errors import InputError


def test_what_the_file_does_not_name_keeps_its_default(tmp_path: Path) -> None:
    """Three keys given; 1 serves for 1.0."""
    path = tmp_path / "training.toml"
    path.write_text('steps = 40\nschedule = "linear"\nnull_weight = 1\n')

    settings = TrainingSettings.read(path)

    assert (settings.steps, settings.schedule, settings.null_weight) == (40, "linear", 1.0)
    assert settings.batch == TrainingSettings().batch


@pytest.mark.parametrize(
    "text",
    [
        "step = 40",
        "steps = 0",
        "steps = 40.5",
        "steps = true",
        'rate = "fast"',
        "rate = -1e-3",
        "rate = nan",
        'schedule = "slow"',
        'precision = "fp8"',
        'device = "gpu"',
        "steps = ",
        'cache = "tape"',
        "templates = []",
        'templates = ["a picture of it"]',  # the concept has no place in it
        "prior_folder = 3",
        "prior_guidance = 0.5",
        "jitter_colour = 0.6",
        pytest.param(f"steps = 1{'0' * 400}", id="an integer that is no float"),
        pytest.param(f"rate = 1{'0' * 400}", id="a rate that is no float"),
        pytest.param(f"steps = 0x{'f' * 5_000}", id="an integer that Python does not print"),
        pytest.param(f"steps = {'[' * 5_000}", id="lists in lists"),
    ],
)
def test_an_unknown_key_or_a_bad_value_is_an_error(tmp_path: Path, text: str) -> None:
    """A misspelt key would otherwise train with the default and nobody would know."""
    path = tmp_path / "training.toml"
    path.write_text(text)

    with pytest.raises(InputError) as caught:
        TrainingSettings.read(path)

    assert caught.value.code in {"bad-training-setting", "settings-unreadable"}


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rate_warms_up_and_then_follows_the_schedule(schedule: Schedule) -> None:
    """Never above the full rate; the two falling schedules end near zero."""
    settings = TrainingSettings(steps=100, warmup_steps=10, schedule=schedule)

    shares = [settings.rate_at(step) for step in range(100)]

    assert shares[:11] == sorted(shares[:11])
    assert shares[10] == max(shares) == 1.0
    assert shares[99] == 1.0 if schedule == "constant" else shares[99] < 0.02


def test_the_tokens_learn_30_to_100_times_faster_than_a_by_default() -> None:
    """The paper's ratio is 100; method.md 10 used 30."""
    settings = TrainingSettings()

    assert 30 <= settings.token_rate / settings.rate <= 100


@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_what_the_settings_command_prints_is_a_file_that_reads_back(
    preset: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The listing is the reference and the template at once."""
    cli.settings(preset=preset)
    path = tmp_path / "training.toml"
    path.write_text(capsys.readouterr().out)

    assert TrainingSettings.read(path) == TrainingSettings.read(preset=preset)


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    """Windows' editor writes one before the first key."""
    file = tmp_path / "fast.toml"
    file.write_bytes(b"\xef\xbb\xbfsteps = 60\n")

    assert TrainingSettings.read(file).steps == 60
