"""Every `orthofed ...` that a page shows is one that the program takes.

Blocks are read as a shell would, each command is held to the real parser: its words are a command,
its options exist and have values of their kind, what is required is there. Words of prose in
backticks are held to the same commands and options, but may leave out what is required. Which pages
are run besides, and why the others are not, stands below.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from orthofed.__main__ import app

from .doc_runner import ROOT, blocks, console
from .test_cli_help import COMMANDS
from .test_docs import PAGES

RUN = {
    "README.md": "test_readme.py",
    "docs/base-models.md": "test_pages_run.py",
    "docs/daemon.md": "test_daemon_page.py",
    "docs/import.md": "test_pages_run.py",
    "docs/keys.md": "test_keys_runbooks.py",
    "docs/ledger.md": "test_pages_run.py",
    "docs/orders.md": "test_orders_page.py",
    "docs/pull.md": "test_pull_page.py",
    "docs/sample.md": "test_pages_run.py",
    "docs/training.md": "test_pages_run.py",
    "docs/tutorials/consumer.md": "test_tutorials.py",
    "docs/tutorials/operator.md": "test_tutorials.py",
    "docs/tutorials/owner.md": "test_tutorials.py",
    "docs/verify.md": "test_verify_page.py",
}
"""Pages whose console blocks a test types, and which."""

PARSED = {
    "CONTRIBUTING.md": "make targets, which build environments of a GB and run this very suite",
    "docs/shared.md": "three homes and hours of training; test_shared_training.py has each step",
}
"""Pages whose console blocks are parsed alone, each with its reason, and say so to the reader."""

NOT_TYPED = "no test types this"
"""How a block says so itself, behind its command."""

TOP = typer.main.get_command(app)
_OPERATORS = set("();<>|&") | {"&&", "||", ">>", "<<", "|&", ";;", "<<<"}
_PLACEHOLDER = re.compile(r"[$]|^[A-Z][A-Z0-9_]*$|\.\.\.")
_SHELLS = {"console", "sh", "bash", "shell", ""}


def words_of(line: str) -> Iterator[list[str]]:
    """Yield the words behind each `orthofed` of a shell's line, up to what ends the command."""
    for inner in re.findall(r"\$\(([^()]*)\)", line):
        yield from words_of(inner)
    line = re.sub(r"\s#.*", "", re.sub(r"\$\([^()]*\)", "$VALUE", line))
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.commenters = ""
    lexer.whitespace_split = True
    words: list[str] | None = None
    for word in lexer:
        if set(word) <= _OPERATORS or word in _OPERATORS:
            if words:
                yield words
            words = None
        elif not words and (word == "orthofed" or word.endswith("/bin/orthofed")):
            words = []  # the one before was somebody's name: sudo -u orthofed orthofed ...
        elif words is not None:
            words.append(word)
    if words:
        yield words


def wrong(words: list[str], *, is_whole: bool) -> str:
    """Return what the parser would not take of ``words``; empty: nothing."""
    command = TOP
    context = click.Context(command, info_name="orthofed")
    rest = list(words)
    while isinstance(command, click.Group) and rest:
        if rest[0].startswith("-"):
            known = {name for each in command.params for name in each.opts} | {"--help"}
            return "" if rest[0] in known else f"no option {rest[0]}"
        name = rest.pop(0)
        if name not in command.commands:
            return f"no command {name}" if is_whole or _is_word(name) else ""
        command = command.commands[name]
        context = click.Context(command, info_name=name, parent=context)
    if isinstance(command, click.Group):
        return f"{command.name} is a group of commands" if is_whole else ""
    return _wrong_options(command, context, rest, is_whole=is_whole)


def _is_word(name: str) -> bool:
    return re.fullmatch(r"[a-z][a-z-]*", name) is not None


def _wrong_options(  # noqa: PLR0911  # a line a fault
    command: click.Command, context: click.Context, rest: list[str], *, is_whole: bool
) -> str:
    if not is_whole:
        known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        odd = [w for w in rest if re.fullmatch(r"--[a-z-]+(=.*)?", w)]
        odd = [word for word in odd if word.partition("=")[0] not in known | {"--help"}]
        return f"no option {odd[0]}" if odd else ""
    try:
        values, left, _ = command.make_parser(context).parse_args(rest)
    except click.UsageError as error:
        return error.format_message()
    if left:
        return f"{left[0]} is one word too many"
    if values.get("help"):
        return ""
    for each in command.params:
        given = values.get(each.name or "")
        if each.required and given is None:
            return f"{each.human_readable_name} is missing"
        if given is not None and not isinstance(each.type, click.Path):
            try:
                _convert(each, given, context)
            except click.UsageError as error:
                return error.format_message()
    return ""


def _convert(param: click.Parameter, given: object, context: click.Context) -> None:
    """Raise UsageError: a value that is no placeholder is not of the parameter's kind."""
    values = given if isinstance(given, list | tuple) else [given]
    for value in values:
        if isinstance(value, str) and not _PLACEHOLDER.search(value):
            param.type.convert(value, param, context)


def lines_of(page: Path) -> Iterator[str]:
    """Yield the lines of a page's blocks that a shell would be given."""
    for block in blocks(page):
        if block.kind == "console":
            yield from (command.typed.replace("\\\n", " ") for command in block.commands)
        elif block.kind in _SHELLS:
            text = re.sub(r"\\\n", " ", block.text)
            for line in text.splitlines():
                typed = line.removeprefix("$ ")
                if re.search(r"(^|[ /(])orthofed [a-z-]", typed) and not typed.startswith("#"):
                    yield typed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_is_one_that_the_program_takes(page: Path) -> None:
    """In blocks of every kind, and in prose."""
    odd: list[str] = []
    for line in lines_of(page):
        if "orthofed" in line:
            odd += [f"{line}: {said}" for w in words_of(line) if (said := wrong(w, is_whole=True))]
    prose = re.sub(r"^ *```.*?^ *```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for span in re.findall(r"`(orthofed [^`]+)`", prose):
        said = wrong(" ".join(span.split()).split(" ")[1:], is_whole=False)
        odd += [f"{span}: {said}"] if said else []

    assert odd == []


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_example_of_every_help_is_taken(path: tuple[str, ...]) -> None:
    """What `--help` ends with, which the reference shows too."""
    command = TOP
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    example = (command.epilog or "").removeprefix("Example: ")

    assert [wrong(words, is_whole=True) for words in words_of(example)] == [""]


def test_each_page_with_commands_is_run_or_has_its_reason() -> None:
    """A page that gets a console block has to be given its place above."""
    with_blocks = {str(page.relative_to(ROOT)) for page in PAGES if console(page)}

    assert with_blocks == RUN.keys() | PARSED.keys()
    assert not RUN.keys() & PARSED.keys()
    for page, test in RUN.items():
        text = (ROOT / "tests" / test).read_text("utf-8")
        assert Path(page).name in text or Path(page).stem in text
    for page in PARSED:
        for block in console(ROOT / page):
            assert all(NOT_TYPED in command.typed for command in block), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_of_a_page_exists(page: Path) -> None:
    """`make demo`, in a block or in prose."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    text = page.read_text("utf-8")

    asked = set(re.findall(r"^(?:\$ )?make ([a-z]+)\b", text, re.MULTILINE))
    asked |= set(re.findall(r"`make ([a-z]+)\b", text))

    assert asked - targets == set()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("orthofed pull LINK -o release-1", ""),
        ('orthofed pull "$(orthofed coordinator link fed)" -o r', ""),
        ("sudo -u orthofed /opt/bin/orthofed coordinator status fed > status.txt &", ""),
        ("orthofed coordinator order fed train --member $M --concept anna", ""),
        ("orthofed client pause --for 2h | cat", ""),
        ("orthofed pull LINK", "is missing"),
        ("orthofed client trian --concept anna", "no command trian"),
        ("orthofed client join --invites invite.txt", "--invites"),
        ("orthofed plan --rank twenty", "twenty"),
        ("orthofed coordinator order fed teach --member M --concept anna", "teach"),
        ("orthofed verify one two", "too many"),
        ("orthofed client train --concept", "requires an argument"),
        ("orthofed coordinator", "group of commands"),
    ],
)
def test_a_wrong_command_is_told(line: str, said: str) -> None:
    """The guard itself."""
    found = [wrong(words, is_whole=True) for words in words_of(line)]

    assert found
    assert any(said in each for each in found) if said else not any(found)
