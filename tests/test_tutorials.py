"""The tutorials, typed block after block against real processes on the base that ships."""

import re
from pathlib import Path

import pytest

from .doc_runner import agrees, blocks, console, declared, reader

pytestmark = pytest.mark.long

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"
ANYTHING = re.compile(r"(?!)")


def test_the_operators_tutorial_runs_and_prints_what_it_shows(tmp_path: Path) -> None:
    """Found, serve, invite, a member's contribution, approve, order, release, backup, restore."""
    with reader(tmp_path) as operator:
        operator.read(TUTORIALS / "operator.md")

    assert (tmp_path / "link.txt").read_text("utf-8").startswith("orthofed://")


@pytest.mark.docs
def test_each_tutorial_goes_on_where_the_one_before_ended(tmp_path: Path) -> None:
    """One folder, three people: what the operator hands over is all that the others have."""
    with reader(tmp_path) as everybody:
        for name in ("operator", "owner", "consumer"):
            everybody.read(TUTORIALS / f"{name}.md")

    assert (tmp_path / "anna.png").stat().st_size > 1000
    assert (tmp_path / "from-diffusers.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("shown", "printed", "wanted"),
    [
        ("leaf 3\nleaf 4", "leaf 3 \n\nleaf  4\n", True),
        ("leaf 3", "leaf 3\nleaf 4", False),
        ("leaf 3\n...", "leaf 3\nleaf 4", True),
        ("...\nleaf 4", "leaf 4", True),
        ("leaf ... of 9", "leaf 4 of 9", True),
        ("leaf ... of 9", "leaf 4\nof 9", False),
        ("leaf 3", "leaf 4", False),
        ("a (b)", "a b", False),
    ],
)
def test_shown_and_printed_are_held_together(shown: str, printed: str, wanted: bool) -> None:
    """Gaps where the page says so, and nowhere else."""
    assert agrees(shown, printed, ANYTHING) is wanted


def test_what_varies_is_what_the_page_says() -> None:
    """A key may be another one; a number next to it may not."""
    varies = re.compile("[0-9a-f]{16}")

    assert agrees("member 0123456789abcdef, slot 1", "member fedcba9876543210, slot 1", varies)
    assert not agrees("member 0123456789abcdef, slot 1", "member fedcba9876543210, slot 2", varies)


PAGE = """
<!-- runner
port: 7443
root: /srv/kept
adds: say --to all
-->
```console
$ echo one \\
    two
one two
$ X=7443
$ echo $X
7443
$ orthofed() { echo "$@"; }
$ orthofed say hello
say --to all hello
$ false  # no test types this: it fails
```
1. In a list:

   <!-- runner: file a.txt -->
   ```text
   in a file
   ```

<!-- runner: background until "ready" -->
```console
$ echo ready; read -t 1 line < <(sleep 1); echo done
ready
...
```

<!-- runner: once the background has ended -->
```console
$ cp a.txt /srv/kept && ls /srv/kept && echo /srv/kept
a.txt
/srv/kept
$ cat a.txt
in a file
```
<!-- runner: exit 3 -->
```console
$ (echo no; exit 3)
no
```
"""


def page(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text, "utf-8")
    return path


def test_a_page_is_read_as_a_reader_reads_it(tmp_path: Path) -> None:
    """Commands over two lines, variables that last, files, a port, the background, exit codes."""
    path = page(tmp_path, PAGE)

    with reader(tmp_path) as somebody:
        somebody.read(path)

    assert [command.typed for command in console(path)[0]] == [
        "echo one \\\n    two",
        "X=7443",
        "echo $X",
        'orthofed() { echo "$@"; }',
        "orthofed say hello",
    ]
    assert (tmp_path / "a.txt").read_text("utf-8") == "in a file\n"
    assert (tmp_path / "srv" / "kept" / "a.txt").is_file()
    said = {word: values for word, values in declared(path).items() if values}
    assert said == {"port": ["7443"], "root": ["/srv/kept"], "adds": ["say --to all"]}
    assert len(blocks(path)) == 5


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("$ false\n", "exit code 1, not 0"),
        ("$ echo one\ntwo\n", "was printed; the page shows"),
        ("$ echo $HOME\n/root\n", "was printed; the page shows"),
        ("no command\n", "begins with 'no command'"),
    ],
)
def test_a_page_that_is_wrong_is_told(tmp_path: Path, block: str, said: str) -> None:
    """A command that fails, output that nobody gets, a block that begins with output."""
    path = page(tmp_path, f"```console\n{block}```\n")

    with reader(tmp_path) as somebody, pytest.raises((AssertionError, ValueError), match=said):
        somebody.read(path)
