"""Caches: the same rows from memory and from files, files believed by their hash, read in pages."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from orthofed.client.cache import Cache, MemoryCache, key_of
from orthofed.client.disk_cache import DiskCache


class _Maker:
    """Makes 7 rows of two tensors in chunks of 3, and counts how often it was asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Iterator[Mapping[str, Tensor]]:
        self.times += 1
        a, b = torch.randn(7, 2, 3), torch.randn(7, 5).bfloat16()
        self.made = {"a": a, "b": b}
        for at in range(0, 7, 3):
            yield {"a": a[at : at + 3], "b": b[at : at + 3]}


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_cache_gives_back_what_was_made(kind: str, tmp_path: Path) -> None:
    """Two tensors of different type, the last chunk shorter than the others."""
    cache: Cache = MemoryCache() if kind == "memory" else DiskCache(tmp_path / "cache")
    make = _Maker()

    rows = cache.rows("k", 7, make)

    assert rows.keys() == make.made.keys()
    for name, tensor in make.made.items():
        assert rows[name].dtype == tensor.dtype
        assert torch.equal(rows[name], tensor)
    assert torch.equal(rows["a"][[6, 0]], make.made["a"][[6, 0]])


def test_files_are_found_again_by_another_process(tmp_path: Path) -> None:
    """Nothing is made a second time; another key is another thing."""
    make = _Maker()
    first = DiskCache(tmp_path).rows("k", 7, make)

    again = DiskCache(tmp_path).rows("k", 7, make)
    DiskCache(tmp_path).rows("other", 7, make)

    assert make.times == 2
    assert torch.equal(first["a"], again["a"])


@pytest.mark.parametrize("damage", ["one byte", "cut short", "no record", "a torn record"])
def test_a_damaged_file_is_made_anew(damage: str, tmp_path: Path) -> None:
    """A bad disk, or a kill between the file and its record."""
    make, path, record = _Maker(), tmp_path / "k.safetensors", tmp_path / "k.json"
    DiskCache(tmp_path).rows("k", 7, make)
    data = bytearray(path.read_bytes())
    if damage == "one byte":
        data[-1] ^= 1
        path.write_bytes(data)
    elif damage == "cut short":
        path.write_bytes(data[:-1])
    elif damage == "no record":
        record.unlink()
    else:
        record.write_text(record.read_text()[:-20])

    rows = DiskCache(tmp_path).rows("k", 7, make)

    assert make.times == 2
    assert torch.equal(rows["a"], make.made["a"])


def test_a_key_holds_all_that_decides_the_bits() -> None:
    """Each part counts, and so does torch's version."""
    keys = [key_of("a", 1, ["x"]), key_of("b", 1, ["x"]), key_of("a", 2, ["x"]), key_of("a", 1)]
    told = f'["a", "{torch.__version__}", 1, ["x"]]'

    assert len(set(keys)) == 4
    assert keys[0] == hashlib.sha256(told.encode()).hexdigest()


def test_what_nobody_asked_for_goes(tmp_path: Path) -> None:
    """Files of other settings, and what a kill has cut short."""
    DiskCache(tmp_path).rows("old", 7, _Maker())
    (tmp_path / ".other.17.tmp").write_bytes(b"half")
    cache = DiskCache(tmp_path)
    cache.rows("new", 7, _Maker())

    cache.drop_others()

    assert {path.name for path in tmp_path.iterdir()} == {"new.json", "new.safetensors"}
    DiskCache(tmp_path / "nowhere").drop_others()


def test_a_disk_that_is_full_in_the_middle_leaves_no_half_file(tmp_path: Path) -> None:
    """The size limit of a process stands for the disk: bytes needed and free are named."""
    code = (
        "import resource, sys, torch\n"
        "from pathlib import Path\n"
        "from orthofed.client.disk_cache import DiskCache\n"
        "from orthofed.core.errors import OrthoFedError\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "def chunks():\n"
        "    for _ in range(10): yield {'a': torch.zeros(1, 1000)}\n"
        "try: DiskCache(Path(sys.argv[1])).rows('k', 10, chunks)\n"
        "except OrthoFedError as error: print(error.code, error.what)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.startswith("disk-full 40"), done.stderr
    assert "bytes needed for" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_kill_while_a_file_is_written_leaves_nothing_to_believe(tmp_path: Path) -> None:
    """SIGKILL between two chunks: the next process makes it whole."""

    def killed() -> Iterator[Mapping[str, Tensor]]:
        yield {"a": torch.zeros(1, 4)}
        os.kill(os.getpid(), signal.SIGKILL)

    process = os.fork()
    if not process:
        DiskCache(tmp_path).rows("k", 2, killed)
    _, status = os.waitpid(process, 0)
    left = [path.name for path in tmp_path.iterdir()]

    rows = DiskCache(tmp_path).rows("k", 2, lambda: iter([{"a": torch.ones(2, 4)}]))

    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert left == [f".k.{process}.tmp"]
    assert torch.equal(rows["a"], torch.ones(2, 4))


def test_latents_on_disk_need_no_memory(tmp_path: Path) -> None:
    """Those of 3,000 images of SD 1.5 at 512 pixels, 197 MB: written and used in half of that."""
    code = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "import psutil\n"
        "from orthofed.client.disk_cache import DiskCache\n"
        "def own():\n"
        "    told = psutil.Process().memory_info()\n"
        "    return told.rss - told.shared  # the system drops mapped pages when it needs them\n"
        "small = DiskCache(Path(sys.argv[1]))\n"  # what torch and the libraries take once
        "small.rows('s', 2, lambda: iter([{'latents': torch.ones(2, 4)}]))['latents'][[1]]\n"
        "before = own()\n"
        "def chunks():\n"
        "    for n in range(30): yield {'latents': torch.full((100, 4, 64, 64), float(n))}\n"
        "rows = DiskCache(Path(sys.argv[1])).rows('k', 3_000, chunks)\n"
        "some = [rows['latents'][[n, 2_999 - n]] for n in range(0, 3_000, 500)]\n"
        "assert [int(x[0].mean()) for x in some] == list(range(0, 30, 5))\n"
        "print(own() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert (tmp_path / "k.safetensors").stat().st_size > 196_000_000
    assert int(done.stdout) < 100_000_000
    (tmp_path / "k.safetensors").unlink()  # pytest keeps its folders
