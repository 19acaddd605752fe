"""The documentation as a site: it builds without a warning, and asks nobody for anything."""

import doctest
import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import click
import pytest
import typer
from markdown import Markdown
from markdown_it import MarkdownIt

from orthofed.__main__ import app
from orthofed.client.daemon_settings import ConceptSettings, DaemonSettings
from orthofed.client.training_settings import TrainingSettings
from orthofed.coordinator.folder import Settings
from orthofed.coordinator.policy import Policy
from orthofed.proto.failure import (
    _TABLE,  # pyright: ignore[reportPrivateUsage]  # the one table there is
)
from orthofed.simulation.scenario import Scenario

from .test_cli_help import COMMANDS
from .test_contract import FILES, parsed, parts

RECORDS = (Settings, Policy, TrainingSettings, DaemonSettings, ConceptSettings, Scenario)
TABLES = {"admission", "concepts", "windows"}
"""Fields that are no key: tables of their own, and what is read out of `hours`."""
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


def test_the_explanation_has_the_studys_own_figures(site: Path) -> None:
    """The table of docs/method.md is made while the site is built, from the newest result."""
    result = json.loads((ROOT / "benchmarks/results/study-cpu-1.json").read_text("utf-8"))
    page = (site / "method.html").read_text("utf-8")

    for method in (
        *("hadamard_null10_slow", "hadamard_null50_slow", "lora_null10"),
        *("hadamard", "equal"),
    ):
        for cell in ("3@0.6", "12@0.6", "12@1"):
            assert f"<td>{result['methods'][method][cell]['retention']:.2f}</td>" in page


@pytest.mark.docs
def test_the_pictures_of_the_explanation_are_what_the_script_draws_now(tmp_path: Path) -> None:
    """From today's results and today's code; else draw them anew: python docs/method/draw.py."""
    script = ROOT / "docs" / "method" / "draw.py"

    subprocess.run([sys.executable, "-P", script, "--out", tmp_path], check=True)

    drawn = {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert len(drawn) == 5
    assert drawn == {path.name: path.read_bytes() for path in script.parent.glob("*.svg")}


def section(page: str, anchor: str) -> str:
    """Return the part of a built page from one heading to the next of its level."""
    found = re.search(rf'<h([1-6]) id="{re.escape(anchor)}">(.*?)(?=<h\1 id=|\Z)', page, re.DOTALL)
    return found[2] if found else ""


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_is_in_the_reference(site: Path, path: tuple[str, ...]) -> None:
    """Its help, each option by each of its names, how it may end, and the example."""
    command: click.Command = typer.main.get_command(app)
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    page = path[0] if len(path) > 1 else "README"
    file = site / "reference" / "commands" / f"{page.replace('README', 'index')}.html"

    found = section(file.read_text("utf-8"), "-".join(("orthofed", *path)))

    names = [name for each in command.params for name in each.opts if name.startswith("--")]
    assert [
        name for name in names if f"<code>{name}</code>" not in found and name != "--help"
    ] == []
    plain = re.sub(r"<[^>]*>", "", found)
    assert f"orthofed {' '.join(path)}" in plain
    assert "Ends with exit code 0, or with 1, 2, 3 or 4." in plain


def test_every_part_of_the_contract_is_in_the_reference(site: Path) -> None:
    """Each service, call, message, enum, field and value of proto/v1, where it belongs."""
    for path in FILES:
        page = (site / "reference" / "wire" / f"{path.stem}.html").read_text("utf-8")
        for name in parts(parsed(path)).values():
            whole, _, part = name.partition(".")
            if re.fullmatch(r"[A-Z]+(_[A-Z]+)+", name):
                assert f"<code>{name}</code>" in page
            elif not part:
                assert section(page, whole.lower()) or section(page, f"service-{whole.lower()}")
            else:
                inside = section(page, whole.lower())
                assert f"<code>{part}</code>" in inside or section(
                    page, name.lower().replace(".", "")
                )


def test_every_error_code_is_in_the_reference(site: Path) -> None:
    """Each code that a source spells, and each of the wire's table.

    Left out are words of other kinds that the sources call a code: an admission's, a hint's state,
    and the first part of a code.
    """
    others = {"operator", "measured", "not-open", "master-key", "recipient-key"}
    page = (site / "reference" / "errors.html").read_text("utf-8")
    spelt = {
        code
        for folder in ("core", "proto", "coordinator", "client", "admission", "fleet", "simulation")
        for path in (ROOT / folder).rglob("*.py")
        for code in re.findall(r'code="([a-z0-9-]+)"', path.read_text("utf-8"))
    }

    listed = set(re.findall(r"<td><code>([a-z0-9-]+)</code></td>", page))

    assert len(spelt) > 250
    assert spelt - others - listed == set()
    assert set(_TABLE) - listed == set()
    assert {"no-images", "head-failed", "sealed-at-rest"} - listed == {"sealed-at-rest"}


def test_every_setting_and_series_is_in_the_reference(site: Path) -> None:
    """Of the operator's file, the thresholds, training, the daemon, a scenario; of /metrics."""
    settings = (site / "reference" / "settings.html").read_text("utf-8")
    metrics = (site / "reference" / "metrics.html").read_text("utf-8")
    keys = [item.name.rstrip("_") for kind in RECORDS for item in fields(kind)]
    page = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    series = set(re.findall(r"`(orthofed_[a-z_]+)", page))

    rows = set(re.findall(r"<td><code>([a-z_.]+)</code></td>", settings))

    assert {key for key in keys if key not in rows and f"concept.{key}" not in rows} == TABLES
    assert len(series) > 15
    assert {name for name in series if f"<code>{name}</code>" not in metrics} == set()


def repository_pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "site" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_read_the_same_here_and_where_the_code_is() -> None:
    """Two dialects of Markdown: each page has as many items, rows, blocks and titles in both."""
    kinds = ("li", "ul", "ol", "pre", "tr", "h1", "h2", "h3", "strong", "em", "img")
    ours_alone = repository_pages()
    github = MarkdownIt("commonmark").enable("table")
    ours = Markdown(extensions=["attr_list", "md_in_html", "tables", "pymdownx.superfences"])
    wrong: dict[str, dict[str, tuple[int, int]]] = {}
    for path in [*sorted((ROOT / "docs").rglob("*.md")), *map(ROOT.joinpath, ours_alone.BESIDE)]:
        text = path.read_text("utf-8")
        both = github.render(text), ours.reset().convert(ours_alone.indented(text))
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
    assert doctest.testmod(ours_alone).failed == 0


def test_every_picture_is_whole(site: Path) -> None:
    """A vector picture is well formed; a pixel one is larger than an icon."""
    pictures = [path for path in site.rglob("*") if path.suffix in {".svg", ".png"}]

    assert len(pictures) >= 3
    for path in pictures:
        if path.suffix == ".svg":
            ET.parse(path)  # noqa: S314  # our own files
        else:
            assert path.stat().st_size > 500
