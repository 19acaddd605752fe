"""No Flower process that we start speaks to anybody but this machine (flower.md 5).

Every ``connect()`` of the operator's supervisor and of all that it starts is traced: SuperLink,
SuperExec, the bridge and each ``flwr`` command. A look-up of a name would be a call out as well.
"""

import os
import re
from pathlib import Path

import pytest

from ..coordinator_process import Coordinator, wide_base
from ..seeded import Bug
from ..strace import missing, traced
from .fleet_processes import NEEDS_FLOWER, Operator

_INTERNET = re.compile(r"sa_family=AF_INET6?, sin6?_port=htons\((\d+)\).*?\"([0-9a-f.:]+)\"")
_DNS = 53

pytestmark = [
    pytest.mark.fleet,
    NEEDS_FLOWER,
    pytest.mark.skipif(bool(missing()), reason=missing() or "strace"),
]


def _calls_out(place: Path, bug: Bug | None = None) -> tuple[int, set[tuple[str, int]]]:
    """Return how many connections were made, and those that left this machine."""
    environment = os.environ if bug is None else bug.environment(place / "bug")
    base = wide_base(place / "base")
    with Coordinator.found(place / "fed", base, "--rank", "5") as federation:
        bridge = federation.folder / "data" / "bridge.sock"
        with Operator(place / "link", bridge=bridge, environment=environment) as operator:
            trace = place / "trace"
            with traced(operator.pid, trace, "-f", "-e", "trace=connect"):
                operator.until_it_turns(seconds=150)
    found = [(host, int(port)) for port, host in _INTERNET.findall(trace.read_text())]
    out = {(host, port) for host, port in found if port == _DNS or not _is_here(host)}
    return len(found), out


def _is_here(host: str) -> bool:
    return host.startswith("127.") or host in {"::1", "::ffff:127.0.0.1"}


def test_nothing_that_the_supervisor_starts_speaks_to_anybody_else(tmp_path: Path) -> None:
    """F1: from the start to a bridge that turns."""
    num_connections, out = _calls_out(tmp_path)

    assert num_connections > 8, "the trace sees what it is to see"
    assert not out


def test_a_forgotten_switch_is_seen(tmp_path: Path) -> None:
    """Seeded: usage statistics left on."""
    _, out = _calls_out(tmp_path, Bug.named("telemetry-left-on"))

    assert out
