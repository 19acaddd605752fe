"""The systemd units of deploy/: they mean what they say, and leave an account little to harm."""

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import typer

from orthofed.__main__ import app
from orthofed.client.daemon import STOP_GRACE_S

UNITS = Path(__file__).parents[1] / "deploy"
UNIT_FILES = sorted(UNITS.glob("*.service"))
ANALYZE = shutil.which("systemd-analyze")

needs_analyze = pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze here")


def _analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ANALYZE), *words], capture_output=True, text=True, check=False, timeout=60
    )


@needs_analyze
@pytest.mark.parametrize("unit", UNIT_FILES, ids=lambda path: path.name)
def test_a_unit_is_read_without_a_warning(unit: Path, tmp_path: Path) -> None:
    """An unknown key or a wrong section is a line of `verify`; the command stands in for ours."""
    copy = tmp_path / unit.name
    copy.write_text(re.sub(r"/opt/orthofed/bin/orthofed", "/bin/true", unit.read_text()))

    done = _analyze("verify", "--man=no", str(copy))

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_analyze
@pytest.mark.parametrize("unit", UNIT_FILES, ids=lambda path: path.name)
def test_a_unit_is_hardened(unit: Path) -> None:
    """Exposure at most 2.5 of 10, by systemd's own rules."""
    done = _analyze("security", "--offline=true", "--threshold=25", "--no-pager", str(unit))

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("unit", UNIT_FILES, ids=lambda path: path.name)
def test_a_unit_starts_a_command_that_exists(unit: Path) -> None:
    """Each option of ExecStart is one of the real parser's, and each that takes a value has one."""
    (line,) = re.findall(r"^ExecStart=(.+)$", unit.read_text(), re.MULTILINE)
    first, *words = line.split()
    assert first == "/opt/orthofed/bin/orthofed"

    command: click.Command = typer.main.get_command(app)
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    command.make_context("orthofed", words, resilient_parsing=False).close()


def test_the_clients_unit_is_ended_as_the_daemon_expects() -> None:
    """SIGTERM for the daemon alone, and more time than it takes to save a step."""
    text = (UNITS / "orthofed-client.service").read_text()

    stop_s = int(re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)[0])
    assert stop_s > STOP_GRACE_S + 10
    assert "\nKillMode=mixed\n" in text
    assert "\nRestart=on-failure\n" in text
