"""The pages as they lie in the repository: which of them lie beside docs/, and their dialect.

Law: a page is written once, for GitHub's Markdown, and reads the same in the site.
"""

import re

BESIDE = {
    "README.md": "start.md",
    "deploy/README.md": "operate.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "assets/pocket-base/README.md": "pocket-base.md",
}
"""Pages of the repository, and what they are called here."""
_ITEM = re.compile(r"(?:-|[0-9]\.) ")


def indented(markdown: str) -> str:
    r"""Return a page in which what belongs to a list's item stands four spaces in.

    GitHub asks for as many as the item's mark has, Python-Markdown for four.

    >>> indented("1. a\n\n   b\nc")
    '1. a\n\n    b\nc'
    """
    lines: list[str] = []
    mark = 0
    is_loose = False  # the item has a second paragraph, after which Python-Markdown wants a gap
    for line in markdown.split("\n"):
        item = _ITEM.match(line)
        if item is not None:
            lines += [""] if mark and is_loose and lines[-1] else []
            mark, is_loose = len(item[0]), False
        elif mark and line and not line.startswith(" " * mark):
            mark = 0
        is_loose = is_loose or not line
        lines.append(line if item or not mark or not line else " " * (4 - mark) + line)
    return "\n".join(lines)
