"""A fault at one file system call of a coordinator, and what a start afterwards makes of it.

``points`` runs the scenario once under strace and counts the calls on the coordinator's folder,
thread by thread; ``inject`` lets one of them fail, starts again, lets the client ask again, and
returns what was violated. Besides: EIO of a call that changes the disk ends the process with code 1
(F4), ENOSPC is an answer and no end (F5), and a process that goes on leaves no temporary file.
"""

import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from orthofed.core.errors import OrthoFedError
from orthofed.core.invite import Invite
from orthofed.core.keys import SigningKey

from . import strace
from .forked import Answering, Died, Nursery, copied
from .member import Member, Packed
from .store_check import check

_CHANGING = ("write", "pwrite64", "fsync", "fdatasync", "rename", "link", "mkdir", "ftruncate")
_OTHERS = ("openat", "unlink", "fallocate", "fchmod", "read", "pread64", "close", "newfstatat")
_ROOM = ("error=ENOSPC", "error=EDQUOT")
_KILL = "signal=KILL"
FAULTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_CHANGING, ("error=EIO", *_ROOM, _KILL)),
    "write": ("error=EIO", *_ROOM, "retval=0", _KILL),
    "pwrite64": ("error=EIO", *_ROOM, "retval=0", _KILL),
    "fallocate": ("error=EIO", *_ROOM, _KILL),
    "openat": ("error=EIO", *_ROOM, _KILL),
    "unlink": ("error=EIO", _KILL),
    "fchmod": ("error=EIO", _KILL),
    "read": ("error=EIO", _KILL),
    "pread64": ("error=EIO", _KILL),
    "close": ("error=EIO", _KILL),
    "newfstatat": ("error=EIO", _KILL),
    "getdents64": ("error=EIO", _KILL),
}
REQUEST = "c0" * 16
_AT_ONCE = 2
_ALIKE = 3
"""Calls of one thread on one kind of path that are looked at: a sweep lists 256 folders alike."""


@dataclass(frozen=True)
class Point:
    """The n-th call of one name by one thread, counted from the start of the upload."""

    thread: str
    call: str
    n: int
    where: str
    makes: bool

    @property
    def faults(self) -> tuple[str, ...]:
        """What can happen to it: only a call that makes a name can find no room for it."""
        possible = FAULTS[self.call]
        if self.call == "openat" and not self.makes:
            return tuple(fault for fault in possible if fault not in _ROOM)
        return possible

    @property
    def syncs(self) -> bool:
        """A sync that fails for any reason ends the process."""
        return self.call in ("fsync", "fdatasync")

    @property
    def must_end(self) -> bool:
        """EIO here leaves unknown what is on the disk.

        SQLite syncs its log's folder and ignores when that fails; store.py has done so before it.
        """
        by_sqlite = (self.thread, self.call, self.where) == ("store", "fdatasync", "/data")
        return self.call in _CHANGING and not by_sqlite


@dataclass
class Toll:
    """What the injected faults came to."""

    injected: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    ended: int = 0
    refused: int = 0
    passed: int = 0
    violations: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Stage:
    """A founded folder with one member, and what it wants: to lease, to upload, to be released."""

    folder: Path
    invite: Invite
    key: SigningKey
    packed: Packed

    def act(self, coordinator: Answering, receipts: list[bytes]) -> None:
        """Lease, upload, commit, publish; the public files catch up in between."""
        coordinator.invite = self.invite
        member, lease = Member(coordinator, self.key), self.packed.lease
        member.lease(lease.concept, lease.triggers, key=lease.key, request=REQUEST)
        receipts.append(member.contribute(self.packed))
        coordinator.ask("quiet")
        coordinator.ask("release")
        coordinator.ask("quiet")


def points(nursery: Nursery, stage: Stage, scratch: Path) -> list[Point]:
    """Run the scenario once and return its calls on the folder, a few of each kind."""
    folder = copied(stage.folder, scratch / "counted")
    with nursery.answer(folder) as coordinator:
        names = {tid: name for name, tid in coordinator.ask("threads").items()}
        options = ("-f", "-y", "-s", "0", "-e", "trace=" + ",".join(FAULTS))
        with strace.traced(coordinator.child.pid, scratch / "count", *options):
            stage.act(coordinator, [])
        coordinator.close()
    found: list[Point] = []
    order: Counter[tuple[str, str]] = Counter()
    alike: Counter[tuple[str, str, str]] = Counter()
    for call in strace.calls(scratch / "count"):
        thread = names.get(call.thread, "")
        order[thread, call.name] += 1
        inside = re.search(rf"{re.escape(str(folder))}([^\">]*)", call.arguments)
        if inside is None or not thread:
            continue
        kind = thread, call.name, re.sub(r"[0-9a-f]{2,}|\.[a-z0-9_]{8}\.tmp", "*", inside[1])
        alike[kind] += 1
        if alike[kind] <= _ALIKE or call.name in _CHANGING:
            found.append(
                Point(
                    thread,
                    call.name,
                    order[thread, call.name],
                    inside[1],
                    "O_CREAT" in call.arguments,
                )
            )
    return found


def inject(nursery: Nursery, stage: Stage, scratch: Path, point: Point, fault: str) -> list[str]:
    """Let one call fail, then start again; return what happened and what was violated."""
    folder = copied(stage.folder, scratch / "fed")
    receipts: list[bytes] = []
    with nursery.answer(folder) as coordinator:
        thread = coordinator.ask("threads")[point.thread]
        options = ("-e", f"trace={point.call}")
        options += ("-e", f"inject={point.call}:{fault}:when={point.n}")
        told = "passed"
        with strace.traced(thread, scratch / "trace", *options):
            try:
                stage.act(coordinator, receipts)
            except Died:
                told = f"ended {coordinator.child.reap()}"
            except OrthoFedError as error:
                told = f"refused {error.code}"
        left = [] if told.startswith("ended") else left_over(coordinator, folder, fault)
        coordinator.child.end(signal.SIGKILL)
    trace = (scratch / "trace").read_text("latin-1")
    if "(INJECTED)" not in trace and "killed by SIGKILL" not in trace:
        return ["missed"]
    wrong = [f"{name} was left behind" for name in left if point.call != "unlink"]
    if fault == "error=EIO" and point.must_end and told != "ended 1":
        wrong.append(f"it went on after EIO: {told}")
    if fault == "error=ENOSPC" and not point.syncs and told.startswith("ended"):
        wrong.append("a full disk ended it")
    if told.startswith("refused") and fault in _ROOM and told != "refused no-room":
        wrong.append(f"a full disk was called {told}")
    return [told, *wrong, *recover(nursery, stage, folder, receipts)]


def left_over(coordinator: Answering, folder: Path, fault: str) -> list[str]:
    """Return what a coordinator that goes on left behind; a release's folder may stay after EIO."""
    try:
        if not coordinator.ask("quiet"):
            return []  # its public files are behind and may be under way
    except (Died, OrthoFedError):
        return []
    found = [path for path in folder.rglob(".*.tmp") if path.is_file() or fault in _ROOM]
    return [str(path.relative_to(folder)) for path in found]


def recover(nursery: Nursery, stage: Stage, folder: Path, receipts: list[bytes]) -> list[str]:
    """Start, let the client ask again, stop; return what the store check finds."""
    try:
        with nursery.answer(folder) as coordinator:
            stage.act(coordinator, receipts)
            coordinator.close()
    except (Died, OrthoFedError) as error:
        return [f"no start repaired it: {error!r}"]
    if len(set(receipts)) != 1:
        return [f"{len(set(receipts))} different receipts for one contribution"]
    return check(folder, receipts, settled=True).violations


def run(
    stage: Stage,
    scratch: Path,
    chosen: list[tuple[Point, str]],
    environment: dict[str, str] | None = None,
) -> Iterator[tuple[Point, str, list[str]]]:
    """Inject each of the chosen faults, two at a time."""

    def some(first: int) -> Iterator[tuple[Point, str, list[str]]]:
        with Nursery(environment) as nursery:
            for number in range(first, len(chosen), _AT_ONCE):
                place = scratch / str(number)
                place.mkdir()
                yield *chosen[number], inject(nursery, stage, place, *chosen[number])
                shutil.rmtree(place)

    with ThreadPoolExecutor(_AT_ONCE) as workers:
        for results in workers.map(lambda first: list(some(first)), range(_AT_ONCE)):
            yield from results


def total(results: Iterator[tuple[Point, str, list[str]]]) -> Toll:
    """Add up."""
    toll = Toll()
    for point, fault, (told, *wrong) in results:
        if told == "missed":
            toll.missed += 1
            continue
        toll.injected[fault.partition("=")[2]] += 1
        toll.ended += told.startswith("ended")
        toll.refused += told.startswith("refused")
        toll.passed += told == "passed"
        toll.violations += [f"{point} {fault}: {told}: {each}" for each in wrong]
    return toll


def all_faults(found: list[Point]) -> list[tuple[Point, str]]:
    """Return every fault of every point."""
    return [(point, fault) for point in found for fault in point.faults]
