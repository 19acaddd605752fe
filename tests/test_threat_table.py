"""Every attack of docs/security.md has tests, and they say which attack they play."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "security.md"
NUMBERS = [f"T{n}" for n in range(1, 30)]
ROW = re.compile(r"^\| (T\d+) \|.*\|([^|]*)\|$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)]+)\)")


def rows() -> dict[str, list[Path]]:
    found = ROW.findall(PAGE.read_text("utf-8"))
    return {number: [PAGE.parent / link for link in LINK.findall(cell)] for number, cell in found}


def test_the_table_has_every_attack_once_and_in_order() -> None:
    """T1 to T28, as they were counted when the coordinator was designed, and T29 of shares."""
    assert list(rows()) == NUMBERS


@pytest.mark.parametrize("number", NUMBERS)
def test_each_attack_is_played_by_a_test_that_names_it(number: str) -> None:
    """At least one of the files that the row links says the attack's number and has tests."""
    texts = [path.read_text("utf-8") for path in rows()[number]]

    assert texts
    assert all("def test_" in text for text in texts)
    assert any(re.search(rf"\b{number}\b", text) for text in texts)
