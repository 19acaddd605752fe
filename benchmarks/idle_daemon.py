"""What an owner's daemon costs while it waits: memory, processor, and its questions for orders.

    python benchmarks/idle_daemon.py --seconds 130 --json

Aim (product.md 6): under 60 MB. A real coordinator on loopback; the daemon is told never to work,
looks at the machine every two seconds and asks for orders once a minute, each time by a process of
a second. What came out is in docs/log.md.
"""

import argparse
import contextlib
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from circumstances import commit, hardware

from orthofed.client.daemon_command import running_daemon
from orthofed.client.home import Home

ORTHOFED = (sys.executable, "-P", "-m", "orthofed")
BASE = Path(__file__).parents[1] / "assets" / "pocket-base"
SETTINGS = f"""\
mode = "never"
base = "{BASE}"

[[concept]]
name = "anna-k7"
class_noun = "person"
images = "photos"
"""


def _run(*words: str) -> str:
    return subprocess.run([*ORTHOFED, *words], capture_output=True, text=True, check=True).stdout


def _waited(folder: Path, seconds: float) -> dict[str, float]:
    """Return what a waiting daemon took, of a home that has joined."""
    (folder / "daemon.toml").write_text(SETTINGS)
    home = Home.at(folder / "home")
    words = ("client", "daemon", "--config", str(folder / "daemon.toml"))
    with subprocess.Popen(
        [*ORTHOFED, *words, "--home", str(home.folder)], stderr=subprocess.DEVNULL
    ) as process:
        while running_daemon(home) is None:
            time.sleep(0.1)
        daemon, begun, end_s = psutil.Process(process.pid), None, time.monotonic() + seconds
        asked, jobs = 0, dict[int, tuple[float, int]]()
        while time.monotonic() < end_s:
            begun = begun or daemon.cpu_times()
            with contextlib.suppress(psutil.Error):
                for job in daemon.children():
                    if "orthofed.client.daemon_job" not in job.cmdline():
                        continue
                    times, memory = job.cpu_times(), job.memory_info()
                    peak = max(memory.rss, jobs.get(job.pid, (0.0, 0))[1])
                    jobs[job.pid] = (times.user + times.system, peak)
            time.sleep(0.02)
        asked, ended = len(jobs), daemon.cpu_times()
        status = running_daemon(home)
        process.terminate()
    if status is None or begun is None:
        raise AssertionError("it answers until it is told to end")
    own_s = ended.user + ended.system - begun.user - begun.system
    return {
        "rss_mb": round(status["rss_bytes"] / 1e6, 1),
        "cpu_percent": round(100 * own_s / seconds, 2),
        "questions": asked,
        "question_cpu_s": round(sum(cpu for cpu, _ in jobs.values()) / max(1, asked), 2),
        "question_peak_mb": round(max((peak for _, peak in jobs.values()), default=0) / 1e6, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=130)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fed, home = str(folder / "fed"), str(folder / "home")
        _run("coordinator", "init", fed, "--base", str(BASE), "--name", "idle")
        serve = ("coordinator", "serve", fed, "--listen", "127.0.0.1:0", "--json")
        with subprocess.Popen([*ORTHOFED, *serve], stdout=subprocess.PIPE, text=True) as process:
            if process.stdout is None:
                raise AssertionError("it is a pipe")
            process.stdout.readline()
            (folder / "invite.txt").write_text(_run("coordinator", "invite", fed))
            _run("client", "join", "--invite", str(folder / "invite.txt"), "--home", home)
            found = _waited(folder, chosen.seconds)
            process.terminate()
    report = {
        "schema": "orthofed.benchmark-idle-daemon/1",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": f"python benchmarks/idle_daemon.py --seconds {chosen.seconds:g} --json",
        "commit": commit(),
        "hardware": hardware(),
        "result": {"load": round(os.getloadavg()[0], 1), "seconds": chosen.seconds, **found},
    }
    print(json.dumps(report, indent=2) if chosen.json else found)


if __name__ == "__main__":
    main()
