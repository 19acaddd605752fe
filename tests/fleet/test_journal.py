"""What a process says on stderr: a line an event, whatever a program below it says."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable

import pytest

from orthofed.client import fleet as client_heart
from orthofed.coordinator import fleet_events
from orthofed.fleet import journal

_SAYS = 'no\nINFO lease-granted slot=3 "now"'
_PROCESS = """
import sys
from pathlib import Path
from orthofed.fleet.child import Child
from orthofed.fleet.journal import to_stderr
from orthofed.fleet.supervisor import Supervisor

class Role:
    def tick(self, now_s): return "tick"
    def exited(self, name): return "exited"
    def stop(self): return "stop"
    def handle(self, event): return event == "exited"

to_stderr(sys.argv[1])
child = Child("false", ["/bin/sh", "-c", "exit 3"], environment={}, folder=Path(sys.argv[2]))
child.start()
Supervisor([child]).run(Role())
"""


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Give a way to tell things and read the lines; the root logger is as before afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level

    def lines(how: str, *tell: Callable[[], None]) -> list[str]:
        root.handlers[:] = []
        try:
            journal.to_stderr("json" if how == "json" else "text")
            for each in tell:
                each()
        finally:
            root.handlers[:] = before
            root.setLevel(level)
        return capsys.readouterr().err.splitlines()

    return lines


def test_what_a_program_says_stays_on_its_line(said: Callable[..., list[str]]) -> None:
    """SuperLink's words hold a line break and a forged event: one line, and one object."""

    def warn() -> None:
        journal.warn("not-registered", name="node-1", says=_SAYS)

    assert said("text", warn) == [
        r'WARNING not-registered name=node-1 says="no\nINFO lease-granted slot=3 \"now\""'
    ]
    (line,) = said("json", warn)
    value = json.loads(line)
    assert (value["level"], value["event"]) == ("warning", "not-registered")
    assert (value["name"], value["says"]) == ("node-1", _SAYS)


def test_what_a_heart_asks_for_is_told_with_its_ids(said: Callable[..., list[str]]) -> None:
    """A process by its name, a run and a node by number, a key by its name and never whole."""
    key = fleet_events.Key("node-1", "ecdsa-sha2-nistp384 AAAA", None)
    actions = (
        fleet_events.Start("superlink"),
        fleet_events.StopRun(3),
        fleet_events.Register(key),
        fleet_events.TellRegistered("ecdsa-sha2-nistp384 AAAA", 7),
        client_heart.Terminate("supernode"),
    )

    lines = said("text", *(lambda a=each: journal.tell_action(a) for each in actions))

    assert lines == [
        "INFO start name=superlink",
        "INFO stop-run run=3",
        "INFO register name=node-1",
        "INFO tell-registered node=7",
        "INFO terminate name=supernode",
    ]


def test_a_supervisor_says_how_a_process_ended(tmp_path) -> None:
    """For a log collector: one JSON object a line, with the time."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROCESS, "json", str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
    )

    (line,) = done.stderr.splitlines()
    value = json.loads(line)
    assert value.pop("t").endswith("Z")
    assert value == {"level": "info", "event": "process-ended", "name": "false", "status": 3}
