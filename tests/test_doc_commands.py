"""Every command that a page shows is typed by a test, or says why none can.

And every `orthofed ...` of a page is one that the program takes.

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

_WHOLE = "test_tutorials.py::test_each_tutorial_goes_on_where_the_one_before_ended"

RUN = {
    "README.md": (
        "test_demo.py::test_the_report_has_every_number_and_the_release_is_verified",
        "test_readme.py::test_the_quick_starts_lead_from_a_base_to_a_picture",
    ),
    "deploy/README.md": ("test_pages_run.py::test_deploy",),
    "docs/admission.md": ("test_pages_run.py::test_admission",),
    "docs/base-models.md": ("test_pages_run.py::test_base_models",),
    "docs/daemon.md": (
        "test_daemon_page.py::test_the_page_leads_from_a_file_of_settings_to_a_clean_end",
    ),
    "docs/doctor.md": ("test_file_doctor.py::test_the_page_shows_what_the_command_prints",),
    "docs/import.md": ("test_pages_run.py::test_import",),
    "docs/keys.md": (
        "test_keys_runbooks.py::test_every_runbook_runs_and_ends_in_a_sound_federation",
    ),
    "docs/ledger.md": ("test_pages_run.py::test_ledger",),
    "docs/monitoring.md": ("test_pages_run.py::test_monitoring",),
    "docs/orders.md": ("test_pages_run.py::test_orders",),
    "docs/pull.md": ("test_pages_run.py::test_pull",),
    "docs/sample.md": ("test_pages_run.py::test_sample",),
    "docs/fuse.md": ("test_pages_run.py::test_fuse",),
    "docs/shared.md": ("test_pages_run.py::test_shared",),
    "docs/simulate.md": ("test_pages_run.py::test_simulate",),
    "docs/study.md": (
        "test_study.py::test_the_report_shows_what_the_run_found",
        "test_study.py::test_the_long_runs_of_the_page_go_the_same_way",
        "test_study.py::test_what_is_shown_is_what_the_kept_result_says",
    ),
    "docs/training.md": ("test_pages_run.py::test_training",),
    "docs/tutorials/consumer.md": (_WHOLE,),
    "docs/tutorials/operator.md": (_WHOLE,),
    "docs/tutorials/owner.md": (_WHOLE,),
    "docs/verify.md": ("test_verify_page.py::test_the_commands_of_the_page_run_and_say_yes",),
    "docs/web.md": ("test_pages_run.py::test_web",),
}
"""The tests that type the commands of a page, all but those below."""

UNTYPED = {
    "deploy/README.md": {
        "/opt/orthofed/bin/pip install": "it asks a package index",
        "docker compose -f deploy/compose.yaml run": "it needs a container engine",
        "docker compose -f deploy/compose.yaml up": "it needs a container engine",
        "docker compose -f deploy/compose.yaml exec": "it needs a container engine",
        "helm install": "it needs a Kubernetes",
    },
}
"""How each command begins that no test types, and why none can; the page tells its reader so."""

TOP = typer.main.get_command(app)
_OPERATORS = set("();<>|&") | {"&&", "||", ">>", "<<", "|&", ";;", "<<<"}
_PLACEHOLDER = re.compile(r"[$]|^[A-Z][A-Z0-9_]*$|\.\.\.")
_SHELLS = {"sh", "bash", "shell", "zsh", "fish", "shellsession"}
_LOOKS_TYPED = re.compile(r"^(\$|#|sudo|orthofed [a-z]|make [a-z]|pip|python|docker|helm|curl) ?\S")


def words_of(line: str) -> Iterator[list[str]]:
    """Yield the words behind each `orthofed` of a shell's line, up to what ends the command."""
    for inner in re.findall(r"\$\(([^()]*)\)", line):
        yield from words_of(inner)
    line = re.sub(r"\s#.*|[12]>\S+", "", re.sub(r"\$\([^()]*\)", "$VALUE", line))
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_typed_stands_in_console_blocks(page: Path) -> None:
    """In no block of another kind, where no test would type it."""
    others = [block for block in blocks(page) if block.kind != "console"]

    assert [block.text for block in others if block.kind in _SHELLS] == []
    plain = [block.text for block in others if block.kind in {"", "text"}]
    assert [text for text in plain if _LOOKS_TYPED.match(text)] == []


def test_each_page_with_commands_names_the_tests_that_type_them() -> None:
    """A page that gets a console block has to be given its place above, with tests that exist."""
    assert {str(page.relative_to(ROOT)) for page in PAGES if console(page)} == RUN.keys()
    for page, tests in RUN.items():
        for file, _, test in (name.partition("::") for name in tests):
            text = (ROOT / "tests" / file).read_text("utf-8")
            assert f"\ndef {test}(" in text, test
            assert Path(page).name in text or Path(page).stem in text, page


def test_what_no_test_types_is_known_with_its_reason_and_says_so() -> None:
    """Neither a command more nor one less than above, each with the reason behind it."""
    said: dict[str, list[tuple[str, str]]] = {}
    for page in PAGES:
        commands = [each for b in blocks(page) if b.kind == "console" for each in b.commands]
        if untyped := [(each.typed, each.reason) for each in commands if each.reason]:
            said[str(page.relative_to(ROOT))] = untyped

    assert said.keys() == UNTYPED.keys()
    for page, known in UNTYPED.items():
        assert [reason for _, reason in said[page]] == list(known.values())
        assert all(
            typed.startswith(start) for (typed, _), start in zip(said[page], known, strict=True)
        ), page


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
