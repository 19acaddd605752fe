"""R17 whole: one large file from a slow, a damaged and an old mirror, killed again and again.

A short form here; the long one is 3 GB and 20 kills:
``make faults FAULTS=tests/test_faults_download.py``.
"""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orthofed.client.download import STREAMS
from orthofed.client.part_file import PIECE
from orthofed.client.verify import verify_folder
from orthofed.core.release import CHUNK_BYTES

from .conftest import Figures
from .mirror import SignedRelease, entry_of_file
from .test_mirrors import tree
from .test_sources import written
from .web import Web

NAME = "checkpoint/big.txt"
MOST_MB = 100
BAD = 1
"""The chunk of which one mirror always has another byte."""


def sparse(path: Path, num_bytes: int) -> Path:
    """Write a file of holes, in which every chunk begins with its own number."""
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(num_bytes)
        for number, at in enumerate(range(0, num_bytes, CHUNK_BYTES), start=1):
            file.seek(at)
            file.write(number.to_bytes(8, "little"))
    return path


def peak_mb(process: int) -> float:
    """Return the most memory that a process had, 0 once it has ended."""
    try:
        said = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    return next((int(s.split()[1]) / 1024 for s in said.splitlines() if "VmHWM" in s), 0.0)


@pytest.mark.parametrize(
    ("num_bytes", "kills"),
    [
        (4 * CHUNK_BYTES + 77, 3),
        pytest.param(3_000_000_000, 20, marks=pytest.mark.faults),
    ],
)
def test_a_large_file_comes_whole_from_bad_mirrors_through_kills(
    num_bytes: int, kills: int, seed: int, tmp_path: Path, figures: Figures
) -> None:
    """No byte that was written is asked for again, but of the chunk that is wrong; bounded memory.

    Kills come each time the next part of the file is there, at a random moment behind it.
    """
    dice, out = random.Random(seed), tmp_path / "out"  # noqa: S311  # a replay needs a seed
    (tmp_path / "old").mkdir()
    big = sparse(tmp_path / "www" / "releases" / "1" / NAME, num_bytes)
    release = SignedRelease.of({"info.json": b'{"v":1}'}, more=[entry_of_file(NAME, big)])
    tree(tmp_path / "www", release)
    with (
        Web(tmp_path / "www") as web,
        Web(tmp_path / "www") as slow,
        Web(tmp_path / "www") as damaged,
        Web(tmp_path / "old") as old,
    ):
        asked = slow.ranges = damaged.ranges = web.ranges
        slow.pause_s = 0.02
        damaged.lie = lambda name, start, _: (
            "wrong" if name.endswith(NAME) and start // CHUNK_BYTES == BAD else ""
        )
        words = ["pull", f"{web.url}#{release.log}", "-o", str(out), "--home", str(tmp_path / "h")]
        words += [word for each in (slow, damaged, old) for word in ("--mirror", each.url)]
        command, most_mb, ended = [sys.executable, "-P", "-m", "orthofed", *words], 0.0, None
        for kill in range(1, kills + 2):
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
                while child.poll() is None:
                    most_mb = max(most_mb, peak_mb(child.pid))
                    if kill <= kills and written(out) >= num_bytes * kill // (kills + 2):
                        time.sleep(dice.random() * 0.1)
                        child.send_signal(signal.SIGKILL)
                        break
                    time.sleep(0.01)
            ended = child.returncode
            if ended == -signal.SIGKILL:
                assert not (out / NAME).exists()
        assert ended == 0

    found = verify_folder(out).release.manifest.n
    again = asked_again([(start, end) for name, start, end in asked if name.endswith(NAME)])
    (out / NAME).unlink()  # pytest keeps folders of three runs
    told = {"bytes": num_bytes, "kills": kills, "bytes_asked_again": again}
    figures.say("R17 large file", **told, most_mb=round(most_mb))
    assert found == 1
    assert again <= kills * STREAMS * PIECE
    assert most_mb <= MOST_MB


def asked_again(stretches: list[tuple[int, int]]) -> int:
    """Return how many bytes before its furthest start each good chunk was asked for again."""
    furthest, again = dict[int, int](), 0
    for start, end in stretches:
        if start // CHUNK_BYTES != BAD:
            again += max(0, furthest.get(end, 0) - start)
            furthest[end] = max(furthest.get(end, 0), start)
    return again
