"""How fast a pull over HTTP is beside curl with the same file, all from one server.

    bare      curl, one stream, thrown away
    by hand   curl -o FILE, sha256sum FILE, sync FILE: what a person does who wants what a pull does
    ours      client/download.py, up to eight ranges, hashed by chunk and whole, synced

The server is nginx. By turns, three each; the medians count.
Example: benchmarks/download.py --mib 512 --json
"""

import argparse
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from circumstances import commit, hardware

from orthofed.client.download import Download
from orthofed.client.http_origin import HttpOrigin
from orthofed.client.origin import Wanted
from orthofed.core.release import CHUNK_BYTES, FileEntry
from orthofed.core.tree_address import TreeAddress

_NAME = "big.bin"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(Path(scratch), asked.mib << 20)
    found = {
        "schema": "orthofed.benchmark.download/2",
        "commit": commit(),
        "hardware": hardware(),
        **figures,
    }
    print(json.dumps(found) if asked.json else _text(found))


def measure(scratch: Path, num_bytes: int) -> dict[str, object]:
    """Return MB/s of all, three turns each, and the ratios of the medians."""
    entry = _file(scratch / "www" / "releases" / "1" / _NAME, num_bytes)
    bare, hand, ours = [], [], []
    with _served(scratch) as (url, server):
        for turn in range(3):
            file = f"{url}/releases/1/{_NAME}"
            bare.append(_rate(num_bytes, lambda file=file: _curl(file, os.devnull)))
            out = scratch / f"out-{turn}"
            out.mkdir()
            by_hand = out / "by-hand"
            hand.append(_rate(num_bytes, lambda file=file, to=by_hand: _by_hand(file, to)))
            by_hand.unlink()
            ours.append(_rate(num_bytes, lambda out=out: _ours(url, entry, out)))
            shutil.rmtree(out)
    return {
        "mib": num_bytes >> 20,
        "server": server,
        "cores": os.cpu_count(),
        "bare_mb_s": [round(rate, 1) for rate in bare],
        "by_hand_mb_s": [round(rate, 1) for rate in hand],
        "ours_mb_s": [round(rate, 1) for rate in ours],
        "ratio": round(sorted(ours)[1] / sorted(bare)[1], 3),
        "ratio_by_hand": round(sorted(ours)[1] / sorted(hand)[1], 3),
    }


def _file(path: Path, num_bytes: int) -> FileEntry:
    path.parent.mkdir(parents=True)
    whole, chunks, left = hashlib.sha256(), list[str](), num_bytes
    with path.open("wb") as file:
        while left:
            data = os.urandom(1 << 20) * (min(CHUNK_BYTES, left) >> 20)
            file.write(data)
            whole.update(data)
            chunks.append(hashlib.sha256(data).hexdigest())
            left -= len(data)
    return FileEntry(_NAME, num_bytes, whole.hexdigest(), tuple(chunks))


def _rate(num_bytes: int, work) -> float:
    began = time.perf_counter()
    work()
    return num_bytes / (time.perf_counter() - began) / 1e6


def _curl(url: str, out: str) -> None:
    subprocess.run(["curl", "-sS", "-o", out, url], check=True)


def _by_hand(url: str, out: Path) -> None:
    _curl(url, str(out))
    subprocess.run(["sha256sum", out], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["sync", out], check=True)


def _ours(url: str, entry: FileEntry, out: Path) -> None:
    with HttpOrigin(TreeAddress(url, ""), patience_s=10) as origin:
        Download([origin], out, lambda *_: None).run([Wanted(entry, n=1)], lambda *_: None)


@contextmanager
def _served(scratch: Path) -> Iterator[tuple[str, str]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        raise SystemExit("nginx is not here: install it, or measure on a machine that has it")
    temporary = "".join(
        f"{kind}_temp_path {scratch}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = scratch / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {scratch}/pid; error_log {scratch}/log; user root;"
        f" events {{ }} http {{ {temporary} access_log off; sendfile on;"
        f" server {{ listen 127.0.0.1:{port}; root {scratch}/www; }} }}\n"
    )
    with subprocess.Popen([nginx, "-p", str(scratch), "-c", str(config)]) as process:
        try:
            _wait(port)
            yield f"http://127.0.0.1:{port}", "nginx"
        finally:
            process.terminate()


def _wait(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server did not start")


def _text(found: dict[str, object]) -> str:
    return "\n".join(f"{name:<10} {value}" for name, value in found.items())


if __name__ == "__main__":
    main()
