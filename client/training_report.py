"""The report of one training: a page for its owner, made from the log and kept beside it.

Loss by step, the samples, the scores, what leaves, every setting. It is made anew whenever there
is more to say, from what lies on the disk, so a resumed run has one report and not two. It shows
pictures of the concept: it is for the owner's eyes and is never sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from .egress import EgressList
from .page import facts_list, page, strip_images
from .training_log import Logged, LoggedStep
from .training_settings import TrainingSettings
from .wandb_run import SENT

_WIDTH: Final = 720
_HEIGHT: Final = 240
_LEFT: Final = 56  # room for the loss axis
_BOTTOM: Final = 24  # room for the step axis
_POINTS: Final = 480
"""The most points of a line: more than the screen has columns for are averaged."""
_SMOOTHING: Final = 0.9
_BLUE: Final = "#3b7bdc"
_ORANGE: Final = "#d9822b"


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What is known of one training; the parts that come later are empty at first."""

    concept: str
    logged: Logged
    samples: Mapping[int, Mapping[str, bytes]]  # step -> name -> PNG
    scores: Mapping[str, float]
    listing: EgressList | None
    state: str  # how far it has come, in words

    @staticmethod
    def of(
        folder: Path,
        concept: str,
        *,
        scores: Mapping[str, float],
        listing: EgressList | None,
        state: str,
    ) -> "TrainingReport | None":
        """Return the report of the log in ``folder``, or None where there is no log."""
        logged = Logged.read(folder)
        if logged is None:
            return None
        samples: dict[int, dict[str, bytes]] = {}
        for path in sorted((folder / "samples").glob("*.png")):
            step, _, name = path.stem.partition("-")
            samples.setdefault(int(step), {})[name] = path.read_bytes()
        return TrainingReport(concept, logged, samples, scores, listing, state)

    def html(self) -> str:
        """Return the page; any text in it is escaped."""
        steps = self.logged.steps
        settings = self.logged.header["settings"]
        facts = [
            *self.logged.header["facts"].items(),
            ("state", self.state),
            ("steps", f"{steps[-1].step if steps else 0} of {settings['steps']}"),
            *([("steps skipped", _skipped(steps))] if settings["precision"] == "fp16" else []),
            *([("shared", SENT)] if settings["wandb"] else []),
            ("time in steps", f"{sum(step.seconds for step in steps):.0f} s"),
        ]
        return page(
            f"Training of {self.concept}",
            [
                f"<h1>Training of {escape(self.concept)}</h1>",
                _LEAD,
                facts_list(facts),
                "<h2>Loss</h2>",
                _curve(steps),
                "<h2>Samples</h2>",
                _samples(self.samples, settings["sample_prompts"]),
                "<h2>Scores</h2>",
                _scores(self.scores),
                "<h2>What leaves this machine</h2>",
                _leaving(self.listing),
                "<h2>Settings</h2>",
                _settings(settings),
            ],
        )


def _skipped(steps: Sequence[LoggedStep]) -> str:
    return f"{sum(step.skipped for step in steps)}: a gradient was beyond float16"


def _curve(steps: Sequence[LoggedStep]) -> str:
    """Return the lines as SVG: each step's loss, its moving average, the held-out loss."""
    if len(steps) < 2:  # noqa: PLR2004  # a line has two ends
        return "<p class=note>No two steps yet.</p>"
    points = [(step.step, step.loss) for step in _thinned(steps)]
    mean, line = points[0][1], []
    for step, loss in points:
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        line.append((step, mean))
    held_out = [(s.step, s.held_out_loss) for s in steps if s.held_out_loss is not None]
    losses = [loss for _, loss in (*points, *held_out)]
    low, high = min(losses), max(losses)
    first, last = points[0][0], points[-1][0]

    def x(step: float) -> float:
        return _LEFT + (step - first) / max(1, last - first) * (_WIDTH - _LEFT)

    def y(loss: float) -> float:
        return 4 + (high - loss) / ((high - low) or 1) * (_HEIGHT - _BOTTOM - 8)

    def path(places: Sequence[tuple[int, float]]) -> str:
        return " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in places)

    marks = "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y(loss):.1f}" y2="{y(loss):.1f}" '
        'stroke="currentColor" stroke-opacity=".15" />'
        f'<text x="{_LEFT - 6}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss:.4f}</text>'
        for loss in (low + (high - low) * part / 4 for part in range(5))
    )
    ends = "".join(
        f'<text x="{x(step):.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{label}</text>'
        for step, anchor, label in (
            (first, "start", f"step {first}"),
            (last, "end", f"step {last}"),
        )
    )
    # Colours stand on the shapes themselves: not every viewer applies a page's style to drawings.
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Loss by step" '
        f'font-size="11" fill="currentColor">{marks}'
        f'<polyline fill="none" stroke="{_BLUE}" stroke-opacity=".35" points="{path(points)}" />'
        f'<polyline fill="none" stroke="{_BLUE}" stroke-width="2" points="{path(line)}" />'
        f'<polyline fill="none" stroke="{_ORANGE}" stroke-width="2" points="{path(held_out)}" />'
        f"{ends}</svg>{_CURVE_NOTE}"
    )


def _thinned(steps: Sequence[LoggedStep]) -> list[LoggedStep]:
    """Return at most `_POINTS` steps; each stands for its group's mean loss."""
    size = -(-len(steps) // _POINTS)
    groups = [steps[at : at + size] for at in range(0, len(steps), size)]
    return [
        LoggedStep(
            group[-1].step,
            sum(step.loss for step in group) / len(group),
            group[-1].null_loss,
            group[-1].prior_loss,
            group[-1].rate,
            group[-1].at,
            group[-1].seconds,
        )
        for group in groups
    ]


def _samples(samples: Mapping[int, Mapping[str, bytes]], prompts: Sequence[str]) -> str:
    if not samples:
        return "<p class=note>None: <code>sample_every</code> says after how many steps.</p>"
    parts = []
    for number, prompt in enumerate(prompts, start=1):
        parts.append(f"<h3><q>{escape(prompt)}</q></h3>")
        for step, by_name in samples.items():
            images = [png for name, png in by_name.items() if name.startswith(f"{number}-")]
            row = strip_images(f"{prompt}, step {step}", images)
            parts.append(f"<div class=strip><span>step {step}</span>{row}</div>")
    return "".join(parts) + _SAMPLES_NOTE


def _scores(scores: Mapping[str, float]) -> str:
    if not scores:
        return "<p class=note>Not scored yet.</p>"
    rows = "".join(
        f"<tr><th scope=row>{says}<td>{scores[key]:.4f}</tr>"
        for key, says in _SCORES
        if key in scores
    )
    return f"<table>{rows}</table>{_SCORES_NOTE}"


def _leaving(listing: EgressList | None) -> str:
    if listing is None:
        return "<p class=note>Nothing so far, except what the lease names: concept, triggers.</p>"
    files = "".join(
        f"<tr><th scope=row>{escape(file.name)}<td>{file.num_bytes:,}"
        f"<td><code>{file.sha256}</code></tr>"
        for file in listing.files
    )
    tensors = "".join(
        f"<tr><th scope=row>{escape(tensor.name)}<td>{' x '.join(map(str, tensor.shape))}"
        f"<td>{tensor.num_bytes:,}<td>{tensor.norm:.4g}</tr>"
        for tensor in listing.tensors
    )
    return (
        f"<p>{listing.num_bytes:,} bytes in all; triggers: "
        f"{escape(', '.join(listing.triggers))}.</p>{_readers(listing)}"
        f"<div class=scroll><table><tr><th>file<th>bytes<th>SHA-256</tr>{files}</table></div>"
        f"<details><summary>{len(listing.tensors)} tensors</summary><div class=scroll><table>"
        f"<tr><th>tensor<th>shape<th>bytes<th>norm</tr>{tensors}</table></div></details>"
        f"<p class=note>{escape(listing.wording)}</p>"
    )


def _readers(listing: EgressList) -> str:
    named = "".join(f"<br><code>{escape(each)}</code>" for each in listing.recipients)
    return f"<p>Sealed for {len(listing.recipients)}:{named}</p>" if named else ""


def _settings(settings: Mapping[str, object]) -> str:
    rows = "".join(
        f"<tr><th scope=row>{escape(key)}<td>{_value(settings[key], default)}"
        f"<td style='text-align:left'>{escape(says)}</tr>"
        for key, default, _, says in TrainingSettings.described()
        if key in settings
    )
    return f"<div class=scroll><table>{rows}</table></div>{_SETTINGS_NOTE}"


def _value(value: object, default: object) -> str:
    """Return a setting's value, bold where it is not the default."""
    values = tuple(value) if isinstance(value, list) else value  # JSON has no tuples
    text = escape(", ".join(values) if isinstance(values, tuple) else str(values))
    return text if values == default else f"<b>{text}</b>"


_LEAD: Final = (
    "<p class=lead>Made and kept on this machine, for its owner: it shows what was learnt from the "
    "images. No message carries it.</p>"
)
_CURVE_NOTE: Final = (
    "<p class=note>Noise-prediction loss on the concept's images: faint, each step; bold, its "
    "moving average. It jumps with the noise that was drawn, and falls by little even where much "
    "was learnt. Orange, where <code>validate_every</code> asks for it: the loss on held-out "
    "images, always with the same noise; where it stops falling, more steps learn the images and "
    "not the concept.</p>"
)
_SAMPLES_NOTE: Final = (
    "<p class=note>From the model as it was at that step, before quantising; {} stands for the "
    "concept. In each column the noise is the same at every step.</p>"
)
_SCORES: Final = (
    ("loss_base", "loss of the base"),
    ("loss_single", "loss with this concept"),
    ("loss_merged", "loss with the newest release"),
    ("retention", "retention"),
    ("memorisation", "memorisation: gain on trained images less that on held-out ones"),
)
_SCORES_NOTE: Final = (
    "<p class=note>On held-out images, with the quantised bytes that leave. These figures stay at "
    "home.</p>"
)
_SETTINGS_NOTE: Final = "<p class=note>Bold: not the default.</p>"
