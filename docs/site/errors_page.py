"""Reference of the errors: every stable code, its exit code, what it says and what to do.

Law: the codes and texts are those that the sources raise (error_sites.py), the statuses those of
the table by which the coordinator answers (proto/failure.py).
"""

import itertools
from collections.abc import Iterator

from commands_page import cell
from error_sites import UNKNOWN, Site, error_sites

from orthofed.core import errors
from orthofed.proto.failure import (
    _TABLE,  # pyright: ignore[reportPrivateUsage]  # the one table there is
    may_retry,
)
from orthofed.proto.methods import CODE_KEY

ADDRESS = "reference/errors.md"
_MOST = 4
_INTRO = (
    "Every error says what was measured and what is allowed, why, and what to do, and has a code"
    " that never changes. With `--json` it is one object on stdout:"
)
_SHAPE = """{
  "schema": "orthofed.error/1",
  "error": {"code": "...", "what": "...", "why": "...", "fix": "..."}
}"""
_WIDE = "---\nhide: [toc]\n---\n"
_WIRE = (
    "What the coordinator answers with, and what the client makes of it; the code travels in the"
    f" trailer `{CODE_KEY}`."
)


def errors_page() -> dict[str, str]:
    """Return the Markdown of the page by its address."""
    return {ADDRESS: "\n".join(_lines(error_sites()))}


def _lines(sites: list[Site]) -> Iterator[str]:
    yield from (_WIDE, "# Errors", "", _INTRO, "", "```json", _SHAPE, "```", "")
    yield from ("An ellipsis stands for a value that is known when it happens.", "", "## By code")
    yield from ("", "| code | exit | what it says, and why | what to do |")
    yield "| --- | --- | --- | --- |"
    for code, group in itertools.groupby(sites, key=lambda site: site.code):
        said = list(group)
        exits = sorted({_exit_code(site.kind) for site in said})
        ways = _some({f"{site.what}: {site.why}" for site in said})
        fixes = _some({site.fix for site in said})
        yield f"| `{code}` | {', '.join(map(str, exits))} | {ways} | {fixes} |"
    yield from ("", "## On the wire", "", _WIRE, "")
    yield from ("| code | gRPC status | exit | sent again by itself |", "| --- | --- | --- | --- |")
    for code, (status, kind) in _TABLE.items():
        again = "yes" if may_retry(status, code) else "no"
        yield f"| `{code}` | {status} | {kind.exit_code} | {again} |"
    yield ""


def _some(texts: set[str]) -> str:
    """Return the cell of some texts, the one with the fewest gaps first; of many the number."""
    distinct = {cell(text.replace(UNKNOWN * 2, UNKNOWN)) for text in texts}
    ordered = sorted(distinct, key=lambda text: (text.count(UNKNOWN), text))
    cells, more = ordered[:_MOST], len(ordered) - _MOST
    return "<br>".join([*cells, f"and {more} more of this kind"] if more > 0 else cells)


def _exit_code(kind: str) -> int:
    found = getattr(errors, kind, errors.OrthoFedError)
    return found.exit_code
