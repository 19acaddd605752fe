"""Looks at the owner's machine: is somebody there, is it on battery, hot, full, its GPU busy.

    idle        the newest touch of a terminal (/dev/tty*, /dev/pts/*), as `w` takes it, and of a
                desktop session, where logind knows of one (`loginctl`)
    battery, temperature, disk    psutil;  temperature and load of GPUs also NVML, if installed

Laws: what cannot be seen is None and is named by `blind`, never guessed; reading a terminal's time
stamps tells nothing of what was typed. Not seen: a mouse or key on a desktop that tells logind
nothing, a game pad, somebody who watches a film. Cost: a millisecond or so, and,
where logind is, a short process or two every 20 s.
"""

import contextlib
import importlib
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from .daemon_waits import Seen

TERMINALS: Final = ("/dev", "/dev/pts")
SEATS: Final = Path("/run/systemd/seats")
_SAMPLES_S: Final = 5.0
_LOGIND_S: Final = 2.0
_HOME_S: Final = 60.0
_DESKTOP_S: Final = 20.0
"""Between questions to logind: each is a process or two."""


@dataclass(slots=True)
class Machine:
    """One machine; ``folder`` lies on the disk that counts, ``gpu`` as the settings say it."""

    folder: Path
    gpu: str = "auto"
    _nvml: Any = None
    _looked_for: bool = field(default=False)
    _desktop: tuple[float, ...] = ()  # when each desktop session fell idle
    _desktop_s: float = field(default=float("-inf"))  # when logind was asked, monotonic
    _home_gb: float = 0.0
    _home_s: float = field(default=float("-inf"))  # when the home was measured, monotonic

    def look(self, own: int | None) -> Seen:
        """Return what is seen now; ``own`` is the process whose GPU load is our own."""
        nvml = self._library()
        heat = [reading for reading in (_heat(), *self._gpu_heat(nvml)) if reading is not None]
        return Seen(
            idle_s=self.idle_s(),
            on_battery=_on_battery(),
            gpu_busy_percent=self._others(nvml, _family(own)) if nvml is not None else None,
            temperature_c=max(heat, default=None),
            free_disk_gb=shutil.disk_usage(self.folder).free / 1e9,
            home_gb=self._home(),
        )

    def idle_s(self) -> float | None:
        """Return the seconds since a terminal or a desktop was used; None: none can be seen."""
        if time.monotonic() - self._desktop_s >= _DESKTOP_S:
            self._desktop, self._desktop_s = tuple(_desktop_touches()), time.monotonic()
        touched = [*_terminal_touches(), *self._desktop]
        return max(0.0, time.time() - max(touched)) if touched else None

    def blind(self, seen: Seen) -> list[str]:
        """Return what of ``seen`` cannot be seen here, in words."""
        says = {
            "who is at the keys": seen.idle_s,
            "the battery": seen.on_battery,
            "the load of a GPU": seen.gpu_busy_percent,
            "the temperature": seen.temperature_c,
        }
        return [what for what, value in says.items() if value is None]

    def _home(self) -> float:
        """Return what the home takes on its disk, as it was at most a minute ago."""
        if time.monotonic() - self._home_s >= _HOME_S:
            blocks = 0
            for place, folders, files in os.walk(self.folder):
                for name in (*folders, *files):
                    with contextlib.suppress(OSError):  # gone meanwhile
                        blocks += os.lstat(os.path.join(place, name)).st_blocks  # noqa: PTH118  # of many
            self._home_gb, self._home_s = 512 * blocks / 1e9, time.monotonic()
        return self._home_gb

    def _library(self) -> Any:  # noqa: ANN401  # a module without types, or None
        """Return NVML, started, if this machine has it and trains on a GPU."""
        if not self._looked_for:
            self._looked_for = True
            if self.gpu not in {"cpu", "mps"}:
                with contextlib.suppress(Exception):  # no driver, no library: no GPU to look at
                    nvml = importlib.import_module("pynvml")
                    nvml.nvmlInit()
                    self._nvml = nvml
        return self._nvml

    def _gpus(self, nvml: Any) -> Iterator[Any]:  # noqa: ANN401  # as above
        if nvml is None:
            return
        number = self.gpu.partition(":")[2]
        for index in range(nvml.nvmlDeviceGetCount()):
            if not number or int(number) == index:
                yield nvml.nvmlDeviceGetHandleByIndex(index)

    def _gpu_heat(self, nvml: Any) -> Iterator[float]:  # noqa: ANN401  # as above
        for gpu in self._gpus(nvml):
            with contextlib.suppress(nvml.NVMLError):
                yield float(nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU))

    def _others(self, nvml: Any, own: Collection[int]) -> int | None:  # noqa: ANN401  # as above
        """Return the load by others, in percent of the busiest GPU.

        While a job of ours runs, what each process takes is summed without it: else a training
        would stop itself. A GPU that does not tell them apart then counts as free.
        """
        loads: list[int] = []
        for gpu in self._gpus(nvml):
            with contextlib.suppress(nvml.NVMLError):
                if not own:
                    loads.append(int(nvml.nvmlDeviceGetUtilizationRates(gpu).gpu))
                    continue
                since_us = int((time.time() - _SAMPLES_S) * 1e6)
                samples = nvml.nvmlDeviceGetProcessUtilization(gpu, since_us)
                newest = {sample.pid: int(sample.smUtil) for sample in samples}
                loads.append(sum(load for pid, load in newest.items() if pid not in own))
        return max(loads, default=None if not own else 0)


def _terminal_touches() -> Iterator[float]:
    for folder in TERMINALS:
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):  # noqa: PTH208  # names alone: most need no look
                if folder.endswith("pts") or (name.startswith("tty") and name[3:].isdecimal()):
                    yield from _touch(f"{folder}/{name}")


def _touch(path: str) -> Iterator[float]:
    with contextlib.suppress(OSError):
        found = os.stat(path)  # noqa: PTH116  # in a loop over a hundred names
        if stat.S_ISCHR(found.st_mode) and not path.endswith("ptmx"):
            yield found.st_atime


def _desktop_touches() -> Iterator[float]:
    """Yield when each desktop session fell idle, or now where it is not."""
    if not SEATS.is_dir() or not shutil.which("loginctl"):
        return
    for line in _loginctl("list-sessions", "--no-legend"):
        asked = ("-pType", "-pIdleHint", "-pIdleSinceHint")
        told: dict[str, str] = {}
        for each in _loginctl("show-session", line.split()[0], *asked):
            key, _, value = each.partition("=")
            told[key] = value
        if told.get("Type") in {"x11", "wayland", "mir"}:
            since_us = told.get("IdleSinceHint", "0")
            is_idle = told.get("IdleHint") == "yes" and since_us.isdecimal()
            yield int(since_us) / 1e6 if is_idle else time.time()


def _loginctl(*words: str) -> list[str]:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(  # noqa: S603  # fixed words, and ids that logind gave
            ["loginctl", *words],  # noqa: S607  # the system's own
            capture_output=True,
            text=True,
            timeout=_LOGIND_S,
            check=True,
        )
        return [line for line in done.stdout.splitlines() if line.strip()]
    return []


def _family(pid: int | None) -> set[int]:
    """Return ``pid`` and all that it started; empty where there is no job."""
    if pid is None:
        return set()
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(pid).children(recursive=True)
        return {pid, *(child.pid for child in children)}
    return {pid}


def _on_battery() -> bool | None:
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return None if battery is None or battery.power_plugged is None else not battery.power_plugged


def _heat() -> float | None:
    if not hasattr(psutil, "sensors_temperatures"):
        return None  # on systems where psutil reads none
    with contextlib.suppress(OSError):
        readings = [
            each.current
            for sensors in psutil.sensors_temperatures().values()
            for each in sensors
            if each.current is not None and -50 < each.current < 200  # noqa: PLR2004  # broken ones
        ]
        return max(readings, default=None)
    return None
