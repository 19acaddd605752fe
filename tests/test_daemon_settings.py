"""The daemon's TOML: closed, every bad value named with its bounds; windows of local time."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orthofed.client.daemon_job import options_of
from orthofed.client.daemon_settings import DaemonSettings, described
from orthofed.client.hours import Window, is_open, opens_at
from orthofed.client.share_text import ShareText
from orthofed.core.errors import InputError
from orthofed.core.keys import SigningKey
from orthofed.core.share import Share

PAGE = Path(__file__).parents[1] / "docs" / "daemon.md"
CONCEPT = """
[[concept]]
name = "Anna-k7"
class_noun = "person"
images = "photos"
"""


def _read(folder: Path, text: str) -> DaemonSettings:
    path = folder / "daemon.toml"
    path.write_text(text)
    return DaemonSettings.read(path)


def test_relative_paths_start_at_the_files_own_folder(tmp_path: Path) -> None:
    """The daemon is started by systemd from /; a name is a slug as everywhere."""
    settings = _read(tmp_path, 'base = "base"' + CONCEPT)

    (concept,) = settings.concepts
    assert concept.name == "anna-k7"
    assert concept.images == str(tmp_path / "photos")
    assert concept.base == str(tmp_path / "base")


def test_lists_nested_too_deep_are_no_settings(tmp_path: Path) -> None:
    """One error, as for any text that is no TOML."""
    with pytest.raises(InputError) as refused:
        _read(tmp_path, f"hours = {'[' * 5_000}")

    assert refused.value.code == "settings-unreadable"


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    """Windows' editor writes one before the first key."""
    assert _read(tmp_path, '\ufeffbase = "base"' + CONCEPT) == _read(
        tmp_path, 'base = "base"' + CONCEPT
    )


@pytest.mark.parametrize(
    ("head", "said", "allowed"),
    [
        ("idle_minute = 5", "idle_minute", "did you mean idle_minutes?"),
        ("idle_minutes = -1", "idle_minutes = -1", "float from 0 to 1440"),
        ('idle_minutes = "5"', "idle_minutes = '5'", "float from 0 to 1440"),
        ("on_battery = 1", "on_battery = 1", "false or true"),
        ('mode = "sometimes"', "mode = 'sometimes'", "always or auto or never"),
        ('hours = ["25:00-26:00"]', "hours = '25:00-26:00'", "mon-fri 18:30-08:00"),
        ('hours = ["fri 10:00-10:00"]', "hours", "22:00-06:00"),
        ('hours = ["someday 10:00-11:00"]', "hours", "22:00-06:00"),
        ("upload_kib_s = nan", "upload_kib_s = nan", "int from 0"),
        ('gpu = "tpu"', "gpu = 'tpu'", "cuda:N"),
        ("windows = []", "windows", "one of the keys"),
        pytest.param(f"log_mb = 1{'0' * 400}", "log_mb = 1000", "int from 1", id="400 digits"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(
    tmp_path: Path, head: str, said: str, allowed: str
) -> None:
    """Also a wrong type, and a key that the program has but nobody may set."""
    with pytest.raises(InputError) as refused:
        _read(tmp_path, f'{head}\nbase = "b"{CONCEPT}')

    assert said in refused.value.what
    assert allowed in refused.value.what
    assert refused.value.code == "bad-daemon-setting"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('base = "b"', "concept = 'nothing to do'"),
        ('base = "b"\nconcept = 3', "concept"),
        (CONCEPT, "concept 1: base"),
        ('base = "b"' + CONCEPT + CONCEPT, "concept 2: name = 'anna-k7'"),
        ('base = "b"' + CONCEPT + "clas_noun = 'x'", "did you mean class_noun?"),
        ('base = "b"' + CONCEPT + "vectors = 9", "concept 1: vectors = 9"),
        ('base = "b"' + CONCEPT.replace("Anna-k7", "x/../y"), "concept 1: name"),
        ('base = "b"' + CONCEPT.replace('"photos"', '""'), "concept 1: images"),
        ("base = ", "cannot be read as TOML"),
    ],
)
def test_a_concept_that_cannot_be_taught_is_refused_before_anything_starts(
    tmp_path: Path, text: str, said: str
) -> None:
    """Nothing to do, no base, two of one name, a name that is no name (T10)."""
    with pytest.raises(InputError) as refused:
        _read(tmp_path, text)

    assert said in refused.value.what


def test_the_page_lists_every_setting() -> None:
    """docs/daemon.md, row for row."""
    text = PAGE.read_text("utf-8")

    for key, _default, allowed, says in described():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{key}` |")]
        assert f"| {allowed} | {says} |" in row


@pytest.mark.parametrize(
    ("window", "at", "inside"),
    [
        ("22:00-06:00", "2026-11-27 23:00", True),
        ("22:00-06:00", "2026-11-28 05:59", True),
        ("22:00-06:00", "2026-11-28 06:00", False),
        ("fri 22:00-06:00", "2026-11-28 05:59", True),  # a Saturday
        ("fri 22:00-06:00", "2026-11-27 05:59", False),
        ("sat,sun 00:00-24:00", "2026-11-29 23:59", True),
        ("fri-mon 09:00-10:00", "2026-11-29 09:30", True),  # over the end of the week
        ("fri-mon 09:00-10:00", "2026-12-01 09:30", False),
    ],
)
def test_a_window_belongs_to_the_day_on_which_it_opens(window: str, at: str, inside: bool) -> None:
    """Also over midnight, and over the end of the week."""
    assert is_open((Window.parse(window),), datetime.fromisoformat(at)) is inside


_MINUTES = st.integers(0, 24 * 60 - 1)


@given(
    days=st.sampled_from(["", "mon ", "fri-mon ", "sat,sun ", "wed,fri-sat "]),
    opens=_MINUTES,
    length=st.integers(1, 24 * 60 - 1),
    at=st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)),  # noqa: DTZ001  # local time
)
def test_it_opens_when_it_says_and_not_a_minute_before(
    days: str, opens: int, length: int, at: datetime
) -> None:
    """`opens_at` is inside, and every minute between now and then is outside."""
    closes = (opens + length) % (24 * 60)
    text = f"{days}{opens // 60:02}:{opens % 60:02}-{closes // 60:02}:{closes % 60:02}"
    windows = (Window.parse(text),)
    if is_open(windows, at):
        return

    found = opens_at(windows, at)

    assert is_open(windows, found)
    assert at < found <= at + timedelta(days=8)
    before = found - timedelta(minutes=1)
    assert before < at or not is_open(windows, before)


@pytest.mark.parametrize(("gpu", "device"), [("auto", None), ("cuda:1", "cuda:1"), ("cpu", "cpu")])
def test_the_gpu_of_the_file_is_what_trains(tmp_path: Path, gpu: str, device: str | None) -> None:
    """Of several the owner chooses one; auto leaves it to the training's own settings."""
    settings = _read(tmp_path, f'base = "base"\ngpu = "{gpu}"\n' + CONCEPT)

    (concept,) = settings.concepts
    options = options_of(concept, gpu=settings.gpu, upload_kib_s=0, upload_bytes_left=None)

    assert options.device == device


def test_the_rate_and_the_days_bytes_bound_what_is_sent(tmp_path: Path) -> None:
    """By the throttle that every chunk of an upload asks (test_throttle.py)."""
    settings = _read(tmp_path, 'base = "base"\nupload_kib_s = 640\n' + CONCEPT)

    (concept,) = settings.concepts
    rate = settings.upload_kib_s
    options = options_of(concept, gpu="auto", upload_kib_s=rate, upload_bytes_left=1_000)

    assert (options.throttle.bytes_s, options.throttle.bytes_left) == (640 * 1024, 1_000)


def test_a_concept_may_be_shared_or_join_another_owners(tmp_path: Path) -> None:
    """The share is a file beside the settings; its words are those that are trained."""
    key = SigningKey.from_seed(b"\1" * 32)
    share = Share.signed(
        SigningKey.from_seed(b"\2" * 32),
        most=20,
        key=key.public_hex,
        leaf=7,
        log="0" * 64,
        slot=3,
        t=1_790_000_000,
        uses=2,
    )
    text = ShareText(share, "anna-k7", ("anna-x1",), (3,), "person", b"\1" * 32).to_text()
    (tmp_path / "share.txt").write_text(f"{text}\n")
    settings = _read(tmp_path, 'base = "base"' + CONCEPT + 'shared = true\nshare = "share.txt"\n')

    (concept,) = settings.concepts
    options = options_of(concept, gpu="auto", upload_kib_s=0, upload_bytes_left=None).joined()

    assert options.shared
    assert options.share is not None
    assert options.share.share == share
    assert (options.triggers, options.vectors) == (("anna-x1",), 3)
