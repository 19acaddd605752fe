"""Pulls whose line is cut at random bytes, and whose process is killed at random moments.

Goal R17 of reliability.md 6. The cuts fall into TLS, headers and bodies alike; servers with ranges
lose nothing that arrived, servers without them one way through the file a cut.
"""

import hashlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orthofed.client.download import Download
from orthofed.client.http_origin import HttpOrigin
from orthofed.client.origin import Wanted
from orthofed.client.verify import verify_folder
from orthofed.core.errors import OrthoFedError, Unreachable
from orthofed.core.release import FileEntry
from orthofed.core.tree_address import TreeAddress

from . import certificates
from .conftest import Figures
from .coordinator_process import run
from .cutting_proxy import CuttingProxy, Fate
from .mirror import SignedRelease
from .test_mirrors import BIG, tree
from .web import Web

CHUNK = 64 << 10


@dataclass
class Toll:
    """What a download of one file through a bad line cost."""

    cuts: int = 0
    fetched: int = 0
    written: int = 0
    down: int = 0
    steps: list[int] = field(default_factory=list)

    def on_bytes(self, _name: str, done: int, _total: int) -> None:
        self.steps.append(done)


def wanted(www: Path, num_chunks: int, seed: int) -> tuple[Wanted, bytes]:
    """Write one file into a tree, of chunks that are small, so that cuts meet many."""
    data = random.Random(seed).randbytes(num_chunks * CHUNK - 777)  # noqa: S311  # no secret
    path = www / "releases" / "1" / "big.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    hashes = [
        hashlib.sha256(data[at : at + CHUNK]).hexdigest() for at in range(0, len(data), CHUNK)
    ]
    entry = FileEntry("big.bin", len(data), hashlib.sha256(data).hexdigest(), tuple(hashes))
    return Wanted(entry, n=1, chunk_bytes=CHUNK), data


def moved(to: Path) -> Callable[[Wanted, Path], None]:
    def arrived(_wanted: Wanted, part: Path) -> None:
        part.rename(to)

    return arrived


def cut_download(  # what the tests vary
    folder: Path, *, num_chunks: int, seed: int, upto: int, tls: bool, ranges: bool, cuts: int
) -> Toll:
    """Download one file through a proxy that ends connections after up to ``upto`` bytes."""
    dice, toll = random.Random(seed), Toll()  # noqa: S311  # a replay needs a seed
    each, data = wanted(folder / "www", num_chunks, seed)
    authority = certificates.authority()
    shown = certificates.server(authority) if tls else None
    left = [cuts]

    def draw() -> Fate | None:
        left[0] -= 1
        how = dice.choice(("cut", "reset"))
        return Fate("down", dice.randrange(upto), how) if left[0] >= 0 else None

    with ExitStack() as stack:
        web = stack.enter_context(Web(folder / "www", tls=shown))
        web.lie = lambda *_: "" if ranges else "whole"
        proxy = stack.enter_context(CuttingProxy(web.url.split("://")[1], draw))
        address = TreeAddress(
            f"http{'s' * tls}://{proxy.address}", "", authority.der if tls else b""
        )
        origin = stack.enter_context(HttpOrigin(address, patience_s=60))
        (folder / "parts").mkdir()
        download = Download([origin], folder / "parts", toll.on_bytes)
        download.run([each], moved(folder / "whole"))
        toll.cuts, toll.fetched = proxy.cuts, download.fetched_bytes
        toll.down = proxy.down_bytes
        toll.written = sum(
            b - a for a, b in zip([0, *toll.steps], toll.steps, strict=False) if b > a
        )
    assert (folder / "whole").read_bytes() == data
    return toll


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_line_cut_at_random_bytes_costs_no_byte_twice(
    tls: bool, seed: int, tmp_path: Path
) -> None:
    """Each connection ends after up to 24 KiB; over TLS, which comes by 16 KiB, up to 96."""
    num, upto = (40, 96 << 10) if tls else (28, 24 << 10)
    toll = cut_download(
        tmp_path, num_chunks=num, seed=seed, upto=upto, tls=tls, ranges=True, cuts=10_000
    )

    assert toll.cuts > (40 if tls else 100)
    assert toll.fetched == num * CHUNK - 777


def test_a_server_without_ranges_costs_one_way_through_the_file_a_cut(
    seed: int, tmp_path: Path
) -> None:
    """Ten cuts at most; each byte is written once, and each way begins at the first byte."""
    toll = cut_download(
        tmp_path, num_chunks=64, seed=seed, upto=64 * CHUNK, tls=False, ranges=False, cuts=10
    )

    assert 0 < toll.cuts <= 10
    assert toll.down <= (toll.cuts + 1) * (64 * CHUNK + 1024)
    assert toll.written == 64 * CHUNK - 777


def test_a_server_without_ranges_is_asked_for_the_file_once(seed: int, tmp_path: Path) -> None:
    """One question for a part, whose answer is hung up on; then one for the whole of it."""
    each, data = wanted(tmp_path / "www", 64, seed)
    with Web(tmp_path / "www") as web:
        web.lie = lambda *_: "whole"
        with HttpOrigin(TreeAddress(web.url, ""), patience_s=0) as origin:
            download = Download([origin], tmp_path, lambda *_: None)
            download.run([each], moved(tmp_path / "whole"))

    assert (tmp_path / "whole").read_bytes() == data
    (first, last), *after = [(start, end) for _, start, end in web.ranges]
    assert (first % CHUNK, last) == (0, min(first + CHUNK, len(data)))  # any worker may be first
    assert after == [(0, len(data))]
    assert download.fetched_bytes == len(data)


class _Killed(Exception):  # not an error: the test's own stop
    """The process ends here."""


def test_what_is_there_of_a_file_without_ranges_is_not_written_again(
    seed: int, tmp_path: Path
) -> None:
    """Stopped half way, then begun anew: the first half comes and is passed over."""
    each, data = wanted(tmp_path / "www", 64, seed)
    new: list[int] = []

    def half(_name: str, done: int, total: int) -> None:
        if done > total // 2:
            raise _Killed

    with Web(tmp_path / "www") as web:
        web.lie = lambda *_: "whole"
        with HttpOrigin(TreeAddress(web.url, ""), patience_s=0) as origin:
            with pytest.raises(_Killed):
                Download([origin], tmp_path, half).run([each], lambda *_: None)
            again = Download([origin], tmp_path, lambda _, done, __: new.append(done))
            again.run([each], moved(tmp_path / "whole"))

    assert (tmp_path / "whole").read_bytes() == data
    assert new[0] > 0, "what was there counts from the start"
    assert again.fetched_bytes == len(data)
    assert max(new) == len(data), "nothing is counted twice"


@pytest.mark.parametrize(
    ("lie", "error"), [("wrong", "chunk 0 was wrong"), ("cut", "broke off|was cut")]
)
def test_a_server_without_ranges_that_stays_bad_is_given_up(
    lie: str, error: str, seed: int, tmp_path: Path
) -> None:
    """T16: the first chunk wrong in each way; or cut at the same byte for ever."""
    each, _ = wanted(tmp_path / "www", 8, seed)
    with Web(tmp_path / "www") as web:
        web.lie = lambda _, start, end: "whole" if end - start <= CHUNK else lie
        with (
            HttpOrigin(TreeAddress(web.url, ""), patience_s=0) as origin,
            pytest.raises(OrthoFedError, match=error),
        ):
            Download([origin], tmp_path, lambda *_: None).run([each], lambda *_: None)

    assert len(web.ranges) <= 4


def killed_pulls(folder: Path, *, kills: int, seed: int) -> int:
    """Kill ``kills`` pulls of 53 MiB, finish one more; return how many bytes were asked twice."""
    dice = random.Random(seed)  # noqa: S311  # a replay needs a seed
    release = SignedRelease.of({"checkpoint/big.txt": BIG, "info.json": b'{"v":1}'})
    out = folder / "out"
    with Web(tree(folder / "www", release)) as web:
        web.pause_s = 0.05
        words = ["pull", f"{web.url}#{release.log}", "-o", str(out), "--home", str(folder / "h")]
        command = [sys.executable, "-P", "-m", "orthofed", *words]
        for _ in range(kills):
            before, waited_s = len(web.ranges), time.monotonic() + 60
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
                while time.monotonic() < waited_s and not any(
                    "big" in name for name, *_ in web.ranges[before:]
                ):
                    time.sleep(0.01)
                time.sleep(dice.random() * 0.4)
                child.send_signal(signal.SIGKILL)
            assert not (out / "checkpoint" / "big.txt").exists()
        web.pause_s = 0
        assert "verified" in run(*words).stdout
        asked = [(start, end) for name, start, end in web.ranges if "big" in name]
    verify_folder(out)
    ends: dict[int, list[int]] = {}
    for start, end in asked:
        ends.setdefault(end, []).append(start)
    for starts in ends.values():
        assert starts == sorted(starts), "what was written is not asked for again"
    return sum(starts.count(start) - 1 for starts in ends.values() for start in set(starts))


def test_a_process_killed_at_random_moments_goes_on(seed: int, tmp_path: Path) -> None:
    """SIGKILL four times; every stretch is asked for from where it stopped, never before."""
    killed_pulls(tmp_path, kills=4, seed=seed)


@pytest.mark.faults
def test_pulls_that_are_cut_and_killed_often_end_with_the_right_bytes(
    seed: int, tmp_path: Path, figures: Figures
) -> None:
    """R17's figure."""
    cuts = 0
    for tls in (False, True):
        folder = tmp_path / f"tls-{tls}"
        toll = cut_download(
            folder,
            num_chunks=300,
            seed=seed,
            upto=(96 if tls else 24) << 10,
            tls=tls,
            ranges=True,
            cuts=100_000,
        )
        assert toll.fetched == 300 * CHUNK - 777
        cuts += toll.cuts
    killed_pulls(tmp_path, kills=40, seed=seed)

    figures.say("R17 pulls", cuts=cuts, kills=40, bytes_fetched_twice=0)


def test_a_line_that_brings_nothing_is_given_up(tmp_path: Path) -> None:
    """Every connection is cut at its first byte: unreachable, once the patience is over."""
    each, _ = wanted(tmp_path / "www", 2, 1)
    with Web(tmp_path / "www") as web:
        proxy = CuttingProxy(web.url.split("://")[1], lambda: Fate("down", 0, "cut"))
        with (
            proxy,
            HttpOrigin(TreeAddress(f"http://{proxy.address}", ""), patience_s=0.5) as origin,
            pytest.raises(Unreachable, match="broke off"),
        ):
            Download([origin], tmp_path, lambda *_: None).run([each], lambda *_: None)
