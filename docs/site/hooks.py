"""What mkdocs.yml cannot say: pages that lie beside docs/, generated ones, and links to sources.

Law: every link that resolves in the repository resolves in the site. A page of the repository that
is none of docs/ has an address of its own (pages.py); any other file that a page links to is copied
as plain text below ``source/``, so that the site needs no code host. Used by mkdocs alone.
"""

import os
import re
from pathlib import Path
from typing import cast

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pages import BESIDE, indented
from reference import reference_pages
from study_table import MARK, study_table

ROOT = Path(__file__).parents[2]
SHOWN = {".png", ".svg"}
_LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
_RUNNER = re.compile(r"<!-- runner.*?-->\n*", re.DOTALL)
"""What tests/doc_runner.py is told, and no reader."""
_FENCE = re.compile(r"^ *(```+).*?^ *\1 *$", re.DOTALL | re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give each decision its place in the navigation, below their list."""
    decisions = sorted(path.name for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    config.nav = _with(config.nav, "Decisions", ["adr/README.md", *(f"adr/{d}" for d in decisions)])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages beside docs/, and a copy of each file that a page links to."""
    for address, text in reference_pages().items():
        files.append(File.generated(config, address, content=text))
    for path, address in BESIDE.items():
        if address not in files.src_uris:
            files.append(File.generated(config, address, abs_src_path=str(ROOT / path)))
    wanted = {
        target
        for file in files.documentation_pages()
        for target in _linked(_path(file), file.content_string)
    }
    for target in sorted(wanted):
        if _address(target) not in files.src_uris:
            files.append(_copy(target, config))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead each relative link to its address in the site."""
    del config, files
    here = _path(page.file)

    def led(match: re.Match[str]) -> str:
        opened, link, closed = match.groups()
        address = _address(os.path.normpath(here.parent / link))
        beside = Path(page.file.src_uri).parent
        return f"{opened}{os.path.relpath(address, beside)}{closed}"

    markdown = _RUNNER.sub("", markdown)
    markdown = markdown.replace(MARK, study_table()) if MARK in markdown else markdown
    parts: list[str] = []
    end = 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(led, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return indented("".join([*parts, _LINK.sub(led, markdown[end:])]))


def _with(nav: object, title: str, pages: list[str]) -> list[object]:
    """Return ``nav`` with ``pages`` in the place of what is called ``title``."""

    def walk(entry: object) -> object:
        if isinstance(entry, list):
            return [walk(each) for each in cast("list[object]", entry)]
        if isinstance(entry, dict):
            named = cast("dict[str, object]", entry)
            return {k: pages if k == title else walk(v) for k, v in named.items()}
        return entry

    return cast("list[object]", walk(nav))


def _path(file: File) -> Path:
    """Return where a page lies in the repository; generated ones lie where they would in docs/."""
    found = {address: path for path, address in BESIDE.items()}
    return Path(found.get(file.src_uri, f"docs/{file.src_uri}"))


def _linked(page: Path, text: str) -> set[str]:
    """Return the files of the repository outside of docs/ that ``page`` links to."""
    links = (match[2] for match in _LINK.finditer(_FENCE.sub("", text)))
    paths = {os.path.normpath(page.parent / link) for link in links}
    return {path for path in paths if not _is_here(path) and path not in BESIDE}


def _is_here(path: str) -> bool:
    """Return whether a path of the repository is itself a file of the site; scripts are none."""
    return path.startswith("docs/") and not path.endswith(".py")


def _address(path: str) -> str:
    """Return the address in the site of a path in the repository."""
    if _is_here(path):
        return path.removeprefix("docs/")
    if path in BESIDE:
        return BESIDE[path]
    full = ROOT / path
    if full.is_dir():
        return f"source/{path}.md"
    return f"source/{path}" if full.suffix in SHOWN else f"source/{path}.txt"


def _copy(path: str, config: MkDocsConfig) -> File:
    """Return a file of the repository as a file of the site; a folder is a list of its files."""
    full = ROOT / path
    if not full.is_dir():
        return File.generated(config, _address(path), abs_src_path=str(full))
    names = sorted(each.name for each in full.iterdir() if each.is_file())
    listed = "\n".join(f"- `{name}`" for name in names)
    return File.generated(config, _address(path), content=f"# {path}\n\n{listed}\n")
