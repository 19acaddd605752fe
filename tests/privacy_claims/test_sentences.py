"""security.md 9.1: privacy is spoken of in permitted sentences alone, and each has its test here.

Read are README, every page of docs and deploy, the text of every command, and every string of
client/, coordinator/, core/ and web/ that a person may see, and every template of web/. A sentence
that promises something and is not permitted fails the test: change it, or show in a test that it is
true.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from orthofed.core import promises

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PERMITTED = {
    promises.NEVER_LEAVE: "test_images_never_leave.py",
    promises.MAY_REVEAL: "test_may_reveal.py",
    promises.AFTER_WITHDRAWAL: "test_after_a_withdrawal.py",
    promises.NAMED_READ: "../test_private.py",
    (
        "(epsilon, delta) per image, add or remove one, for what was sent, with this accountant and"
        " this audit."
    ): "test_per_image.py",
}
"""Each sentence that is said, and the test that backs it."""
PROMISE = re.compile(
    r"anonym|untraceable|secure(ly)? aggregat\w* (protect|hide)|differentially private"
    r"|cannot be (recovered|reconstructed|traced|identified|leaked)|impossible to (recover|trace)"
    r"|(coordinator|operator|server|attacker)s? (cannot|can't|never) (see|read|learn)"
    r"|(nobody|no one) (else )?can (see|read|learn|recover|reconstruct|trace|identify)"
    r"|(fully|completely|totally|truly|guaranteed) (private|safe|secure|anonymous)"
    r"|your (privacy|images are|data is|data are) "
    r"|privacy[- ](preserving|friendly|guarantee)|GDPR|stays? private|keeps? you private"
    r"|removed (for good|from|everywhere)|forgets? your",
    re.IGNORECASE,
)
"""What a promise about privacy looks like."""


def pages() -> Iterator[tuple[str, str]]:
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "deploy").rglob("*.md")):
        yield str(path.relative_to(ROOT)), path.read_text("utf-8")
    for path in (ROOT / "docs").rglob("*.md"):
        yield str(path.relative_to(ROOT)), path.read_text("utf-8")


def templates() -> Iterator[tuple[str, str]]:
    """Yield the words of every template, without its marks."""
    for path in sorted((ROOT / "web" / "templates").glob("*.html")):
        yield path.name, re.sub(r"<[^>]*>|\{[{%][^}]*[%}]\}", ". ", path.read_text("utf-8"))


def strings() -> Iterator[tuple[str, str]]:
    """Yield every string that a person may see: those of commands' help too, no other docstring."""
    for package in ("client", "coordinator", "core", "web"):
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text("utf-8"))
            helps = "cli.py" in path.name or path.stem.endswith("_command")
            told = {
                id(node.value)
                for node in ast.walk(tree)
                if isinstance(node, ast.Expr) and not helps
            }
            for node in ast.walk(tree):
                if id(node) in told:
                    continue
                if isinstance(node, ast.JoinedStr):
                    parts = [v.value for v in node.values if isinstance(v, ast.Constant)]
                    yield str(path.relative_to(ROOT)), " ".join(str(part) for part in parts)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield str(path.relative_to(ROOT)), node.value


def sentences(text: str) -> Iterator[str]:
    flat = re.sub(r"\s+", " ", text)
    yield from (part.strip(" -|*`") for part in re.split(r"(?<=[.!?:]) |\|", flat))


def promised(texts: Iterator[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the sentences that promise something and are not permitted."""
    allowed = {part for text in PERMITTED for part in sentences(text)}
    return [
        (where, said)
        for where, text in texts
        for said in sentences(text)
        if PROMISE.search(said) and said not in allowed
    ]


def test_no_page_and_no_command_promises_more_than_is_permitted() -> None:
    """README, docs, deploy, changelog; help, errors, reports and cards."""
    assert promised(pages()) == []
    assert promised(strings()) == []
    assert promised(templates()) == []


@pytest.mark.parametrize(
    "said",
    [
        "Training data cannot be recovered from your contribution.",
        "Secure aggregation protects you.",
        "The coordinator cannot see your A.",
        "Your contribution is differentially private.",
        "You stay anonymous.",
        "Your images were removed from the model.",
    ],
)
def test_what_must_not_be_said_is_recognised(said: str) -> None:
    """The guard itself, on the forbidden column of 9.1."""
    assert promised(iter([("somewhere", said)])) == [("somewhere", said)]


def test_every_permitted_sentence_is_said_and_has_its_test() -> None:
    """README says the first two word for word; each test file is there and quotes its sentence."""
    readme = re.sub(r"\s+", " ", (ROOT / "README.md").read_text("utf-8"))

    assert promises.NEVER_LEAVE in readme
    assert promises.MAY_REVEAL in readme
    for sentence, name in PERMITTED.items():
        text = re.sub(r"\s+", " ", (HERE / name).read_text("utf-8"))
        assert sentence in text, name


def test_a_withdrawal_is_never_told_without_what_it_cannot_undo() -> None:
    """Wherever the sentence stands, "Copies already downloaded remain." stands beside it."""
    for where, text in pages():
        flat = re.sub(r"\s+", " ", text)
        told = flat.count(promises.AFTER_WITHDRAWAL)
        assert flat.count(f"{promises.AFTER_WITHDRAWAL} {promises.COPIES_REMAIN}") == told, where
    for name in ("client/withdraw_command.py", "core/card.py"):
        assert "{AFTER_WITHDRAWAL} {COPIES_REMAIN}" in (ROOT / name).read_text("utf-8")
