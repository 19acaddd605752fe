"""The courier: a Flower ClientApp that hands one order to the owner's daemon and ends.

    order in the message -> one line to orders.sock -> its answer within 10 s -> the reply

It runs for each message as a new process under an account that owns nothing, holds no key, opens no
image and trains nothing (flower.md: three rules). Laws: an order is passed on field by field and
judged by the daemon alone; an answer carries a state, a code, a step and a receipt, never losses,
paths or free text; at most 4,096 bytes each way. Without a daemon the answer is ``waiting`` with
the code ``daemon-away``: the coordinator asks again. Imports the standard library and flwr only.
"""

import base64
import json
import socket
from typing import Any, Final

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

_PATIENCE_S: Final = 10.0
_MOST_BYTES: Final = 4_096
_FIELDS: Final = ("order", "kind", "fed", "log", "concept", "release")
_STATES: Final = ("queued", "running", "waiting", "done", "refused")

client = ClientApp()


@client.train("concept")
def train(message: Message, context: Context) -> Message:
    """Carry an order to train a concept."""
    return _carried(message, context)


@client.evaluate("concept")
def score(message: Message, context: Context) -> Message:
    """Carry an order to score a concept against a release."""
    return _carried(message, context)


@client.query("withdraw")
def withdraw(message: Message, context: Context) -> Message:
    """Carry an order to withdraw a concept, which the daemon puts before its owner."""
    return _carried(message, context)


def _carried(message: Message, context: Context) -> Message:
    """Return the reply to ``message``: the daemon's answer, cut down to the fields it may have."""
    record = message.content["order"]
    order: dict[str, Any] = {name: record.get(name) for name in _FIELDS}
    answer = _answer(str(context.node_config["orders"]), {"v": 1, **order})
    reply = ConfigRecord(
        {
            "v": 1,
            "order": str(order["order"]),
            "state": answer["state"] if answer.get("state") in _STATES else "refused",
            "code": str(answer.get("code", ""))[:64],
            "step": int(answer.get("step", 0)),
            "receipt": base64.b64decode(str(answer.get("receipt", ""))),
        }
    )
    return Message(RecordDict({"answer": reply}), reply_to=message)


def _answer(path: str, order: dict[str, Any]) -> dict[str, Any]:
    """Return what the daemon says; that it is away if it says nothing whole."""
    line = json.dumps(order).encode() + b"\n"
    if len(line) > _MOST_BYTES:
        return {"state": "refused", "code": "order-too-long"}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_PATIENCE_S)
            connection.connect(path)
            connection.sendall(line)
            with connection.makefile("rb") as file:
                answer = json.loads(file.readline(_MOST_BYTES + 1))
    except (OSError, ValueError):
        return {"state": "waiting", "code": "daemon-away"}
    return answer if isinstance(answer, dict) else {"state": "waiting", "code": "daemon-away"}
