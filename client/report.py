"""The demo's report: one self-contained HTML page from numbers and pictures.

It states what was measured and shows the pictures beside it, so that the eye can contradict the
number. No script, no request to anywhere: pictures are inlined as data URLs. Everything that has a
name is escaped. What is measured comes from client/demo.py, what is drawn from client/pictures.py.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class ConceptPictures:
    """PNG bytes for one concept; the three rows of samples start from the same noise."""

    training: Sequence[bytes]
    base: Sequence[bytes]
    single: Sequence[bytes]
    merged: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class PairPictures:
    """PNG bytes of samples of one prompt that names two concepts."""

    prompt: str
    merged: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class ReportPictures:
    """All pictures of the report and the crosstalk in function space.

    ``crosstalk[i][j]``: how far concept j's residual moves the answer on concept i's prompts, as a
    share of how far concept i's own residual and tokens move it (client/pictures.py).
    """

    prompt: str
    concepts: Mapping[str, ConceptPictures]
    pair: PairPictures | None
    crosstalk: Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class ReportRow:
    """The numbers of one concept."""

    name: str
    slot: int
    retention: float
    retention_06: float
    loss_base: float
    loss_single: float
    loss_merged: float
    train_s: float
    upload_bytes: int
    lora_bytes: int


def render_report(
    rows: Sequence[ReportRow],
    pictures: ReportPictures,
    *,
    title: str,
    facts: Sequence[tuple[str, str]],
) -> str:
    """Return the page as HTML text.

    ``facts`` are label and value pairs for the top of the page. Raises nothing: any text is
    escaped.
    """
    body = [
        f"<h1>{escape(title)}</h1>",
        _LEAD,
        _facts(facts),
        "<h2>Numbers</h2>",
        _table(rows),
        _RETENTION_NOTE,
        "<h2>Pictures</h2>",
        f"<p class=note>Prompt: <q>{escape(pictures.prompt)}</q>. {_SAME_NOISE}</p>",
        *(_concept(row, pictures.concepts[row.name]) for row in rows),
        _pair(pictures.pair),
        "<h2>Crosstalk</h2>",
        _matrix([row.name for row in rows], pictures.crosstalk),
        _CROSSTALK_NOTE,
    ]
    return _PAGE.format(title=escape(title), style=_STYLE, body="\n".join(body))


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts)
    return f"<dl>{items}</dl>"


def _table(rows: Sequence[ReportRow]) -> str:
    head = (
        "<tr><th>concept<th>slot<th>retention<th>at &lambda; 0.6<th>L base<th>L single"
        "<th>L merged<th>training<th>sent<th>of a LoRA</tr>"
    )
    lines = [
        f"<tr><th scope=row>{escape(row.name)}<td>{row.slot}<td><b>{row.retention:.3f}</b>"
        f"<td>{row.retention_06:.3f}<td>{row.loss_base:.4f}<td>{row.loss_single:.4f}"
        f"<td>{row.loss_merged:.4f}<td>{row.train_s:.0f} s<td>{row.upload_bytes:,} B"
        f"<td>{row.upload_bytes / row.lora_bytes:.0%}</tr>"
        for row in rows
    ]
    return f"<div class=scroll><table>{head}{''.join(lines)}</table></div>"


def _concept(row: ReportRow, pictures: ConceptPictures) -> str:
    strips = (
        ("its images (they stayed at home)", pictures.training),
        ("base, asked for a person", pictures.base),
        ("single: only this concept", pictures.single),
        ("merged: all concepts", pictures.merged),
    )
    shown = "".join(
        f"<div class=strip><span>{escape(label)}</span>{_images(label, images)}</div>"
        for label, images in strips
    )
    return f"<section><h3>{escape(row.name)}</h3>{shown}</section>"


def _pair(pair: PairPictures | None) -> str:
    if pair is None:
        return ""
    return (
        "<h2>Two concepts in one prompt</h2>"
        f"<p class=note>Prompt: <q>{escape(pair.prompt)}</q>. One plain prompt tests composition, "
        "not the merge: concepts named together blend or vanish, as in any such model.</p>"
        f"<div class=strip>{_images(pair.prompt, pair.merged)}</div>"
    )


def _images(label: str, images: Sequence[bytes]) -> str:
    return "".join(
        f'<img alt="{escape(label)}, {number}" width=96 height=96 '
        f'src="data:image/png;base64,{base64.b64encode(image).decode()}">'
        for number, image in enumerate(images, start=1)
    )


def _matrix(names: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    head = "".join(f"<th>{escape(name)}" for name in names)
    lines = "".join(
        f"<tr><th scope=row>{escape(name)}"
        + "".join(
            f'<td style="--heat:{min(value, 1.0):.3f}" class=heat>{value:.2f}' for value in row
        )
        + "</tr>"
        for name, row in zip(names, values, strict=True)
    )
    return f"<div class=scroll><table><tr><th>{head}</tr>{lines}</table></div>"


_LEAD = (
    "<p class=lead>Every data owner trained one concept on its own images and sent only A. "
    "The coordinator added the residuals into one model.</p>"
)
_RETENTION_NOTE = (
    "<p class=note>Retention = (L<sub>base</sub> &minus; L<sub>merged</sub>) / "
    "(L<sub>base</sub> &minus; L<sub>single</sub>): 1 means that merging cost the concept "
    "nothing, 0 that the merged model knows it no better than the base. L is the mean "
    "noise-prediction loss on the concept's held-out images, with the same noise and time "
    "steps for all three.</p>"
)
_SAME_NOISE = "In each column the three samples start from the same noise."
_CROSSTALK_NOTE = (
    "<p class=note>Row i, column j: how far concept j's residual alone moves the model's "
    "answer on concept i's prompt, as a share of how far concept i moves it. Between the "
    "weights themselves crosstalk is exactly 0: the slots are disjoint.</p>"
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
.heat { background: rgb(var(--hot) / calc(var(--heat) * .55)); }
"""

_PAGE = """<!doctype html>
<html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>{title}</title><style>{style}</style>
<body>
{body}
</body></html>
"""
