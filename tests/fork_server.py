"""Starts coordinators in 50 ms: a process that has imported everything and forks one a request.

Run as a script, so that PYTHONPATH decides which package it serves (seeded.py). One JSON object a
line each way. Each child is a process of its own with the real code: ``serve`` is what
``orthofed coordinator serve`` runs; ``answer`` is the same house and service, but its calls come
over a Unix socket, one at a time and on the main thread, so that a tracer can count the system
calls of each thread. The parent only forks, waits and tells how a child ended.
"""

import base64
import contextlib
import ctypes
import json
import os
import socket
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from orthofed.coordinator import daemon
from orthofed.coordinator.call import Call
from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.desk import Desk
from orthofed.coordinator.folder import DataFolder
from orthofed.coordinator.fs import Fs
from orthofed.coordinator.house import House
from orthofed.coordinator.releasing import publish_newest
from orthofed.coordinator.service import Service
from orthofed.core.errors import OrthoFedError
from orthofed.proto import failure, methods

_METHODS = {method.path: method for method in methods.METHODS}
_PR_SET_PTRACER = 0x59616D61


def serve(folder: Path, listen: str, ready: int) -> None:
    """Serve as the command does; tell the address through the pipe."""

    def tell(now: daemon.Listening) -> None:
        os.write(ready, json.dumps({"address": now.address}).encode() + b"\n")

    daemon.run(folder, listen=listen, ready=tell)


def answer(root: Path, listen: str, ready: int) -> None:
    """Open the house when told to, then answer one call after the other."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(listen)
        listener.listen(1)
        os.write(ready, b'{"address": ""}\n')
        connection = listener.accept()[0]
    lines = _lines(connection)
    if next(lines)["op"] != "open":
        return
    folder = DataFolder.open(root)
    fs = Fs(reserve_bytes=folder.settings().reserve_mib << 20)
    with folder.locked(), House(folder, fs=fs, clock=SystemClock()) as house:
        service = Service(house)
        house.sweep()
        connection.sendall(b'{"ok": ""}\n')
        for asked in lines:
            if asked["op"] == "close":
                break
            told = _do(house, service, asked)
            connection.sendall(json.dumps(told).encode() + b"\n")
    connection.sendall(b'{"ok": ""}\n')


def _lines(connection: socket.socket) -> Any:
    """Give the lines of a socket, read with recv: a tracer of read must not see them."""
    kept = b""
    while True:
        while b"\n" not in kept:
            data = connection.recv(1 << 20)
            if not data:
                return
            kept += data
        line, _, kept = kept.partition(b"\n")
        yield json.loads(line)


def _do(house: House, service: Service, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"ok": _done(house, service, asked)}
    except OrthoFedError as error:
        return {"error": failure.status_of(error)}
    except Exception as error:  # noqa: BLE001  # answered as server.py answers what nobody foresaw
        return {"error": ["UNAVAILABLE", f"{type(error).__name__}: {error}", "coordinator-fault"]}


def _done(house: House, service: Service, asked: dict[str, Any]) -> Any:
    match asked["op"]:
        case "threads":
            found = {each.name: each.native_id for each in threading.enumerate()}
            return found | {"MainThread": os.getpid()}  # the fork server's id is not ours
        case "quiet":  # on a thread of its own: how often it looks must not be counted
            with ThreadPoolExecutor(1) as other:
                return other.submit(_wait_for_heads, house).result()
        case "invite":
            return Desk(house).invite(1000, 7, operator=False)["invite"]
        case "release":
            return publish_newest(
                house.folder, Desk(house), lambda_1024=None, resume=False, say=lambda _: None
            )
    parts = [base64.b64decode(asked[name]) for name in ("body", "header", "signature")]
    reply = service.answer(Call(_METHODS[asked["path"]], *parts, peer="unix:"))
    return base64.b64encode(reply).decode()


def _wait_for_heads(house: House) -> bool:
    """Wait until the public files have caught up; return whether they did within two seconds."""
    end = time.monotonic() + 2
    while time.monotonic() < end:
        size = house.store.run(lambda db: db.execute("SELECT size FROM head").fetchone()[0])
        if json.loads(house.folder.mark_file().read_bytes())["size"] == size:
            return True
        time.sleep(0.005)
    return False


def _fork(asked: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        code = 1
        try:
            _become(asked, writing)
            code = 0
        except OrthoFedError as error:
            sys.stderr.write(f"{error}\n")
            code = error.exit_code
        except BaseException:  # noqa: BLE001  # the child's last word
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        line = pipe.readline()
    if not line:
        return {"pid": pid, "code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}
    return {"pid": pid, **json.loads(line)}


def _become(asked: dict[str, Any], ready: int) -> None:
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    os.dup2(log, 1)
    os.close(0)
    with contextlib.suppress(OSError, AttributeError):  # not Linux: nothing traces there
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, -1, 0, 0, 0)  # a tracer may be a sibling
    what = {"serve": serve, "answer": answer}[asked["do"]]
    what(Path(asked["folder"]), asked["listen"], ready)


def main() -> None:
    """Do what stdin asks until it ends."""
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "wait":
            told: dict[str, Any] = {
                "code": os.waitstatus_to_exitcode(os.waitpid(asked["pid"], 0)[1])
            }
        elif asked["do"] == "hello":
            told = {"pid": os.getpid()}
        else:
            told = _fork(asked)
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
