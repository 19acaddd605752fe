"""Every command explains itself: help, an example, and a clear answer to wrong usage."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from orthofed.__main__ import app


def _commands(group: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(group, click.Group):
        return [path]
    return [
        found
        for name, command in sorted(group.commands.items())
        for found in _commands(command, (*path, name))
    ]


COMMANDS = _commands(typer.main.get_command(app))


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "orthofed", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_that_ends_with_an_example(path: tuple[str, ...]) -> None:
    """`orthofed COMMAND --help` says what it does and shows one line to copy."""
    command: click.Command = typer.main.get_command(app)
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]

    assert command.help
    assert command.epilog
    assert command.epilog.startswith(f"Example: orthofed {' '.join(path)}")
    for parameter in command.params:
        assert getattr(parameter, "help", "argument"), f"{parameter.name} has no help"


def test_the_help_is_printed_as_it_is_meant() -> None:
    """Arguments that have to be given and defaults, in plain brackets."""
    shown = _run("client", "rotate", "--help").stdout + _run("audit", "--help").stdout

    assert "[required]" in shown
    assert "[default: 120" in shown
    assert "\\" not in shown


def test_the_version_names_code_wire_and_formats() -> None:
    """What a bug report needs."""
    done = _run("--version")

    assert done.returncode == 0
    assert done.stdout.startswith("orthofed 0.1.0")
    assert "wire v1" in done.stdout


def _bounded() -> list[tuple[tuple[str, ...], str]]:
    """Return every option that takes a number between bounds, with its command."""
    found = list[tuple[tuple[str, ...], str]]()
    for path in COMMANDS:
        command: click.Command = typer.main.get_command(app)
        for name in path:
            assert isinstance(command, click.Group)
            command = command.commands[name]
        found += [
            (path, each.opts[0])
            for each in command.params
            if isinstance(each.type, click.FloatRange)
        ]
    return found


@pytest.mark.parametrize(("path", "option"), _bounded(), ids=" ".join)
def test_no_bounded_number_may_be_nan(path: tuple[str, ...], option: str) -> None:
    """It is neither below the least nor above the most, so it would pass both bounds."""
    done = CliRunner().invoke(app, [*path, option, "nan"])

    assert done.exit_code == 2
    assert "nan is not a finite number" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sample", ".", "--seed", "99999999999999999999999"), "9223372036854775807"),
        (("sample", ".", "--prompt", "a fox", "-o", "."), ". is a folder"),
        (("pull", "orthofed://x", "-o", "out", "--lambda", "0.5"), "--lambda without --key"),
        (("simulate", "--clients", "1", "--keep", __file__), "is no folder"),
        (("demo", "--out", __file__), "is no folder"),
    ],
)
def test_what_cannot_be_done_is_said_before_it_begins(words: tuple[str, ...], said: str) -> None:
    """Exit code 2 and no traceback; nothing was drawn or asked."""
    done = _run(*words)

    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_option_is_wrong_usage() -> None:
    """Exit code 2, and no traceback."""
    done = _run("demo", "--conceptz", "4")

    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_an_error_has_three_parts_and_a_code_for_programs(tmp_path: object) -> None:
    """`--json` answers with one object; people read what, why and fix on stderr."""
    done = _run("demo", "--concepts", "99", "--out", f"{tmp_path}/x", "--json")

    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "concepts-out-of-range"
    assert "99" in done.stderr
    assert "why:" in done.stderr
    assert "fix:" in done.stderr


def test_an_error_prints_no_escape_whatever_it_names(tmp_path: object) -> None:
    """T8: names of files come from strangers; what is printed moves no cursor."""
    done = _run("verify", f"{tmp_path}/no\x1b[2J\u202e")

    assert done.stderr.splitlines()[0].endswith(r"no\x1b[2J\u202e is not a folder")
    assert all(line.isprintable() for line in done.stderr.splitlines())


def test_a_folder_where_a_lora_should_be_is_said(tmp_path: Path) -> None:
    """Not by the system, once the import had begun."""
    words = ["--concept", "a-b1", "--class-noun", "person", "--base", str(tmp_path)]

    done = CliRunner().invoke(app, ["client", "import", str(tmp_path), *words])

    assert done.exit_code == 2
    assert "is a directory" in done.output
