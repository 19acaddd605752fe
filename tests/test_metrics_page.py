"""/metrics of a real coordinator: true numbers, no names; rules and dashboard ask for no others."""

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from orthofed.coordinator import metrics_page, node_keys
from orthofed.coordinator.backup import back_up
from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.control import ControlServer
from orthofed.coordinator.meter import Meter
from orthofed.coordinator.metrics_page import MetricsPage
from orthofed.coordinator.order_desk import Wish, give
from orthofed.core.errors import InputError, OrthoFedError
from orthofed.proto import methods, wire

from .coordinator_process import Coordinator
from .member import Member
from .node_lines import node_line
from .serving import FastFs, founded, running

DEPLOY = Path(__file__).parent.parent / "deploy"
_OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def scrape(address: str) -> list[Sample]:
    """Return every sample, read by the format's own parser."""
    host = address.removeprefix("http://").removesuffix("/metrics")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("GET", "/metrics", headers={"Accept": _OPENMETRICS})
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, text
    return [each for family in text_string_to_metric_families(text) for each in family.samples]


def value(samples: list[Sample], name: str, **labels: str) -> float:
    """Return the one sample of this name and these labels."""
    (found,) = [s for s in samples if s.name == name and labels.items() <= s.labels.items()]
    return found.value


@contextlib.contextmanager
def page(own: Any) -> Iterator[str]:
    """Serve the metrics of a running coordinator, with the meter that its server has."""
    made = MetricsPage("127.0.0.1:0", own.server.meter, own.house)
    try:
        yield made.address
    finally:
        made.close()


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """One coordinator with a contribution, a withdrawal, a refusal, a release and a backup."""
    path = tmp_path_factory.mktemp("watched")
    with running(founded(path)) as own, page(own) as address:
        anna, rex = own.member(), own.member()
        anna.contribute(anna.pack(anna.lease("secret-anna", ("anna-k7",)), seed=1))
        held = rex.lease("secret-rex", ("rex-p2",))
        rex.contribute(rex.pack(held, seed=2))
        own.release()
        wish = Wish(kind="score", member=anna.key.public_hex, concept="secret-anna", release=1)
        give(own.house, wish)
        for n, each in enumerate((anna, rex), start=1):
            each.register_node(node_line(n))
            own.house.store.run(lambda db, n=n: node_keys.set_node(db, node_line(n), n))
        own.house.sightings.report([1, 9], own.house.clock.monotonic_s())
        with pytest.raises(OrthoFedError):
            anna.lease("secret-rex", ("anna-k8",))
        control = ControlServer(own.folder.control, lambda _: own.desk)
        back_up(own.folder, path / "backup", fs=FastFs(), clock=SystemClock(), say=lambda _: None)
        control.close()
        yield scrape(address), own, address


def test_the_numbers_are_those_of_what_was_done(watched):
    """Two contributions, one release, one refusal: each counted once, under its own label."""
    samples, own, _ = watched

    assert value(samples, "orthofed_slots", phase="filled") == 2
    assert value(samples, "orthofed_contributions", state="accepted") == 2
    assert value(samples, "orthofed_contributions", state="withdrawn") == 0
    assert value(samples, "orthofed_members", state="standing") == 2
    assert value(samples, "orthofed_newest_release") == 1
    assert value(samples, "orthofed_open_orders", kind="score") == 1
    assert value(samples, "orthofed_open_orders", kind="train") == 0
    assert value(samples, "orthofed_nodes_seen") == 1
    assert value(samples, "orthofed_calls_total", method="Contributions.Commit", code="ok") == 2
    assert value(samples, "orthofed_calls_total", method="Federation.Lease", code="name-taken") == 1
    assert value(samples, "orthofed_call_seconds_count", method="Federation.Lease") == 3
    blobs = sum(path.stat().st_size for path in own.folder.blobs.rglob("*") if path.is_file())
    received = value(samples, "orthofed_received_bytes_total", method="Contributions.Put")
    assert blobs <= received < blobs + 1_000
    assert value(samples, "orthofed_calls_in_hand") == 0
    assert value(samples, "orthofed_ledger_leaves") == own.desk.status()["ledger_size"]


def test_dates_are_near_or_far_as_they_are(watched):
    """The backup and the release were made now; certificate and keyring end later."""
    samples, own, _ = watched
    now = own.clock.wall_s()

    for name in ("backup", "release"):
        assert now - 300 < value(samples, f"orthofed_{name}_timestamp_seconds") <= now
    for name in ("certificate", "keyring"):
        assert value(samples, f"orthofed_{name}_until_timestamp_seconds") > now + 30 * 86_400


def test_a_damaged_note_or_certificate_takes_no_other_number_with_it(watched):
    """Both stood in files that a scrape reads; the page answered 500 until they were mended."""
    _, own, address = watched
    files = own.folder.last_backup, own.folder.keys / "tls-server.pem"
    kept = [path.read_bytes() if path.is_file() else None for path in files]
    for path in files:
        path.write_bytes(b"")

    samples = scrape(address)

    assert value(samples, "orthofed_backup_timestamp_seconds") == 0
    assert value(samples, "orthofed_certificate_until_timestamp_seconds") == 0
    assert value(samples, "orthofed_newest_release") == 1
    for path, data in zip(files, kept, strict=True):
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data)


def test_nobody_is_named(watched):
    """No label holds a concept, a trigger, a key or an address."""
    samples, _, _ = watched
    words = {word for sample in samples for word in sample.labels.values()}

    assert not [word for word in words if re.search("anna|rex|secret|127|wren|[0-9a-f]{16}", word)]


def test_who_trickles_does_not_stop_a_scrape(watched, monkeypatch):
    """Fifty connections that say nothing: some are turned away, and none keeps later scrapes.

    Long before they are cut for saying nothing, which is put off here. A scrape that comes before
    the coordinator has heard that they are closed is turned away as they were.
    """
    monkeypatch.setattr(metrics_page._Handler, "timeout", 300)
    _, _, address = watched
    host, port = address.removeprefix("http://").removesuffix("/metrics").split(":")
    before = len(scrape(address))

    idle = [socket.create_connection((host, int(port))) for _ in range(50)]
    try:
        open_ = set(idle)
        _until(lambda: open_.difference_update(filter(_is_closed, set(open_))) or len(open_) <= 8)
    finally:
        for each in idle:
            each.close()

    _until(lambda: _answered(address) >= before)


def _answered(address: str) -> int:
    """Return how many samples a scrape gives; 0: it was turned away."""
    try:
        return len(scrape(address))
    except (ConnectionError, http.client.HTTPException):
        return 0


def _is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.02)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("listen", ["", "7070", "127.0.0.1:x", "127.0.0.1:99999", "192.0.2.1:9464"])
def test_an_address_that_cannot_be_had_is_named(watched, listen):
    """What is no address, or is not this machine's, ends the start with the setting's name."""
    _, own, _ = watched

    with pytest.raises(InputError, match=r"correct metrics in coordinator\.toml") as caught:
        MetricsPage(listen, Meter(), own.house)
    assert listen in caught.value.what


def test_a_caller_who_leaves_is_counted_as_gone(tmp_path):
    """A call that is cancelled while the coordinator works on it is over, and not in hand."""
    with running(founded(tmp_path)) as own, page(own) as address:
        anna = own.member()
        go_on = threading.Event()
        turn = threading.Thread(target=own.house.board.run, args=(lambda _: go_on.wait(30),))
        turn.start()  # the writer is busy, so the call below waits for it
        call = anna.link.channel.unary_unary(methods.GET_SPEC.path)
        waiting = call.future(wire.SpecRequest().to_bytes())
        _until(lambda: own.server.meter.in_hand == 1)
        waiting.cancel()
        _until(lambda: own.server.meter.in_hand == 0)
        go_on.set()
        turn.join()
        samples = scrape(address)

    assert value(samples, "orthofed_calls_total", method="Federation.GetSpec", code="gone") == 1


def _until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_the_command_serves_it_and_logs_what_happened_as_json(tmp_path):
    """`metrics` in coordinator.toml and `serve --log json`: a page, and a line an event."""
    folder = founded(tmp_path)
    text = folder.settings_file.read_text()
    folder.settings_file.write_text(text.replace('metrics = ""', 'metrics = "127.0.0.1:0"'))
    with Coordinator(folder.root) as own:
        own.start("--log", "json")
        anna = Member.joined(own.invite())
        receipt = anna.contribute(anna.pack(anna.lease("secret-anna", ("anna-k7",)), seed=1))
        samples, leaf = scrape(own.said["metrics"]), anna.check(receipt).index
        lines = [json.loads(line) for line in own.log().splitlines()]

    assert value(samples, "process_resident_memory_bytes") > 1 << 20
    told = {line["event"]: line for line in lines}
    assert told["lease-granted"]["slot"] == told["contribution-kept"]["slot"]
    assert told["contribution-kept"]["leaf"] == leaf
    assert told["member-joined"]["member"] == anna.key.public_hex[:16]
    assert "secret-anna" not in own.log()
    assert "anna-k7" not in own.log()


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every PromQL expression of the rules and the dashboard, with where it stands."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    board = json.loads((DEPLOY / "grafana" / "coordinator.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def test_rules_and_dashboard_ask_for_what_is_there(watched):
    """Each expression parses, and each of its selectors finds a series of a real scrape."""
    samples, _, _ = watched
    asked = list(expressions())
    assert len(asked) > 20

    for where, text in asked:
        for selector in _selectors(promql_parser.parse(text.replace("$__rate_interval", "5m"))):
            if selector.name == "up":
                continue  # Prometheus's own
            assert any(_finds(selector, sample) for sample in samples), (where, selector.name)


def _selectors(expression: promql_parser.Expr) -> Iterator[Any]:
    found: list[Any] = []

    def look(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    assert promql_parser.walk(expression, look)
    return iter(found)


def _finds(selector: Any, sample: Sample) -> bool:
    if sample.name != selector.name:
        return False
    for matcher in selector.matchers.matchers:
        if matcher.name == "job":
            continue  # Prometheus adds it
        have = sample.labels.get(matcher.name, "")
        match str(matcher.op).rpartition(".")[2]:
            case "Equal":
                fits = have == matcher.value
            case "NotEqual":
                fits = have != matcher.value
            case "Re":
                fits = re.fullmatch(matcher.value, have) is not None
            case other:
                raise AssertionError(other)
        if not fits:
            return False
    return True


def test_every_rule_says_what_to_do():
    """An alert has a severity, a summary and an action, and the action's document is there."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())

    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]
        assert {"summary", "action"} <= rule["annotations"].keys(), rule["alert"]
