"""One look for every report: a self-contained HTML page, light or dark as the reader likes it.

No script, no request to anywhere: pictures are inlined as data URLs, so the file can be mailed.
Everything that has a name is escaped by whoever puts it into a body.
"""

import base64
from collections.abc import Sequence
from html import escape


def page(title: str, body: Sequence[str]) -> str:
    """Return the page; ``body`` is HTML already, ``title`` is text."""
    return _PAGE.format(title=escape(title), style=_STYLE, body="\n".join(body))


def facts_list(facts: Sequence[tuple[str, str]]) -> str:
    """Return label and value pairs as a list; both are text."""
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts)
    return f"<dl>{items}</dl>"


def strip_images(label: str, images: Sequence[bytes]) -> str:
    """Return PNG ``images`` side by side, each described as ``label``, n."""
    return "".join(
        f'<img alt="{escape(label)}, {number}" width=96 height=96 '
        f'src="data:image/png;base64,{base64.b64encode(image).decode()}">'
        for number, image in enumerate(images, start=1)
    )


_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6577; --line: #d9dee7;
  --hot: 24 90 200; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf3; --soft: #9aa5b8; --line: #333c4c; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 68rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.8rem; margin-bottom: .2rem; } h2 { margin-top: 2.4rem; }
h3 { margin: 1.6rem 0 .4rem; }
.lead { color: var(--soft); } .note { color: var(--soft); font-size: .9rem; max-width: 48rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th { font-weight: 600; } th[scope=row], tr:first-child th:first-child { text-align: left; }
.scroll { overflow-x: auto; }
.strip { display: flex; flex-wrap: wrap; gap: 4px; align-items: center; margin: 4px 0; }
.strip span { flex: 0 0 9.5rem; color: var(--soft); font-size: .85rem; }
img { border-radius: 6px; background: #fff; }
svg { width: 100%; max-width: 48rem; height: auto; }
.heat { background: rgb(var(--hot) / calc(var(--heat) * .55)); }
"""

_PAGE = """<!doctype html>
<html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>{title}</title><style>{style}</style>
<body>
{body}
</body></html>
"""
