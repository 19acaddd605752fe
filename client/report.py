"""The demo's report: one self-contained HTML page from numbers and pictures.

It states what was measured and shows the pictures beside it, so that the eye can contradict the
number. No script, no request to anywhere: pictures are inlined as data URLs. Everything that has a
name is escaped. What is measured comes from client/demo.py, what is drawn from client/pictures.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from .page import facts_list, page, strip_images


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
        facts_list(facts),
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
    return page(title, body)


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
        f"<div class=strip><span>{escape(label)}</span>{strip_images(label, images)}</div>"
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
        f"<div class=strip>{strip_images(pair.prompt, pair.merged)}</div>"
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
