"""The documentation as a site: it builds without a warning, and asks nobody for anything."""

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest
from markdown import Markdown
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
LOADS = {
    ("a", "ping"),
    ("audio", "src"),
    ("embed", "src"),
    ("form", "action"),
    ("iframe", "src"),
    ("img", "src"),
    ("img", "srcset"),
    ("input", "src"),
    ("link", "href"),
    ("object", "data"),
    ("script", "src"),
    ("source", "src"),
    ("source", "srcset"),
    ("track", "src"),
    ("use", "href"),
    ("video", "poster"),
    ("video", "src"),
}
"""What a browser fetches without a click."""


class Page(HTMLParser):
    """One built page: what it loads, the styles in it, its content policy, its diagrams."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.policy = ""
        self.classes: set[str] = set()
        text = path.read_text("utf-8")
        self.styles = re.findall(r"<style[^>]*>(.*?)</style>", text, re.DOTALL)
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.loads += [values[name] for name in values if (tag, name) in LOADS]
        self.styles.append(values.get("style", ""))
        self.classes |= set(values.get("class", "").split())
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the site, built as `make docs` does."""
    built = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [Path(sys.executable).parent / "mkdocs", "build", "--strict", "--site-dir", built],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return built


def pages(site: Path) -> dict[str, Page]:
    return {str(path.relative_to(site)): Page(path) for path in sorted(site.rglob("*.html"))}


def is_foreign(address: str) -> bool:
    return re.match(r"(?:[a-z][a-z0-9+.-]*:)?//", address.strip()) is not None


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    """No font, script, picture or style of another host; a link is followed by a person alone.

    The theme's script could fetch a diagram library, a polyfill and a code host's counters; no page
    gives it cause, and each page's own policy makes browsers refuse.
    """
    styles = {str(path): path.read_text("utf-8") for path in site.rglob("*.css")}

    found = pages(site)

    assert len(found) > 50
    for name, page in found.items():
        assert [load for load in page.loads if is_foreign(load)] == [], name
        styles[name] = "\n".join(page.styles)
        assert page.policy.startswith("default-src 'self'; "), name
        assert "//" not in page.policy
        assert "mermaid" not in page.classes, name
    for name, style in styles.items():
        asked = re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")]+)", style)
        assert [each for each in asked if is_foreign(each)] == [], name


def test_a_foreign_load_is_found(tmp_path: Path) -> None:
    """The guard itself, on a page that has one of each kind."""
    path = tmp_path / "bad.html"
    path.write_text(
        '<link rel="stylesheet" href="https://fonts.example/a.css">'
        '<script src="//cdn.example/a.js"></script>'
        '<img src="a.png"><a href="https://example.org">a link</a>'
    )

    assert [load for load in Page(path).loads if is_foreign(load)] == [
        "https://fonts.example/a.css",
        "//cdn.example/a.js",
    ]


def test_every_link_of_a_built_page_leads_somewhere(site: Path) -> None:
    """Pages beside docs/ and copies of sources too, whose links are led anew."""
    broken: list[tuple[str, str]] = []
    for path in sorted(site.rglob("*.html")):
        for link in re.findall(r'<a [^>]*?href="([^"#]+)[^"]*"', path.read_text("utf-8")):
            if not re.match(r"[a-z]+:", link) and path.name != "404.html":
                target = path.parent / link
                if not (target.is_file() or (target / "index.html").is_file()):
                    broken.append((path.name, link))

    assert broken == []


def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "site" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_read_the_same_here_and_where_the_code_is(site: Path) -> None:
    """Two dialects of Markdown: each page has as many items, rows, blocks and titles in both."""
    del site
    kinds = ("li", "ul", "ol", "pre", "tr", "h1", "h2", "h3", "strong", "em", "img")
    indented = hooks().indented
    github = MarkdownIt("commonmark").enable("table")
    ours = Markdown(extensions=["attr_list", "md_in_html", "tables", "pymdownx.superfences"])
    wrong: dict[str, dict[str, tuple[int, int]]] = {}
    for path in [*sorted((ROOT / "docs").rglob("*.md")), *map(ROOT.joinpath, hooks().BESIDE)]:
        text = path.read_text("utf-8")
        both = github.render(text), ours.reset().convert(indented(text))
        counts = {
            kind: (
                len(re.findall(f"<{kind}[ >]", both[0])),
                len(re.findall(f"<{kind}[ >]", both[1])),
            )
            for kind in kinds
        }
        odd = {kind: count for kind, count in counts.items() if count[0] != count[1]}
        if odd:
            wrong[str(path.relative_to(ROOT))] = odd

    assert wrong == {}


def test_every_picture_is_whole(site: Path) -> None:
    """A vector picture is well formed; a pixel one is larger than an icon."""
    pictures = [path for path in site.rglob("*") if path.suffix in {".svg", ".png"}]

    assert len(pictures) >= 3
    for path in pictures:
        if path.suffix == ".svg":
            ET.parse(path)  # noqa: S314  # our own files
        else:
            assert path.stat().st_size > 500
