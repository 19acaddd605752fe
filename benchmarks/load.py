"""Many clients at once against one coordinator: uploads, leases, renewals, downloads, memory.

    python benchmarks/load.py --json
    python benchmarks/load.py --clients 1000 --layers 128 --processes 2 --json

Claim (reliability.md R7): 1,000 clients of 4 MiB end with their receipts, errors 0, peak memory of
the coordinator <= 640 MB, renewals answered meanwhile. Everything is real: the process that `serve`
runs, TLS, one connection a client, signed calls, real leases of one spec with 1,024 slots (rank 1
of 128 layers 1,024 wide and 16,384 high; their base is not needed to take uploads and is not made).

Speeds are ratios within one run, each yardstick taken before and after. `upload_ratio`: beside a
bare grpcio echo (sync, 32 threads, same TLS), which gets the same signed messages of the same
clients in the same processes and sends them back. `sink_ratio`: beside one that answers with eight
bytes, about as long as our reply, which is the harder yardstick. `download_ratio`: beside nginx
over the same TLS, read by the same number of Python threads; without nginx (apt-get install
nginx-light) it is null. Clients run on the same cores: processor seconds of both sides are told.
Not here: the network.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from circumstances import commit, hardware
from load_clients import Plan, clients
from load_downloads import downloads
from load_federation import Federation, bare_server, peak_mb, spent_s


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        result = _run(Path(scratch), options)
    result |= {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared with the clients",
        "hardware": hardware(),
        "commit": commit(),
        "command": " ".join(["python", "benchmarks/load.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "yardsticks": "grpcio sync server, 32 threads, same TLS, messages, clients and processes;"
        " echo sends the message back, sink eight bytes of it; both before and after the upload",
        "load_average": os.getloadavg()[0],
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        print(f"{name:24} {value}")


def _run(scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    federation = Federation.found(scratch, layers=options.layers, file_mib=options.file_mib)
    start_s = federation.start()
    with federation:
        plan = Plan(
            invite=federation.invite(uses=options.clients + options.renewers),
            clients=options.clients,
            renewers=options.renewers,
        )
        workers = _Workers(plan, options.processes)
        leases = workers.ask("lease")
        before = _yardsticks(federation, workers)
        pid = federation.pid
        cpu_s = spent_s(pid)
        mine = workers.upload()
        cpu_s = spent_s(pid) - cpu_s
        after = _yardsticks(federation, workers)
        workers.close()
        rss_mb = peak_mb(pid)
        read = downloads(federation, readers=options.readers)
    num_bytes = sum(each["bytes"] for each in mine)
    retries = sum((Counter[str](each["retries"]) for each in mine), Counter[str]())
    seconds = max(each["seconds"] for each in mine)
    upload = num_bytes / seconds / 1e6
    lease_ms = sorted(ms for each in leases for ms in each["lease_ms"])
    renew_ms = sorted(ms for each in mine for ms in each["renew_ms"])
    yards = [yard for yards in (before, after) for yard in yards.values()]
    return {
        "schema": "orthofed.load/1",
        "clients": options.clients,
        "mib_each": round(num_bytes / options.clients / 2**20, 2),
        "errors": sum(each["errors"] for each in [*mine, *leases]) + sum(y.errors for y in yards),
        "error_kinds": sorted({kind for each in [*mine, *leases] for kind in each["error_kinds"]}),
        "retries": sum(retries.values()),
        "retry_kinds": dict(retries),
        "receipts": sum(each["receipts"] for each in mine),
        "rss_mb": rss_mb,
        "seconds": round(seconds, 1),
        "coordinator_cpu_s": round(cpu_s, 2),
        "clients_cpu_s": round(sum(each["cpu_s"] for each in mine), 2),
        "upload_mb_s": round(upload, 1),
        **_beside(upload, "upload", before["echo"], after["echo"], num_bytes),
        **_beside(upload, "sink", before["sink"], after["sink"], num_bytes),
        "lease_p50_ms": _percentile(lease_ms, 50),
        "lease_p99_ms": _percentile(lease_ms, 99),
        "renew_p50_ms": _percentile(renew_ms, 50),
        "renew_p99_ms": _percentile(renew_ms, 99),
        "renewals": len(renew_ms),
        "start_s": round(start_s, 2),
        **read,
    }


@dataclass(frozen=True)
class _Yard:
    """One run against a bare server."""

    seconds: float
    server_cpu_s: float
    clients_cpu_s: float
    errors: int


def _yardsticks(federation: Federation, workers: "_Workers") -> dict[str, _Yard]:
    """Have the same clients send the same messages to both bare servers."""
    yards = {}
    for kind in ("sink", "echo"):
        with bare_server(federation, echo=kind == "echo") as bare:
            told = workers.ask(f"send {bare.address}")
        yards[kind] = _Yard(
            max(each["seconds"] for each in told),
            bare.cpu_s,
            sum(each["cpu_s"] for each in told),
            sum(each["errors"] for each in told),
        )
    return yards


def _beside(mine: float, name: str, before: _Yard, after: _Yard, num_bytes: int) -> dict[str, Any]:
    """Return the ratio of speeds, and what the two runs of the yardstick took."""
    speeds = [num_bytes / yard.seconds / 1e6 for yard in (before, after)]
    kind = "echo" if name == "upload" else name
    return {
        f"{name}_ratio": round(mine / statistics.mean(speeds), 3),
        f"{kind}_mb_s": [round(speed, 1) for speed in speeds],
        f"{kind}_cpu_s": [round(yard.server_cpu_s, 1) for yard in (before, after)],
        f"{kind}_clients_cpu_s": [round(yard.clients_cpu_s, 1) for yard in (before, after)],
    }


class _Workers:
    """The clients, in a few processes, so that the load is not made by one core alone.

    The last process is of those who renew.
    """

    def __init__(self, plan: Plan, num: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes = []
        self._processes = []
        for index in range(num + 1):
            ours, theirs = context.Pipe()
            process = context.Process(target=_worker, args=(theirs, plan, index, num))
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def ask(self, what: str) -> list[dict[str, Any]]:
        """Have every process do one thing at the same time; return what each counted."""
        return self._asked(self._pipes, what)

    def upload(self) -> list[dict[str, Any]]:
        """Have all upload while some renew; return what each process counted."""
        *uploading, renewing = self._pipes
        self._asked([renewing], "renew")
        told = self._asked(uploading, "upload")
        return [*told, *self._asked([renewing], "over")]

    @staticmethod
    def _asked(pipes: list[Any], what: str) -> list[dict[str, Any]]:
        for pipe in pipes:
            pipe.send(what)
        return [pipe.recv() for pipe in pipes]

    def close(self) -> None:
        """End them."""
        for pipe in self._pipes:
            pipe.send("")
        for process in self._processes:
            process.join()


def _worker(pipe: Any, plan: Plan, index: int, num: int) -> None:
    async def serve() -> None:
        crowd = clients(plan, index, num)
        while what := await asyncio.to_thread(pipe.recv):
            pipe.send(await crowd.do(what))
        await crowd.close()

    asyncio.run(serve())


def _percentile(values: list[float], percent: int) -> float | None:
    return round(values[(len(values) - 1) * percent // 100], 1) if values else None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--layers", type=int, default=128, help="32 KiB of contribution each")
    parser.add_argument("--renewers", type=int, default=16)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--file-mib", type=int, default=256, help="the file to download")
    parser.add_argument("--folder", type=Path, help="where to lay the folder; a real disk")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
