"""A real coordinator process whose wall clock jumps when a test writes to a file.

Run as a script by ``JumpingClock``: the command's own daemon, with a Clock that adds the seconds in
that file to wall time and leaves monotonic time alone, as a machine's clock does when it is set.
"""

import json
import mmap
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Self

from orthofed.coordinator import daemon
from orthofed.coordinator.clock import SystemClock

_SECONDS = struct.Struct("q")


class OffsetClock(SystemClock):
    """The machine's clocks, with wall time moved by what a file says."""

    def __init__(self, path: Path) -> None:
        """Map the file, so that a reading costs no call."""
        with path.open("rb") as file:
            self._moved_s = mmap.mmap(file.fileno(), _SECONDS.size, access=mmap.ACCESS_READ)

    def wall_s(self) -> int:
        """Return Unix seconds, wrong by as much as the test wants."""
        return super().wall_s() + _SECONDS.unpack(self._moved_s[: _SECONDS.size])[0]


class JumpingClock:
    """Serves one folder; ``jump(seconds)`` sets the process's wall clock."""

    def __init__(
        self, folder: Path, *, environment: dict[str, str] | None = None, ahead_s: int = 0
    ) -> None:
        """Start with a clock that is right, or so many seconds ahead."""
        self.folder = folder
        self._file = folder.with_name(f"{folder.name}.clock")
        self._environment = {**(environment or os.environ), "OPENBLAS_NUM_THREADS": "1"}
        self.address = "127.0.0.1:0"
        self.jump(ahead_s)
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def jump(self, seconds: int) -> None:
        """Move the wall clock to so many seconds beside the right time."""
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(fd, _SECONDS.pack(seconds), 0)  # eight aligned bytes: seen whole
        os.close(fd)

    def start(self) -> None:
        """Serve, on the port of the time before."""
        script = [sys.executable, "-P", __file__]
        self._process = subprocess.Popen(
            [*script, str(self.folder), self.address, str(self._file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.stop()
        self.address = json.loads(line)["address"]

    def stop(self) -> tuple[int, str]:
        """End it cleanly; return the exit code and what it logged."""
        self._process.terminate()
        _, log = self._process.communicate(timeout=30)
        return self._process.returncode, log.decode()


def main() -> None:
    """Serve FOLDER on HOST:PORT with the clock of FILE."""
    folder, listen, file = sys.argv[1:]

    def tell(now: daemon.Listening) -> None:
        sys.stdout.write(json.dumps({"address": now.address}) + "\n")
        sys.stdout.flush()

    daemon.run(Path(folder), listen=listen, ready=tell, clock=OffsetClock(Path(file)))


if __name__ == "__main__":
    main()
