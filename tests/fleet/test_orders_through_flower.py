"""Orders through real Flower processes on loopback: TLS, node keys, the real coordinator.

One federation and one node for the whole file. What the store holds is asked of the coordinator's
own commands, as an operator would.
"""

import base64
import json
import ssl
import urllib.parse
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest

from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.state import RECEIPT
from orthofed.coordinator.fleet_line import FleetLine

from .fleet_processes import NEEDS_FLOWER, free_port, until
from .fleet_stack import CONCEPT, FleetStack, fleet_stack
from .proxy import NGINX, proxied

pytestmark = NEEDS_FLOWER
_PROTOBUF = "application/protobuf"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetStack]:
    """Give one federation with one node; its daemon is started by the test that wants it."""
    with fleet_stack(tmp_path_factory.mktemp("fleet")) as stack:
        yield stack


def test_an_order_reaches_the_machine_and_its_word_comes_back(fleet: FleetStack) -> None:
    """From the operator's command to the answer: no daemon runs here, and that is the answer."""
    fleet.operator.until_it_turns()
    order = fleet.order("train", "wolf-a1")

    until(
        lambda: (fleet.found(order).get("said") or {}).get("code") == "daemon-away",
        "an answer to the order",
        log=fleet.told,
        seconds=180,  # 5 to 15 s on a machine with nothing else to do
    )

    assert fleet.found(order)["state"] == "open"


def test_a_daemon_is_woken_to_withdraw_and_to_train_and_the_ledger_closes_both(
    fleet: FleetStack,
) -> None:
    """F1: the queue's own training, then a withdrawal and a training by order, through Flower.

    Two contributions, one withdrawal, both orders closed by their leaves; two couriers came.
    """
    with fleet.daemon() as daemon:
        daemon.until_done()
        before, couriers = fleet.leaves(), fleet.courier.couriers()

        out = fleet.order("withdraw", CONCEPT)
        fleet.until_closed(out, seconds=60)
        again = fleet.order("train", CONCEPT)
        fleet.until_closed(again, seconds=90)
        until(lambda: fleet.courier.couriers() >= couriers + 2, "couriers", seconds=30)

    after = fleet.leaves()
    assert after["contribution"] - before["contribution"] == 1
    assert after["lease"] - before["lease"] == 1
    assert after["withdrawal"] - before["withdrawal"] == 1
    assert len(fleet.contributions()) == 2


def test_forged_words_change_nothing(fleet: FleetStack) -> None:
    """F11: who holds the bridge's socket, or the owner's, says what is not so.

    An answer "done" closes no order, be its receipt a stranger's bytes, a real one of other work,
    or that with a made-up leaf. An order that the coordinator does not list, another member's, a
    listed one of another concept or kind, or of another federation, is refused by the daemon; the
    ledger stays as it was.
    """
    order = fleet.order("train", "bear-b2")
    stranger = Home.at(fleet.place / "stranger")
    join(stranger, fleet.federation.invite(), url=None, patience_s=20)
    strangers = replace(fleet, home=stranger).order("train", "bear-c3")
    listed = fleet.home.membership()
    sound = {"v": 1, "order": order, "kind": "train", "concept": "bear-b2", "release": 0}
    sound |= {"fed": listed.fed, "log": listed.log}
    forged = (
        {"order": "ab" * 16, "kind": "withdraw", "concept": CONCEPT},
        {"order": strangers, "concept": "bear-c3"},
        {"concept": CONCEPT},
        {"kind": "withdraw"},
        {"kind": "withdraw", "concept": CONCEPT},
    )

    with fleet.daemon() as daemon:
        daemon.until_done()
        before = fleet.head()
        real = (fleet.home.run(CONCEPT) / RECEIPT).read_bytes()
        receipts = (b"a stranger's", real, real.replace(b"1", b"2"))
        bridge = fleet.federation.folder / "data" / "bridge.sock"
        with closing(FleetLine(bridge)) as line:
            for receipt in receipts:
                answer = {"v": 1, "order": order, "state": "done", "code": "", "step": 7}
                answer["receipt"] = base64.b64encode(receipt).decode()
                line.ask("hint", answer=answer)
        for changed in forged:
            asked = sound | changed
            until(
                lambda asked=asked: fleet.ask_daemon(asked)["state"] == "refused",
                f"a refusal of {changed}",
                seconds=60,
            )
        other = fleet.ask_daemon(sound | {"fed": "0" * 64})
        daemon.until(lambda status: not status["running"])

    assert other["code"] == "other-federation"
    assert [fleet.found(each)["state"] for each in (order, strangers)] == ["open", "open"]
    assert fleet.head() == before


@pytest.mark.skipif(NGINX is None, reason="there is no nginx here")
def test_the_proxy_lets_through_what_nodes_poll_and_nothing_else(
    fleet: FleetStack, tmp_path: Path
) -> None:
    """F12: every path that SuperLink knows, and tricks with dots; registering a node is 403."""
    operator, port = fleet.operator, free_port()
    trust = ssl.create_default_context(cafile=str(operator.roots))
    link = f"https://{operator.superlink}"
    until(lambda: _answer(f"{link}/health", trust, method="GET")[0], link, seconds=60)
    api = json.loads(_answer(f"{link}/openapi.json", trust, method="GET")[1])
    paths = [path for path in api["paths"] if not path.startswith("/v1/fleet/")]
    tricks = ["/v1/fleet/../control/list-runs", "/v1/fleet/%2e%2e/control/list-runs", "/health"]
    tricks += ["/v1/fleet//..//runtime/acquire-task", "//v1/control/list-runs", "/openapi.json"]

    with proxied(tmp_path / "nginx", tls=operator.roots.parent, port=port, superlink=operator.port):
        url = f"https://127.0.0.1:{port}"
        until(lambda: _answer(f"{url}/", trust)[0] == 404, "nginx", seconds=20)
        answers = {path: _answer(url + path, trust)[0] for path in (*paths, *tricks)}
        registering = _answer(f"{url}/v1/fleet/register-node", trust)[0]
        polled = _answer(f"{url}/v1/fleet/pull-messages", trust)[0]

    assert len(paths) > 30
    assert set(answers.values()) == {404}, answers
    assert registering == 403
    assert polled not in (403, 404), "a node could not poll"


def test_nobody_takes_a_task_without_the_secret(fleet: FleetStack) -> None:
    """F12: another account of either machine asks both Runtime APIs for work, and gets none."""
    trust = ssl.create_default_context(cafile=str(fleet.operator.roots))
    path = "/v1/runtime/acquire-task"

    urls = (f"https://{fleet.operator.superlink}", f"http://127.0.0.1:{fleet.courier.port}")
    for url in urls:
        until(lambda url=url: _answer(f"{url}/health", trust, method="GET")[0], url, seconds=60)

    operators, owners = (_answer(url + path, trust) for url in urls)

    assert operators[0] in (401, 403), operators
    assert owners[0] in (401, 403), owners


def _answer(url: str, trust: ssl.SSLContext, *, method: str = "POST") -> tuple[int, bytes]:
    """Return status and body of one request, sent as it is written; 0 without an answer."""
    parts = urllib.parse.urlsplit(url)
    host, port = str(parts.hostname), parts.port
    connection = HTTPConnection(host, port, timeout=20)
    if parts.scheme == "https":
        connection = HTTPSConnection(host, port, timeout=20, context=trust)
    with closing(connection):
        try:
            body, kind_of = b"" if method == "POST" else None, {"Content-Type": _PROTOBUF}
            connection.request(method, parts.path, body=body, headers=kind_of)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""
