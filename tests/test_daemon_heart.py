"""What the daemon decides, without a process, a clock or a sensor: events in, actions out."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orthofed.client import daemon as heart
from orthofed.client.daemon import PAUSE_GRACE_S, STOP_GRACE_S
from orthofed.client.daemon_memory import remember, reminded
from orthofed.client.daemon_settings import MODES, ConceptSettings, DaemonSettings, Mode
from orthofed.client.daemon_state import (
    Action,
    Chosen,
    End,
    Ended,
    Event,
    Found,
    Interrupt,
    Keep,
    Kill,
    Leave,
    Now,
    Paused,
    Resumed,
    Start,
    State,
    Stop,
    Task,
    Tick,
    Told,
    Word,
)
from orthofed.client.daemon_status import daemon_status
from orthofed.client.daemon_waits import Seen, Wait
from orthofed.client.hours import Window

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)  # a Friday
QUIET = Seen(idle_s=1e6, on_battery=False, temperature_c=40, free_disk_gb=100)
SETTINGS = DaemonSettings(
    concepts=(ConceptSettings(name="anna-k7"), ConceptSettings(name="bear-b2")),
    idle_minutes=10,
    max_disk_gb=20,
)


class Played:
    """A daemon at some moment: what it knows, and all that it asked for."""

    def __init__(self, settings: DaemonSettings = SETTINGS, seen: Seen = QUIET) -> None:
        self.at_s = 0.0
        tasks = tuple(Task(each.name) for each in settings.concepts)
        self.state = State(settings, self.now, tasks, seen, poll_s=math.inf)
        self.seen = seen

    @property
    def now(self) -> Now:
        return Now(NOON + timedelta(seconds=self.at_s), self.at_s)

    def hear(self, event: Event) -> list[Action]:
        self.state, actions = heart.step(self.state, event)
        return [action for action in actions if not isinstance(action, Keep)]

    def tick(self, seconds: float = 0, **seen: float | bool | None) -> list[Action]:
        self.at_s += seconds
        self.seen = replace(self.seen, **seen)
        return self.hear(Tick(self.now, self.seen))

    @property
    def reason(self) -> str:
        return self.state.wait.reason if self.state.wait else ""

    def task(self, name: str = "anna-k7") -> Task:
        return self.state.task(name)


def test_concepts_are_taught_one_after_the_other() -> None:
    """The second begins when the first has its receipt; then nothing is left to do."""
    daemon = Played()

    assert daemon.tick() == [Start("anna-k7")]
    assert daemon.hear(Ended()) == [Start("bear-b2")]
    assert daemon.hear(Ended()) == []
    assert [task.state for task in daemon.state.tasks] == ["done", "done"]
    assert daemon.tick(3600) == []


def test_what_is_done_or_withdrawn_is_not_begun_again() -> None:
    """A restart reads the saved phases before it looks at the machine."""
    daemon = Played()
    daemon.state = replace(daemon.state, seen=Seen(idle_s=0))

    daemon.hear(Found("anna-k7", "withdrawn"))
    daemon.hear(Found("bear-b2", "receipted"))

    assert daemon.tick() == []


@pytest.mark.parametrize(
    ("seen", "reason", "ends"),
    [
        ({"idle_s": 60.0}, "user active", timedelta(minutes=9)),
        ({"on_battery": True}, "on battery", None),
        ({"gpu_busy_percent": 31}, "GPU busy", None),
        ({"temperature_c": 91.0}, "too hot", None),
        ({"free_disk_gb": 4.9}, "disk low", None),
        ({"home_gb": 20.1}, "home too large", None),
    ],
)
def test_each_reason_stops_a_training_and_says_when_it_ends(
    seen: dict[str, float], reason: str, ends: timedelta | None
) -> None:
    """It is interrupted; when the reason is gone, the same concept goes on."""
    daemon = Played()
    daemon.tick()

    assert daemon.tick(2, **seen) == [Interrupt()]
    assert daemon.reason == reason
    assert daemon.state.wait is not None
    assert daemon.state.wait.until == (daemon.now.wall + ends if ends else None)
    assert daemon.hear(Ended("interrupted")) == []
    fresh = replace(QUIET, temperature_c=80)
    daemon.seen = fresh
    assert daemon.tick(2) == [Start("anna-k7")]


@pytest.mark.parametrize(
    ("mode", "seen", "begins"),
    [
        ("always", {"idle_s": 0.0, "on_battery": True, "gpu_busy_percent": 99}, True),
        ("always", {"free_disk_gb": 1.0}, False),
        ("always", {"home_gb": 20.1}, False),
        ("always", {"home_gb": 19.9}, True),
        ("always", {"temperature_c": 99.0}, False),
        ("never", {}, False),
        ("auto", {"idle_s": None, "on_battery": None, "temperature_c": None}, True),
    ],
)
def test_a_mode_obeys_what_it_says(mode: str, seen: dict[str, float], begins: bool) -> None:
    """Heat and disk count in every mode; what cannot be seen holds nothing back."""
    daemon = Played(replace(SETTINGS, mode=mode))

    assert (daemon.tick(**seen) == [Start("anna-k7")]) is begins


def test_outside_its_hours_it_waits_for_the_next_window() -> None:
    """At noon for the evening; in the evening it works."""
    daemon = Played(replace(SETTINGS, windows=(Window.parse("19:00-07:00"),)))

    assert daemon.tick() == []
    assert daemon.reason == "outside hours"
    assert daemon.state.wait is not None
    assert daemon.state.wait.until == NOON.replace(hour=19)
    assert daemon.tick(7 * 3600) == [Start("anna-k7")]


def test_what_is_too_hot_has_to_cool_down_by_five_degrees() -> None:
    """Else a training would start and stop each minute at the very bound."""
    daemon = Played()
    daemon.tick(temperature_c=91.0)

    assert daemon.tick(2, temperature_c=89.0) == []
    assert daemon.tick(2, temperature_c=85.0) == [Start("anna-k7")]


def test_a_paused_training_that_does_not_end_is_killed_in_time() -> None:
    """Memory and GPU are free within ten seconds of the word, a look at the clock included."""
    daemon = Played()
    daemon.tick()

    assert daemon.hear(Paused()) == [Interrupt()]
    assert daemon.tick(PAUSE_GRACE_S - 0.1) == []
    assert daemon.tick(0.1) == [Kill()]
    assert daemon.tick(5) == [], "once"
    daemon.hear(Ended("crashed"))
    assert daemon.task().tries == 0, "it did not fail by itself"
    assert PAUSE_GRACE_S + 2 <= 10


def test_a_stop_waits_much_longer_for_the_step() -> None:
    """A stop loses nothing; a second one does not wait."""
    daemon = Played()
    daemon.tick()

    assert daemon.hear(Stop()) == [Interrupt()]
    assert daemon.tick(PAUSE_GRACE_S + 1) == []
    assert daemon.hear(Stop()) == [Kill()]
    assert daemon.hear(Ended("crashed")) == [End()]


def test_a_stop_kills_in_the_end() -> None:
    """Before the system kills the daemon itself, after 120 s."""
    daemon = Played()
    daemon.tick()
    daemon.hear(Stop())

    assert daemon.tick(STOP_GRACE_S) == [Kill()]
    assert STOP_GRACE_S < 120


def test_a_pause_ends_at_its_time_and_not_later_if_the_clock_is_set_back() -> None:
    """Two hours are two hours; a year's jump backwards does not make them a year."""
    daemon = Played()
    daemon.hear(Paused(7200.0))

    assert daemon.tick(7199) == []
    assert daemon.reason == "paused by you"
    assert daemon.tick(1) == [Start("anna-k7")]

    daemon.hear(Paused(7200.0))
    daemon.hear(Ended("interrupted"))
    past = Now(NOON - timedelta(days=365), daemon.at_s)
    daemon.hear(Tick(past, QUIET))
    later = Now(past.wall + timedelta(seconds=7200), daemon.at_s + 7200)
    assert daemon.hear(Tick(later, QUIET)) == [Start("anna-k7")]


def test_a_chosen_mode_holds_for_its_time_and_then_the_settings_do() -> None:
    """`always` works on battery; two hours later it waits as the settings say."""
    daemon = Played()
    daemon.tick(on_battery=True)
    assert daemon.reason == "on battery"

    assert daemon.hear(Chosen("always", 7200.0)) == [Start("anna-k7")]

    assert daemon.tick(7199, on_battery=True) == []
    assert daemon.tick(1, on_battery=True) == [Interrupt()]
    assert (daemon.reason, daemon.state.mode) == ("on battery", "auto")


def test_the_last_word_counts_and_resume_takes_back_all() -> None:
    """A mode ends a pause, a pause holds in any mode, `resume` means the settings."""
    daemon = Played()
    daemon.hear(Paused())
    assert daemon.hear(Chosen("always")) == [Start("anna-k7")]
    assert daemon.hear(Paused(60.0)) == [Interrupt()]
    daemon.hear(Ended("interrupted"))
    assert daemon.tick(60, on_battery=True) == [Start("anna-k7")]

    daemon.hear(Chosen("never", 60.0))
    daemon.hear(Ended("interrupted"))
    assert daemon.state.wait == Wait(
        "mode is never", daemon.state.now.wall + timedelta(seconds=60), "you said so"
    )
    daemon.hear(Resumed())

    assert (daemon.state.mode, daemon.state.chosen) == ("auto", None)


@pytest.mark.parametrize("mode", MODES)
def test_too_hot_is_too_hot_in_every_mode(mode: Mode) -> None:
    """What guards the machine itself is no mode's to lift."""
    daemon = Played(seen=Seen(temperature_c=150.0))

    assert daemon.hear(Chosen(mode)) == []
    assert daemon.reason == ("mode is never" if mode == "never" else "too hot")


@pytest.mark.parametrize("word", [None, Word("always"), Word("never", NOON, 60.0)])
@pytest.mark.parametrize("pause", [None, Word(), Word(None, NOON, 7200.0)])
def test_the_owners_words_outlive_a_restart(
    tmp_path: Path, word: Word | None, pause: Word | None
) -> None:
    """As they were said, with the time that is left by the wall clock."""
    fresh = Played().state
    remember(tmp_path, replace(fresh, pause=pause, chosen=word))

    found = reminded(tmp_path, fresh)

    assert (found.pause, found.chosen) == (pause, word)


def test_a_pause_written_by_an_older_daemon_still_holds(tmp_path: Path) -> None:
    """An upgrade does not set to work what its owner had stopped."""
    older = '{"v": 1, "paused": true, "until": "", "for_s": 0.0, "day": "", "sent_bytes": 0'
    (tmp_path / "state.json").write_text(older + ', "orders": []}')

    assert reminded(tmp_path, Played().state).pause == Word()


def test_pauses_and_bytes_are_kept_before_anything_else() -> None:
    """A kill right after the owner's word still finds it at the next start."""
    daemon = Played()
    daemon.tick()

    _, actions = heart.step(daemon.state, Paused())

    assert actions == (Keep(), Interrupt())


def test_finish_then_leave_brings_the_running_concept_to_its_receipt() -> None:
    """The next one is not begun; a reason to wait only makes it later."""
    daemon = Played()
    daemon.tick()

    assert daemon.hear(Leave()) == []
    assert daemon.tick(2, on_battery=True) == [Interrupt()]
    assert daemon.hear(Ended("interrupted")) == []
    assert daemon.tick(60, on_battery=False) == [Start("anna-k7")]
    assert daemon.hear(Ended()) == [End()]


def test_finish_then_leave_ends_at_once_where_nothing_runs() -> None:
    """There is nothing to finish."""
    assert Played(seen=Seen(on_battery=True)).hear(Leave()) == [End()]


@given(roll=st.floats(0, 1, exclude_max=True), tries=st.integers(1, 200))
def test_tries_go_on_for_days_with_growing_pauses_up_to_the_bound(roll: float, tries: int) -> None:
    """Full jitter: never less than a second, never more than retry_minutes and one second."""
    daemon = Played(replace(SETTINGS, concepts=SETTINGS.concepts[:1]))
    daemon.tick()
    left_s = 0.0
    for _ in range(tries):
        daemon.hear(Ended("unreachable", "no answer", "wait", roll))
        until_s = daemon.task().until_s
        assert until_s is not None
        left_s = until_s - daemon.at_s

        assert 1 <= left_s <= 15 * 60 + 1
        assert daemon.tick(left_s - 0.5) == []
        assert daemon.tick(0.5) == [Start("anna-k7")]
        daemon.at_s = until_s
    assert left_s >= min(1 + roll * 5 * 2 ** (tries - 1), 15 * 60 * roll) - 1e-6


def test_an_absent_coordinator_is_a_reason_with_a_time() -> None:
    """Status says the word of product.md, and the time as the clocks stand now."""
    daemon = Played(replace(SETTINGS, concepts=SETTINGS.concepts[:1]))
    daemon.tick()
    daemon.hear(Ended("unreachable", "127.0.0.1:1 gave no answer", "wait", 0.5))

    (row,) = daemon_status(daemon.state, pid=1, not_seen=(), rss_bytes=0)["queue"]

    assert row["wait"] is not None
    assert row["wait"]["reason"] == "coordinator unreachable"
    assert row["wait"]["until"] == "2026-11-27T12:00:03+00:00"


def test_a_lost_lease_is_asked_anew_at_once_and_then_with_pauses() -> None:
    """A coordinator that always says lost does not make the daemon run in circles."""
    daemon = Played(replace(SETTINGS, concepts=SETTINGS.concepts[:1]))
    daemon.tick()

    assert daemon.hear(Ended("lease-lost")) == [Start("anna-k7")]
    assert daemon.hear(Ended("lease-lost", roll=0.9)) == []
    wait = daemon.task().wait
    assert wait is not None
    assert wait.reason == "lease lost"


def test_a_step_of_a_training_forgives_earlier_failures() -> None:
    """Five crashes in a row need the owner; five in a month do not."""
    daemon = Played(replace(SETTINGS, concepts=SETTINGS.concepts[:1]))
    daemon.tick()
    for _ in range(20):
        assert daemon.hear(Told("step", step=1, steps=4)) == []
        daemon.hear(Ended("crashed"))
        assert daemon.tick(20) == [Start("anna-k7")]

    for _ in range(5):
        daemon.hear(Ended("crashed"))
        daemon.tick(3600)

    assert daemon.task().wait is not None
    assert daemon.task().until_s is None, "for the owner"
    assert daemon.hear(Resumed()) == [Start("anna-k7")]


def test_what_needs_the_owner_lets_the_next_concept_go_ahead() -> None:
    """A yes that is missing, a folder that is not there; `approve` and `resume` bring them back."""
    daemon = Played()
    daemon.tick()

    assert daemon.hear(Ended("egress-declined", "100 bytes")) == [Start("bear-b2")]
    assert daemon.hear(Ended("bad-images", "no images", "give some")) == []
    assert [t.wait.reason for t in daemon.state.tasks if t.wait] == [
        "waiting for your approval",
        "failed",
    ]
    assert daemon.hear(Found("anna-k7", "packed")) == []
    assert daemon.hear(Found("anna-k7", "approved")) == [Start("anna-k7")]
    daemon.hear(Ended())
    assert daemon.hear(Resumed()) == [Start("bear-b2")]


def test_a_days_allowance_is_counted_and_begins_anew_at_midnight() -> None:
    """Bytes that the coordinator had already count nothing; the upload waits for tomorrow."""
    daemon = Played(replace(SETTINGS, concepts=SETTINGS.concepts[:1]))
    daemon.tick()
    for sent in (500, 700, 1000):
        daemon.hear(Told("uploading", sent=sent))
    assert daemon.state.sent_bytes == 500

    daemon.hear(Ended("upload-quota", "no more today"))

    wait = daemon.task().wait
    assert wait is not None
    assert (wait.reason, wait.until) == ("quota", NOON.replace(day=28, hour=0, second=5))
    assert daemon.tick(12 * 3600) == []
    assert daemon.tick(5) == [Start("anna-k7")]
    assert daemon.state.sent_bytes == 0


_EVENTS = st.one_of(
    st.builds(Paused, st.sampled_from([None, 60.0])),
    st.builds(Chosen, st.sampled_from(MODES), st.sampled_from([None, 60.0])),
    st.just(Resumed()),
    st.builds(Ended, st.sampled_from(["", "unreachable", "crashed", "interrupted", "lease-lost"])),
    st.builds(Found, st.just("bear-b2"), st.sampled_from(["packed", "approved", "receipted"])),
    st.builds(Told, st.sampled_from(["step", "uploading", "leased"]), sent=st.integers(0, 9)),
    st.sampled_from([Stop(), Leave()]),
    st.builds(lambda s, i: (s, i), st.floats(0, 4000), st.sampled_from([0.0, 1e6])),
)


def test_what_is_found_done_while_its_process_ends_is_not_begun_again() -> None:
    """Somebody's other command brought the receipt; the process here was interrupted, or failed."""
    for code in ("unreachable", "interrupted", "crashed"):
        daemon = Played()
        assert daemon.tick() == [Start("anna-k7", 0)]
        daemon.hear(Found("anna-k7", "receipted"))

        daemon.hear(Ended(code))

        assert daemon.task().state == "done", code


@given(st.lists(_EVENTS, max_size=40))
def test_whatever_comes_one_process_runs_and_none_while_there_is_a_reason(events: list) -> None:
    """No start before an end or with a wait, nothing done is begun, an end is last."""
    daemon, alive = Played(), False
    for event in events:
        if isinstance(event, Ended) and not alive:
            continue
        done = {task.concept for task in daemon.state.tasks if task.state == "done"}
        alive = alive and not isinstance(event, Ended)
        is_tick = isinstance(event, tuple)
        actions = daemon.tick(event[0], idle_s=event[1]) if is_tick else daemon.hear(event)
        for action in actions:
            match action:
                case Start(concept):
                    assert not alive
                    assert daemon.state.wait is None
                    assert concept not in done
                    assert not daemon.state.stopping
                    alive = True
                case Interrupt() | Kill():
                    assert alive
                case End():
                    assert not alive
        assert alive == bool(daemon.state.running)
        if End() in actions:
            return
