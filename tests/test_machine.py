"""What the daemon sees of its machine: terminals, disk, and a GPU through its maker's library."""

import os
import pty
import stat
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import psutil
import pytest

from orthofed.client.daemon_waits import Seen
from orthofed.client.machine import Machine


def test_a_key_in_any_terminal_ends_idleness() -> None:
    """The kernel notes when a terminal was read; what was typed is not looked at."""
    ours, theirs = pty.openpty()
    try:
        os.utime(os.ttyname(theirs), (time.time() - 1_000, time.time()))
        machine = Machine(Path("/"), "cpu")
        before = machine.idle_s()
        os.utime(os.ttyname(theirs))
        after = machine.idle_s()
    finally:
        os.close(ours)
        os.close(theirs)

    assert before is not None
    assert after is not None
    assert after < 5


def test_a_desktop_session_counts_where_logind_knows_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for loginctl: a desktop idle for 500 s, and one over ssh, which is none."""
    since_us = int((time.time() - 500) * 1e6)
    loginctl = tmp_path / "loginctl"
    loginctl.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = list-sessions ]; then echo "2 1000 ana seat0"; echo "3 1000 ana"; exit; fi\n'
        'if [ "$2" = 3 ]; then echo Type=tty; echo IdleHint=no; exit; fi\n'
        f"echo Type=wayland; echo IdleHint=yes; echo IdleSinceHint={since_us}\n"
    )
    loginctl.chmod(loginctl.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("orthofed.client.machine.SEATS", tmp_path)
    monkeypatch.setattr("orthofed.client.machine.TERMINALS", ())

    found = Machine(tmp_path, "cpu").idle_s()

    assert found is not None
    assert 499 < found < 520


def test_nobody_who_could_be_seen_is_no_idleness(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without terminals and desktops: None, and named as not seen."""
    monkeypatch.setattr("orthofed.client.machine.SEATS", Path("/nowhere"))
    monkeypatch.setattr("orthofed.client.machine.TERMINALS", ("/nowhere",))

    machine = Machine(Path("/"), "cpu")
    assert machine.idle_s() is None
    assert "who is at the keys" in machine.blind(Seen())


@pytest.mark.parametrize(
    ("battery", "sensors", "on_battery", "heat_c"),
    [
        (SimpleNamespace(power_plugged=False), {"core": [40.0, 71.5], "disk": [55.0]}, True, 71.5),
        (SimpleNamespace(power_plugged=True), {"core": [None, 40.0]}, False, 40.0),
        (SimpleNamespace(power_plugged=None), {"broken": [-100.0, 65_261.0]}, None, None),
        (None, {}, None, None),
        (None, OSError("a sensor that is not there any more"), None, None),
    ],
    ids=["on battery", "plugged", "not told", "none", "unreadable"],
)
def test_battery_and_heat_are_what_psutil_reads(
    battery: object,
    sensors: dict[str, list[float | None]] | OSError,
    on_battery: bool | None,
    heat_c: float | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stand-ins for the machine's sensors: the hottest sound reading; what is not told is None."""

    def temperatures() -> dict[str, list[SimpleNamespace]]:
        if isinstance(sensors, OSError):
            raise sensors
        return {
            name: [SimpleNamespace(current=each) for each in found]
            for name, found in sensors.items()
        }

    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    monkeypatch.setattr(psutil, "sensors_temperatures", temperatures, raising=False)

    machine = Machine(tmp_path, "cpu")
    seen = machine.look(None)

    assert (seen.on_battery, seen.temperature_c) == (on_battery, heat_c)
    assert ("the battery" in machine.blind(seen)) == (on_battery is None)
    assert ("the temperature" in machine.blind(seen)) == (heat_c is None)


@pytest.mark.parametrize("name", ["sensors_battery", "sensors_temperatures"])
def test_a_system_whose_psutil_has_no_such_reading_is_blind_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function is missing on some systems: None, and no error."""
    monkeypatch.delattr(psutil, name, raising=False)

    seen = Machine(tmp_path, "cpu").look(None)

    assert (seen.on_battery if name == "sensors_battery" else seen.temperature_c) is None


def test_the_disk_of_the_home_is_looked_at(tmp_path: Path) -> None:
    """In GB; a CPU setting never asks for a GPU."""
    seen = Machine(tmp_path, "cpu").look(None)

    assert seen.free_disk_gb is not None
    assert seen.free_disk_gb > 0
    assert seen.gpu_busy_percent is None


def test_what_the_home_takes_is_measured_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything below it, by what the disk gives to it; links count as themselves."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "save").write_bytes(b"x" * 3_000_000)
    (tmp_path / "link").symlink_to(tmp_path / "runs" / "save")
    now_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    machine = Machine(tmp_path, "cpu")
    before = machine.look(None).home_gb
    (tmp_path / "more").write_bytes(b"x" * 5_000_000)

    within, now_s = machine.look(None).home_gb, now_s + 60

    assert before == within == pytest.approx(3e-3, rel=0.1)
    assert machine.look(None).home_gb == pytest.approx(8e-3, rel=0.1)


class _Nvml(ModuleType):
    """Three GPUs as NVML tells of them: we are at work on the first, others on the second."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        """What the library raises."""

    def __init__(self, pids: dict[int, list[int]]) -> None:
        super().__init__("pynvml")
        self.pids = pids

    def nvmlInit(self) -> None:  # noqa: N802  # NVML's own names, as below
        pass

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 3

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetTemperature(self, gpu: int, _sensor: int) -> int:  # noqa: N802
        return 150 + gpu

    def nvmlDeviceGetProcessUtilization(self, gpu: int, since_us: int) -> list[SimpleNamespace]:  # noqa: N802
        assert 0 < time.time() - since_us / 1e6 < 60
        samples = [SimpleNamespace(pid=pid, smUtil=99) for pid in self.pids[gpu]]  # the older ones
        samples += [SimpleNamespace(pid=pid, smUtil=20) for pid in self.pids[gpu]]
        if not samples:
            raise self.NVMLError
        return samples

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=(90, 40, 0)[gpu])


@pytest.mark.parametrize(
    ("gpu", "own", "busy"),
    [
        ("auto", True, 40),  # the first GPU's load is half our own
        ("auto", False, 90),
        ("cuda:0", True, 20),
        ("cuda:1", True, 40),
        ("cuda:2", True, 0),  # one that does not tell processes apart
    ],
)
def test_the_load_of_others_is_told_from_our_own(
    gpu: str, own: bool, busy: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for NVML: this machine has no GPU. The hottest part counts."""
    monkeypatch.setitem(sys.modules, "pynvml", _Nvml({0: [os.getpid(), 7], 1: [1, 7], 2: []}))

    seen = Machine(tmp_path, gpu).look(os.getpid() if own else None)

    assert seen.gpu_busy_percent == busy
    assert seen.temperature_c == {"auto": 152, "cuda:0": 150, "cuda:1": 151, "cuda:2": 152}[gpu]
