"""Documents: every relative link leads somewhere, and every decision is listed."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SKIPPED = {"build", "demo", "node_modules"}


def _pages() -> Iterator[Path]:
    """Walk past what is not ours: an environment holds thousands of folders."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(
            name
            for name in folders
            if name not in SKIPPED and not name.startswith(".") and not name.endswith(".egg-info")
        )
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".md"))


PAGES = list(_pages())
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def _links(page: Path) -> list[str]:
    text = FENCE.sub("", page.read_text("utf-8"))
    return [link for link in LINK.findall(text) if not re.match(r"[a-z]+:", link)]


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_resolves(page: Path) -> None:
    """A link names a file or folder of the tree; after # comes one of its headings."""
    broken: list[str] = []
    for link in _links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        found = target.exists() and target.is_relative_to(ROOT)
        if not found or (anchor and anchor not in _anchors(target)):
            broken.append(link)

    assert not broken


def test_every_decision_is_listed_once_and_numbered_without_gaps() -> None:
    """A decision that the index leaves out is not found again."""
    folder = ROOT / "docs" / "adr"
    files = sorted(page.name for page in folder.glob("[0-9]*.md"))

    assert _links(folder / "README.md")[1:] == files
    assert [name[:4] for name in files] == [f"{n:04}" for n in range(1, len(files) + 1)]


def test_the_licence_is_whole() -> None:
    """The text that pyproject.toml names, from its title to its appendix."""
    text = (ROOT / "LICENSE").read_text("utf-8")

    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "limitations under the License." in text
