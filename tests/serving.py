"""A founded federation and a coordinator in this process, over real gRPC and TLS on 127.0.0.1."""

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.desk import Desk
from orthofed.coordinator.folder import DataFolder, Settings
from orthofed.coordinator.founding import Choices, found
from orthofed.coordinator.fs import Fs
from orthofed.coordinator.house import House
from orthofed.coordinator.patience import Patience
from orthofed.coordinator.policy import Policy
from orthofed.coordinator.releasing import publish_newest
from orthofed.coordinator.server import Server
from orthofed.coordinator.service import Service
from orthofed.coordinator.tls import server_tls
from orthofed.core.basis import Family
from orthofed.core.kinds import DERIVED
from orthofed.core.spec import PROMPT, Limits

from .lenient import ANYTHING
from .member import Member, Packed
from .tiny_base import tiny_base


class FastFs(Fs):
    """A disk that syncs nothing, for tests that cut no power."""

    def sync(self, fd, what):
        del fd, what


class TestClock(SystemClock):
    """The system's clocks, moved forward by hand."""

    __test__ = False

    def __init__(self) -> None:
        self.moved_s = 0.0
        self.wall_moved_s = 0

    def wall_s(self) -> int:
        return super().wall_s() + self.wall_moved_s

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.moved_s


class Running:
    """A coordinator that listens, and the desk beside it."""

    def __init__(self, folder: DataFolder, house: House, server: Server, clock: TestClock) -> None:
        self.folder = folder
        self.house = house
        self.server = server
        self.clock = clock
        self.desk = Desk(house)
        self.packs: list[Packed] = []

    def invite(self, uses: int = 100, *, operator: bool = False) -> str:
        return self.desk.invite(uses, 7, operator)["invite"]

    def member(self, *, operator: bool = False) -> Member:
        return Member.joined(self.invite(operator=operator))

    def release(self, lambda_1024: int | None = None) -> dict[str, object]:
        return publish_newest(
            self.folder, self.desk, lambda_1024=lambda_1024, resume=False, say=lambda _: None
        )


def founded(  # noqa: PLR0913  # what a test may choose
    path: Path,
    *,
    rank: int = 4,
    limits: Limits | None = None,
    make: Callable[[Path], Path] = tiny_base,
    layerwise_tokens: bool = False,
    policy: Policy = ANYTHING,
    family: Family = "hadamard",
    derive: tuple[str, ...] = DERIVED,
    prompt: str = PROMPT,
    seed: bytes = b"",
    epochs: int = 1,
) -> DataFolder:
    """Found a federation on the base of ``make``; the coordinator's folder is ``path/fed``.

    ``seed``: of the blocks, where a test's numbers are to be the same each time.
    """
    base = make(path / "base")
    choices = Choices(
        name="wren-fed",
        rank=rank,
        limits=limits or Limits(operator_slots_percent=0, leases_a_day=100),
        base_name="tiny",
        layerwise_tokens=layerwise_tokens,
        family=family,
        prompt=prompt,
        seed=seed,
        epochs=epochs,
    )
    settings = Settings(
        base=base, listen="127.0.0.1:0", reserve_mib=0, admission=policy, derive=derive
    )
    found(path / "fed", choices, settings, clock=SystemClock(), fs=FastFs(), say=lambda _: None)
    return DataFolder.open(path / "fed")


@contextmanager
def running(
    folder: DataFolder, *, fs: Fs | None = None, patience: Patience | None = None
) -> Iterator[Running]:
    """Serve the folder from this process until the block ends."""
    fs, clock = fs or FastFs(), TestClock()
    with folder.locked(), House(folder, fs=fs, clock=clock) as house:
        tls = server_tls(
            folder.keys, folder.settings().hostnames, fs=fs, now=dt.datetime.now(dt.UTC)
        )
        server = Server(
            Service(house).answer, listen="127.0.0.1:0", tls=tls, clock=clock, patience=patience
        )
        fs.write_whole(folder.address_file, f"127.0.0.1:{server.port}".encode())
        try:
            yield Running(folder, house, server, clock)
        finally:
            server.stop()
