"""What a pull promises, of each source that it has: a coordinator, a published folder, a mirror.

Lines are cut at random bytes, processes are killed while their line is silent, stretches come at
once, and the next release costs what is new. The releases are a coordinator's own, and the folder
is what `orthofed coordinator publish` wrote. Goal R17 of reliability.md 6.
"""

import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orthofed.__main__ import app
from orthofed.client.channel import Channel
from orthofed.client.http_origin import HttpOrigin
from orthofed.client.origin import Origin, WireOrigin
from orthofed.client.pull import PART, Pull
from orthofed.client.seen_heads import SeenHeads
from orthofed.client.verify import verify_folder
from orthofed.core.address import FederationAddress
from orthofed.core.release import CHUNK_BYTES
from orthofed.core.tree_address import TreeAddress
from orthofed.proto import wire

from .cutting_proxy import CuttingProxy, Fate
from .member import Member
from .mirror import Mirror, SignedRelease
from .serving import Running, founded, running
from .test_mirrors import tree
from .web import Web

SOURCES = ("coordinator", "folder", "mirror")


@dataclass
class Served:
    """A federation with a release of two concepts, served in every way."""

    coordinator: Running
    member: Member
    web: Web

    def contribute(self, name: str, seed: int) -> None:
        lease = self.member.lease(name, (f"{name}-k7",))
        self.member.contribute(self.member.pack(lease, seed=seed))

    def publish(self) -> None:
        self.coordinator.release(614)
        told("coordinator", "publish", self.coordinator.folder.root, self.web.folder)

    @property
    def files(self) -> dict[str, bytes]:
        """The newest release as it lies in the coordinator's folder."""
        newest = max((self.coordinator.folder.public / "releases").glob("[0-9]*"))
        found = (path for path in newest.rglob("*") if path.is_file())
        return {path.relative_to(newest).as_posix(): path.read_bytes() for path in found}

    def words(self, source: str, proxy: str = "") -> list[str]:
        """Return what a consumer types behind ``pull``; ``proxy`` stands before the source."""
        link = FederationAddress.from_text(self.coordinator.desk.link())
        at = f"http://{proxy}/" if proxy else f"{self.web.url}/"
        if source == "coordinator":
            return [replace(link, host_port=proxy or link.host_port).to_text()]
        if source == "folder":
            return [f"{at}#{link.log}"]
        return [link.to_text(), "--mirror", at]

    def behind(self, source: str) -> str:
        """Return the host and port that a proxy passes a source's bytes from."""
        link = FederationAddress.from_text(self.coordinator.desk.link())
        return link.host_port if source == "coordinator" else self.web.url.split("://")[1]


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    (folder / "www").mkdir(parents=True)
    with running(founded(folder)) as coordinator, Web(folder / "www") as web:
        served = Served(coordinator, coordinator.member(), web)
        for seed, name in enumerate(("anna", "bert")):
            served.contribute(name, seed)
        served.publish()
        yield served


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served")) as found:
        yield found


def told(*words: object) -> dict[str, Any]:
    """Run a command in this process and return what it says."""
    done = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def pulled(out: Path) -> dict[str, bytes]:
    """Return a folder's files, without what proves them."""
    found = (path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return {name: (out / name).read_bytes() for name in found if not name.startswith("trust/")}


@pytest.mark.parametrize("source", SOURCES)
def test_a_line_cut_at_random_bytes_ends_with_the_right_ones(
    source: str, served: Served, seed: int, tmp_path: Path
) -> None:
    """Twelve connections end after up to 96 KiB, in TLS, headers and bodies alike."""
    dice, left, out = random.Random(seed), [12], tmp_path / "out"  # noqa: S311  # a replay needs a seed

    def draw() -> Fate | None:
        left[0] -= 1
        how = dice.choice(("cut", "reset"))
        return Fate("down", dice.randrange(96 << 10), how) if left[0] >= 0 else None

    with CuttingProxy(served.behind(source), draw) as proxy:
        home = ("--home", tmp_path / "home", "--patience", 60)
        told("pull", *served.words(source, proxy.address), "-o", out, *home)
        cuts = proxy.cuts

    assert cuts >= 3  # a mirror that failed three times is left alone
    assert pulled(out) == served.files
    verify_folder(out)


@pytest.mark.parametrize("source", SOURCES)
def test_a_process_killed_in_the_middle_goes_on_in_another(
    source: str, served: Served, tmp_path: Path
) -> None:
    """SIGKILL once some bytes were written and the line says no more; what came is not fetched."""
    out = tmp_path / "out"
    home = ("--home", str(tmp_path / "home"), "--patience", "60")

    with CuttingProxy(served.behind(source), lambda: Fate("down", 200 << 10, "silence")) as proxy:
        words = ["pull", *served.words(source, proxy.address), "-o", str(out), *home]
        command = [sys.executable, "-P", "-m", "orthofed", *words]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
            wait_for(lambda: bool(proxy.fates) and written(out) > 0)
            child.send_signal(signal.SIGKILL)
        kept = written(out)
        assert not (out / "manifest.json").exists()
    cost = told("pull", *served.words(source), "-o", out, *home)

    assert cost["saved_bytes"] >= kept > 0
    assert pulled(out) == served.files
    verify_folder(out)


def wait_for(seen: Callable[[], bool]) -> None:
    """Return once it is so; a minute is more than any of it takes."""
    until_s = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def written(out: Path) -> int:
    """Return how many bytes of files a pull has written: whole ones, and parts by their maps."""
    total = 0
    for path in out.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # renamed or removed just now
            place = path.relative_to(out).parts[0]
            if path.suffix == ".map":
                total += sum(memoryview(path.read_bytes()).cast("Q"))
            elif place not in {PART, "trust"} and path.is_file():
                total += path.stat().st_size
    return total


class Together:
    """Holds requests back until ``num`` of them are there at once."""

    def __init__(self, num: int) -> None:
        self._num, self._here = num, 0
        self._lock, self._met, self.waited_in_vain = threading.Lock(), threading.Event(), False

    def wait(self) -> None:
        with self._lock:
            self._here += 1
            if self._here >= self._num:
                self._met.set()
        if not self._met.wait(15):  # a server that is silent for 20 seconds is hung up on
            self.waited_in_vain = True
        with self._lock:
            self._here -= 1


@pytest.mark.parametrize("source", SOURCES)
def test_stretches_of_one_file_come_at_once(source: str, tmp_path: Path) -> None:
    """Of four chunks, three are asked for before any of the three is answered."""
    big = bytes(range(256)) * ((3 * CHUNK_BYTES + 5) // 256 + 1)
    release = SignedRelease.of({"checkpoint/big.txt": big, "info.json": b'{"v":1}'})
    together, first = Together(3), [True]

    def lie(name: str, *_: int) -> str:
        if name.endswith("big.txt"):
            if first[0]:  # whether a server has ranges is asked once, alone
                first[0] = False
            else:
                together.wait()
        return ""

    def twist(asked: wire.ReadRequest, honest: wire.ReadReply) -> wire.ReadReply:
        if asked.name.endswith("big.txt") and asked.offset % CHUNK_BYTES == 0:
            together.wait()
        return honest

    with (
        Mirror(release) as coordinator,
        Web(tree(tmp_path / "www", release)) as web,
        ExitStack() as stack,
    ):
        web.lie = lie
        link = coordinator.address
        if source == "coordinator":
            coordinator.twist = twist
        channel = Channel(link.host_port, ca=link.ca, log=link.log)
        calls = WireOrigin(stack.enter_context(channel))
        tree_address = TreeAddress(web.url, link.log if source == "folder" else "")
        http = HttpOrigin(tree_address, patience_s=0, mirror=source == "mirror")
        stack.enter_context(http)
        origin: Origin = http if source == "folder" else calls
        mirrors = (http,) if source == "mirror" else ()
        seen = SeenHeads(tmp_path / "home")
        Pull(origin, link.log, tmp_path / "out", seen, mirrors=mirrors).run()

    assert not together.waited_in_vain
    assert (tmp_path / "out" / "checkpoint" / "big.txt").read_bytes() == big


def test_the_next_release_costs_what_is_new_from_every_source(tmp_path: Path) -> None:
    """With contributions: A of the new concept alone comes; the LoRA files are made of it here."""
    outs = {source: tmp_path / source for source in SOURCES}
    with serving(tmp_path / "fed") as served:

        def pull(source: str) -> dict[str, Any]:
            words = [*served.words(source), "-o", outs[source], "--contributions"]
            return told("pull", *words, "--as", "kohya", "--home", tmp_path / f"home-{source}")

        for source in SOURCES:
            pull(source)
        blobs = {path.name for path in (outs["folder"] / "trust" / "contributions").iterdir()}
        served.contribute("cleo", 7)
        served.publish()
        served.web.ranges.clear()
        costs = {source: pull(source) for source in SOURCES}
        asked = {name for name, *_ in served.web.ranges}
        files = served.files

    (new,) = {path.name for path in (outs["folder"] / "trust" / "contributions").iterdir()} - blobs
    fetched = {name for name in asked if "contributions" in name or "/lora/" in name}
    assert {Path(name).name for name in fetched} == {new}
    assert costs["folder"]["fetched_bytes"] == costs["coordinator"]["fetched_bytes"]
    assert costs["mirror"]["fetched_bytes"] == costs["coordinator"]["fetched_bytes"]
    for out in outs.values():
        assert verify_folder(out).release.manifest.n == 2
        lora = "lora/wren-fed-r0002.safetensors"
        assert (out / lora).read_bytes() == files[lora]
