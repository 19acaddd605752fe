"""Why a daemon waits, and until when: the one place that weighs the machine against the settings.

    paused by you | mode is never | disk low | home too large | too hot     in every mode
    outside hours | on battery | user active | GPU busy         in mode auto
    coordinator unreachable | no slot is free | lease lost | home in use | quota |
    waiting for your approval | failed                          of one concept (daemon.py)

`machine_wait(settings, seen, ...)` is a pure function of what was seen; the words are those of
product.md 5 and some more. Law: what cannot be seen never holds the daemon back,
and is named in the status instead. Until: None where no time is known.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from .daemon_settings import DaemonSettings
from .hours import is_open, opens_at

Reason = Literal[
    "paused by you",
    "mode is never",
    "disk low",
    "home too large",
    "too hot",
    "outside hours",
    "on battery",
    "user active",
    "GPU busy",
    "coordinator unreachable",
    "no slot is free",
    "lease lost",
    "home in use",
    "quota",
    "waiting for your approval",
    "failed",
]
_NEVER_BUSY: Final = 100
_COOLED_C: Final = 5
"""Once too hot, it has to be this much cooler: else a training starts and stops each minute."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the machine looks like now; None: it cannot be seen here."""

    idle_s: float | None = None  # since a person did something
    on_battery: bool | None = None
    gpu_busy_percent: int | None = None  # by others than this daemon's training
    temperature_c: float | None = None  # of the hottest part
    free_disk_gb: float | None = None
    home_gb: float | None = None  # what the home takes on its disk


@dataclass(frozen=True, slots=True)
class Wait:
    """One reason, when it ends as far as is known, and what was measured."""

    reason: Reason
    until: datetime | None = None
    detail: str = ""


def guards(settings: DaemonSettings, seen: Seen, *, was_hot: bool) -> Wait | None:
    """Return what holds work back in every mode but never: disk, home and heat."""
    if seen.free_disk_gb is not None and seen.free_disk_gb < settings.min_free_disk_gb:
        free = f"{seen.free_disk_gb:.1f} GB free, {settings.min_free_disk_gb:g} have to be"
        return Wait("disk low", detail=free)
    kept, allowed = seen.home_gb, settings.max_disk_gb
    if kept is not None and 0 < allowed < kept:
        return Wait("home too large", detail=f"{kept:.1f} GB are kept, {allowed:g} at most")
    most = settings.max_temperature_c - _COOLED_C * was_hot
    if seen.temperature_c is not None and seen.temperature_c > most:
        return Wait("too hot", detail=f"{seen.temperature_c:.0f} degrees C, {most} at most")
    return None


def machine_wait(
    settings: DaemonSettings, seen: Seen, now: datetime, *, was_hot: bool = False
) -> Wait | None:
    """Return why no training may run now, the owner's own pause aside; None: one may."""
    if settings.mode == "never":
        return Wait("mode is never", detail="the settings say so")
    if (held := guards(settings, seen, was_hot=was_hot)) or settings.mode == "always":
        return held
    if not is_open(settings.windows, now):
        return Wait("outside hours", opens_at(settings.windows, now))
    return _somebody(settings, seen, now)


def _somebody(settings: DaemonSettings, seen: Seen, now: datetime) -> Wait | None:
    """Return whose machine it is now: who is at the keys, on the battery, on the GPU."""
    if seen.on_battery and not settings.on_battery:
        return Wait("on battery")
    if seen.idle_s is not None and seen.idle_s < 60 * settings.idle_minutes:
        left_s = 60 * settings.idle_minutes - seen.idle_s
        idle = f"idle for {seen.idle_s:.0f} s, {60 * settings.idle_minutes:.0f} are asked"
        return Wait("user active", now + timedelta(seconds=left_s), idle)
    busy, most = seen.gpu_busy_percent, settings.gpu_busy_percent
    if busy is not None and most < _NEVER_BUSY and busy > most:
        return Wait("GPU busy", detail=f"{busy} % by others, {most} at most")
    return None
