"""`orthofed client daemon` and a real coordinator: real processes and signals, tiny trainings.

What is decided is tested in test_daemon_heart.py; here it is carried out.
"""

import json
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from orthofed.client import daemon_state as heart
from orthofed.client.daemon_command import mode
from orthofed.client.daemon_control import event_of
from orthofed.client.daemon_log import DaemonLog
from orthofed.client.daemon_memory import remember
from orthofed.client.daemon_process import DaemonProcess
from orthofed.client.daemon_settings import DaemonSettings
from orthofed.client.daemon_shell import DaemonShell
from orthofed.client.home import Home, Membership
from orthofed.client.join import join
from orthofed.client.state import load
from orthofed.client.training_log import Logged
from orthofed.core.errors import InputError

from .coordinator_process import Coordinator, run
from .owner_daemon import TRAINING, OwnerDaemon, client, queue
from .tiny_base import tiny_base
from .tiny_concept import write_images

pytestmark = pytest.mark.long

FED = "f" * 64


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the folder with base, images and settings that all tests share."""
    folder = tmp_path_factory.mktemp("daemons")
    tiny_base(folder / "base")
    write_images(folder / "images", 6)
    (folder / "quick.toml").write_text(TRAINING)
    return folder


@pytest.fixture(scope="module")
def federation(place: Path) -> Iterator[Coordinator]:
    with Coordinator.found(place / "fed", place / "base", "--rank", "1") as running:
        yield running


@pytest.fixture
def home(federation: Coordinator, tmp_path: Path) -> Home:
    made = Home.at(tmp_path / "home")
    join(made, federation.invite(), url=None, patience_s=20)
    return made


def _contributions(federation: Coordinator) -> list[str]:
    """Return the concepts of all contributions in the ledger, with repetitions."""
    shown = run("coordinator", "contributions", str(federation.folder), "--json").stdout
    return sorted(row["concept"] for row in json.loads(shown)["contributions"])


def test_a_queue_of_two_is_taught_and_the_daemon_stops_cleanly(
    federation: Coordinator, home: Home, place: Path
) -> None:
    """Two concepts, one after the other, each once in the ledger; SIGTERM, exit 0, no socket."""
    with OwnerDaemon(home, queue(place, "wolf-a1", "bear-b2")) as daemon:
        done = daemon.until_done()
        shown = client(home, "status").stdout
        daemon.send(signal.SIGTERM)
        code = daemon.ended()

    assert code == 0
    assert done["rss_bytes"] < 60e6, "product.md 6: what a waiting client costs"
    assert "nothing to do, mode always" in shown
    for concept in ("wolf-a1", "bear-b2"):
        session = load(home.run(concept))
        assert session is not None
        assert session.phase == "receipted"
        assert _contributions(federation).count(concept) == 1
    assert not (home.folder / "daemon.sock").exists()


def test_a_pause_frees_the_machine_and_outlives_a_kill_and_the_training_goes_on(
    home: Home, place: Path
) -> None:
    """`pause` says what becomes of the slot; ten seconds later no job is left; no step is lost."""
    config = queue(place, "goat-c3", extra="steps = 400", hours=[])
    with OwnerDaemon(home, config) as daemon:
        before = daemon.until(lambda status: status["queue"][0]["step"] >= 2)
        (job,) = _children(before["pid"])

        paused_s = time.monotonic()
        said = client(home, "pause")
        while _is_alive(job) and time.monotonic() < paused_s + 30:
            time.sleep(0.05)
        took_s = time.monotonic() - paused_s
        daemon.send(signal.SIGKILL)
        daemon.ended()

        assert took_s < 10
        assert "stays yours for at most" in said.stderr
        assert "paused by you" in said.stdout
        daemon.start()
        still = daemon.until(lambda status: status["wait"] is not None)
        assert still["wait"]["reason"] == "paused by you"
        assert not _children(still["pid"])
        client(home, "resume")
        further = daemon.until(lambda s: s["queue"][0]["step"] > before["queue"][0]["step"])
        daemon.send(signal.SIGTERM)
        assert daemon.ended() == 0

    session = load(home.run("goat-c3"))
    assert session is not None
    assert (session.phase, session.fence) == ("leased", 1)
    log = Logged.read(home.run("goat-c3") / "log" / "1")
    assert log is not None
    steps = [step.step for step in log.steps]
    assert steps == list(range(1, len(steps) + 1)), "each step once: saved and gone on from"
    assert len(steps) >= further["queue"][0]["step"]


def test_a_job_whose_daemon_is_gone_ends_whatever_it_waits_for(
    federation: Coordinator, home: Home, tmp_path: Path
) -> None:
    """Its stdin ends, and it stops as if interrupted: it would hold the home, unseen."""
    federation.kill()
    job = DaemonProcess(
        {"do": "orders", "home": str(home.folder), "patience_s": 90}, stderr=tmp_path / "stderr"
    )
    try:
        time.sleep(1)
        assert job._process.stdin is not None
        job._process.stdin.close()
        code, said = job._process.wait(45), list(job.lines())
    finally:
        job.kill()
        job.close()
        federation.start()

    # An interrupt that falls into a finaliser is swallowed by Python; then the grace ends it.
    assert (code, [line["code"] for line in said]) in [(1, ["interrupted"]), (-signal.SIGKILL, [])]


def test_of_what_a_job_prints_the_last_megabyte_stays(home: Home, tmp_path: Path) -> None:
    errors = tmp_path / "stderr"
    job = DaemonProcess({"do": "orders", "home": str(home.folder), "patience_s": 90}, stderr=errors)
    try:
        with errors.open("ab") as printed:
            for _ in range(5):
                printed.write(b"a warning\n" * 50_000)
                printed.flush()
                list(job.lines())
                assert errors.stat().st_size <= 1 << 20
            printed.write(b"the last words\n")
        list(job.lines())
    finally:
        job.kill()
        job._process.wait(30)
        job.close()

    assert errors.stat().st_size > 1 << 18
    assert errors.read_bytes().endswith(b"a warning\nthe last words\n")


def test_nothing_leaves_without_the_owners_yes(
    federation: Coordinator, home: Home, place: Path
) -> None:
    """With gate = "ask" it waits; `approve` shows the list, and then exactly that is sent."""
    with OwnerDaemon(home, queue(place, "deer-d4", gate="ask")) as daemon:
        daemon.until(lambda status: status["queue"][0]["wait"] is not None)
        shown = client(home, "status").stdout
        assert "deer-d4" not in _contributions(federation)

        refused = client(home, "approve", "deer-d4", check=False)
        said = client(home, "approve", "deer-d4", "--yes")
        daemon.until_done()

    assert "deer-d4  waiting for your approval" in shown
    assert refused.returncode == 2
    assert "contribution.safetensors" in said.stderr
    assert "memorisation" in said.stderr
    assert _contributions(federation).count("deer-d4") == 1


def test_an_absent_coordinator_is_waited_for(
    federation: Coordinator, home: Home, place: Path
) -> None:
    """It is away when the daemon starts, comes back, and is asked again by itself."""
    federation.kill()
    with OwnerDaemon(home, queue(place, "hare-e5", retry_minutes=0.05)) as daemon:
        away = daemon.until(lambda status: status["queue"][0]["wait"] is not None)
        federation.start()
        daemon.until_done()

    assert away["queue"][0]["wait"]["reason"] == "coordinator unreachable"
    assert away["queue"][0]["wait"]["until"]
    assert _contributions(federation).count("hare-e5") == 1


def test_a_coordinator_that_is_killed_in_mid_training_costs_no_lease_and_no_contribution(
    federation: Coordinator, home: Home, place: Path
) -> None:
    """Killed after a step, started again steps later: the training goes on, one lease, one leaf.

    The log tells it, a line an event, with slot, fence and leaf as the coordinator lists them.
    """
    config = queue(place, "vole-k1", extra="steps = 60", retry_minutes=0.05)
    with OwnerDaemon(home, config) as daemon:
        before = daemon.until(lambda status: status["queue"][0]["step"] >= 2)
        federation.kill()
        daemon.until(lambda s: s["queue"][0]["step"] > before["queue"][0]["step"] + 2)
        federation.start()
        daemon.until_done()

    lines = (home.folder / "daemon" / "log.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    leases = [each for each in told if each["event"] == "leased"]
    receipts = [each for each in told if each["event"] == "receipt"]
    shown = run("coordinator", "contributions", str(federation.folder), "--json").stdout
    (kept,) = [c for c in json.loads(shown)["contributions"] if c["concept"] == "vole-k1"]
    session = load(home.run("vole-k1"))
    assert session is not None
    assert [(each["slot"], each["fence"]) for each in leases] == [(session.slot, session.fence)]
    assert [(each["slot"], each["leaf"]) for each in receipts] == [(kept["slot"], kept["leaf"])]
    assert leases[0]["concept"] == receipts[0]["concept"] == "vole-k1"
    assert session.phase == "receipted"


def test_a_used_up_allowance_holds_the_upload_until_tomorrow(
    federation: Coordinator, home: Home, place: Path
) -> None:
    """A megabyte was sent today, by what the daemon remembers: it trains, and sends nothing."""
    folder = home.folder / "daemon"
    folder.mkdir()
    now = heart.Now(datetime.now().astimezone(), 0.0)
    used = heart.State(DaemonSettings(), now, (), day=now.wall.date().isoformat())
    remember(folder, replace(used, sent_bytes=1_000_000))

    with OwnerDaemon(home, queue(place, "puma-j1", upload_mb_day=1)) as daemon:
        status = daemon.until(lambda status: status["queue"][0]["wait"] is not None)

    assert status["queue"][0]["wait"]["reason"] == "quota"
    assert status["queue"][0]["wait"]["until"][11:16] == "00:00"
    session = load(home.run("puma-j1"))
    assert session is not None
    assert session.phase == "approved"
    assert "puma-j1" not in _contributions(federation)


def test_a_full_disk_and_no_process_end_no_daemon(tmp_path: Path) -> None:
    """What cannot be written is said; a job that cannot begin is tried again later."""
    folder = tmp_path / "daemon"
    folder.mkdir()
    settings = DaemonSettings.read(queue(tmp_path, "puma-j1"))
    made = Home(tmp_path / "home")
    made.join(Membership("127.0.0.1:1", b"", FED, FED), spec=b"{}", keyrings=())
    shell = DaemonShell(made, settings, folder)
    (folder / "state.json").mkdir()
    (folder / "job.stderr").mkdir()

    with shell:
        shell.hear(heart.Paused())
        shell.hear(heart.Resumed())
        status = shell.status()

    wait = status["queue"][0]["wait"]
    assert wait is not None
    assert wait["reason"] == "failed"
    assert wait["until"]
    assert '"event": "not-kept"' in (folder / "log.jsonl").read_text()


def test_a_second_daemon_on_one_home_is_refused(home: Home, place: Path) -> None:
    """Exit code 2, and the first one goes on."""
    config = queue(place, "lynx-f6", mode="never")
    with OwnerDaemon(home, config) as daemon:
        second = client(home, "daemon", "--config", str(config), check=False)
        status = daemon.status()
        told = json.loads(client(home, "status", "--json").stdout)

    assert second.returncode == 2
    assert "a daemon already runs" in second.stderr
    assert status is not None
    assert status["wait"]["reason"] == "mode is never"
    assert told["schema"] == "orthofed.status/1"
    assert told["daemon"]["pid"] == status["pid"]
    assert told["daemon"]["wait"] == status["wait"]
    assert [task["concept"] for task in told["daemon"]["queue"]] == ["lynx-f6"]
    assert json.loads(client(home, "status", "--json").stdout)["daemon"] is None, "it ended"


def test_a_snooze_is_one_hour_and_resume_ends_it(home: Home, place: Path) -> None:
    """`until` is an hour after the word, whatever the mode; a time of the owner's own holds too."""
    with OwnerDaemon(home, queue(place, "moth-s1", mode="never")) as daemon:
        spans = []
        for words in (("snooze",), ("snooze", "--for", "20m")):
            before = datetime.now().astimezone()
            said = json.loads(client(home, *words, "--json").stdout)["wait"]
            after = datetime.now().astimezone()
            assert said["reason"] == "paused by you"
            until = datetime.fromisoformat(said["until"])
            spans.append(((until - after).total_seconds(), (until - before).total_seconds()))
        client(home, "resume")
        again = daemon.status()

    for (low, high), wanted_s in zip(spans, (3600, 1200), strict=True):
        assert low - 60 <= wanted_s <= high + 60  # counted from the daemon's last look at the clock
    assert again is not None
    assert again["wait"]["reason"] == "mode is never"


def _killed_at_random(
    federation: Coordinator, home: Home, config: Path, concept: str, kills: int, seed: int
) -> None:
    """Kill the daemon or its job ``kills`` times, then let it finish; one contribution."""
    chance = random.Random(seed)  # noqa: S311  # a test
    daemon = OwnerDaemon(home, config)
    for _ in range(kills):
        with daemon:
            time.sleep(chance.uniform(0.2, 9))
            status = daemon.status()
            jobs = _children(status["pid"]) if status is not None else []
            if jobs and chance.random() < 0.4:
                os.kill(jobs[0], signal.SIGKILL)
                time.sleep(chance.uniform(0, 2))
            daemon.send(signal.SIGKILL)
            daemon.ended()
    with daemon:
        daemon.until_done()
        daemon.send(signal.SIGTERM)
        assert daemon.ended() == 0

    assert _contributions(federation).count(concept) == 1


def test_killed_anywhere_a_concept_has_one_contribution(
    federation: Coordinator, home: Home, place: Path, seed: int
) -> None:
    """SIGKILL of the daemon, and sometimes of its job first, at random moments."""
    config = queue(place, "mole-g7", retry_minutes=0.05)

    _killed_at_random(federation, home, config, "mole-g7", 4, seed)


@pytest.mark.faults
def test_killed_forty_times_a_concept_has_one_contribution(
    federation: Coordinator, home: Home, place: Path, seed: int
) -> None:
    """The long form of the test above."""
    config = queue(place, "newt-h8", extra="steps = 60", retry_minutes=0.05)

    _killed_at_random(federation, home, config, "newt-h8", 40, seed)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{" * 100_000,
        b'{"v": 2, "do": "status"}',
        b'{"v": 1, "do": "shutdown"}',
        b'{"v": 1, "do": "status", "more": 1}',
        b'{"v": 1, "do": "resume", "for_s": 5}',
        b'{"v": 1, "do": "pause", "for_s": 0}',
        b'{"v": 1, "do": "pause", "for_s": NaN}',
        pytest.param(b'{"v": 1, "do": "pause", "for_s": 1%s}' % (b"0" * 400), id="400 digits"),
        b'{"v": 1, "do": "pause", "for_s": true}',
        b'{"v": 1, "do": "pause", "for_s": "2h"}',
        b'{"v": 1, "do": ["pause"]}',
        b'{"v": 1, "do": "pause", "mode": "always"}',
        b'{"v": 1, "do": "mode"}',
        b'{"v": 1, "do": "mode", "mode": "sometimes"}',
        b'{"v": 1, "do": "mode", "mode": ["always"]}',
        b'{"v": 1, "do": "mode", "mode": "always", "for_s": 0}',
    ],
)
def test_what_is_no_request_asks_for_nothing(line: bytes) -> None:
    """A closed schema: what is not in it changes nothing."""
    assert event_of(line) is None


@pytest.mark.parametrize(
    ("mode_name", "span", "code"),
    [
        ("sometimes", None, "bad-mode"),
        ("always", "2", "bad-time-span"),
        ("auto", "9999d", "bad-time-span"),
    ],
)
def test_a_mode_or_time_that_does_not_exist_is_refused(
    tmp_path: Path, mode_name: str, span: str | None, code: str
) -> None:
    """Before anybody is asked, with what would be right."""
    with pytest.raises(InputError) as refused:
        mode(mode_name, span, tmp_path)

    assert refused.value.code == code


def test_peers_that_say_too_much_or_nothing_hold_nobody_up(home: Home, place: Path) -> None:
    """The socket is the owner's alone; a long line is refused, a silent peer is dropped."""
    path = home.folder / "daemon.sock"
    with OwnerDaemon(home, queue(place, "oryx-i9", mode="never")) as daemon:
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as loud:
            silent.connect(str(path))
            loud.connect(str(path))
            loud.sendall(b'{"v": 1, "do": "status", ' + b" " * 5_000)
            assert json.loads(loud.makefile("rb").readline()) == {"v": 1, "error": "bad-request"}
            assert daemon.status() is not None
            silent.settimeout(10)
            assert silent.recv(1) == b"", "dropped"


def test_the_log_begins_a_new_file_at_its_size_and_keeps_so_many(tmp_path: Path) -> None:
    """Lines of JSON, whatever values they have; the oldest file goes."""
    log = DaemonLog(tmp_path, megabytes=1, files=2)
    for number in range(5_000):
        log.say("step", number=number, text="x" * 900, event="another")
    log.close()

    files = sorted(tmp_path.glob("log.jsonl*"))
    assert [path.name for path in files] == ["log.jsonl", "log.jsonl.1", "log.jsonl.2"]
    assert all(path.stat().st_size <= 1_000_000 for path in files)
    last = json.loads(files[0].read_text().splitlines()[-1])
    assert (last["event"], last["number"]) == ("step", 4_999)


def _children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]


def _is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
