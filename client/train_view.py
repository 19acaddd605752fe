"""What a person sees while `orthofed client train` runs, and the question at the egress gate.

On a terminal one bar for the training and one for the upload; elsewhere a line for each change of
phase and one every ten seconds, so that a log stays readable (product.md 5). Everything goes to
stderr. It draws and decides nothing; what people named is printed without markup.
"""

import time
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, Self, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from ..core.memorisation import BY_HEART, Memorisation
from .asking import says_yes
from .dp_plan import ADVISED_RATIO
from .egress import EgressList
from .happened import Happened
from .train_options import LICENCE
from .wandb_run import SENT

_LINE_EVERY_S: Final = 10.0


@dataclass(slots=True)
class TrainView:
    """A live view of one training; use it as a context manager."""

    console: Console = field(default_factory=lambda: Console(stderr=True, markup=False))
    _bars: Progress | None = None
    _rows: dict[str, TaskID] = field(default_factory=dict)
    _printed_s: float = -_LINE_EVERY_S

    def __enter__(self) -> Self:
        """Start drawing, if there is a terminal to draw on."""
        if self.console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description:<10}", markup=False),
                BarColumn(bar_width=32),
                TextColumn("{task.fields[says]}", markup=False),
                console=self.console,
            )
            self._bars.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Leave the last state on the screen."""
        if self._bars is not None:
            self._bars.stop()

    def show(self, happened: Happened) -> None:
        """Draw one thing that happened."""
        values = happened.values
        match happened.name:
            case "step":
                done, total = int(str(values["step"])), int(str(values["steps"]))
                loss, left_s = float(str(values["loss"])), float(str(values["eta_s"]))
                says = f"step {done}/{total}  loss {loss:.4f}  rate {values['rate']:.2g}"
                says += f"  {_duration(left_s)} left"
                self._bar("training", says, done, total)
            case "uploading":
                done, total = int(str(values["sent"])), int(str(values["total"]))
                self._bar("uploading", f"{done:,} of {total:,} bytes", done, total)
            case name:
                if text := _sentence(name, happened):
                    self.console.print(text)

    def accept(self, listing: EgressList) -> bool:
        """Show every byte that is about to leave; the owner agreed with --yes."""
        _show_egress(self.console, listing)
        return True

    def ask(self, listing: EgressList) -> bool:
        """Show every byte that is about to leave, and return whether the owner agrees."""
        if self._bars is not None:
            self._bars.stop()  # a bar that redraws itself would overwrite the question
        _show_egress(self.console, listing)
        return says_yes("Send these bytes, and nothing else?")

    def _bar(self, name: str, says: str, done: int, total: int) -> None:
        if self._bars is not None:
            if name not in self._rows:
                self._rows[name] = self._bars.add_task(name, total=total, says=says)
            self._bars.update(self._rows[name], completed=done, total=total, says=says)
            return
        now_s = time.monotonic()
        if done == total or now_s - self._printed_s >= _LINE_EVERY_S:
            self._printed_s = now_s
            self.console.print(f"{name}  {says}")


def _show_egress(console: Console, listing: EgressList) -> None:
    """Print the egress list: files, then tensors by kind, then what others can make of it."""
    console.print(f"About to leave this machine: {listing.num_bytes:,} bytes in all")
    _show_files(console, listing)
    tensors = Table("tensors", "count", "bytes", "largest norm", box=None, pad_edge=False)
    by_kind = sorted(listing.tensors, key=lambda tensor: tensor.name.partition(".")[0])
    for kind, group in groupby(by_kind, key=lambda tensor: tensor.name.partition(".")[0]):
        some = list(group)
        num_bytes = sum(tensor.num_bytes for tensor in some)
        norm = max(tensor.norm for tensor in some)
        tensors.add_row(_KINDS.get(kind, kind), str(len(some)), f"{num_bytes:,}", f"{norm:.4g}")
    console.print(tensors)
    console.print(f"triggers: {', '.join(listing.triggers)}")
    if listing.licence:
        console.print(_published(listing), soft_wrap=True)
    if listing.dp is not None:
        console.print(f"You claim and sign: {listing.dp.said}")
    if listing.images:
        console.print(
            f"You sign, for everybody to read, that it counts as {listing.images} images:"
            " what each owner's part weighs follows from that number"
        )
    for warning in listing.warnings:
        console.print(f"warning, sending this may end in {warning}")
    if listing.recipients:
        console.print(f"sealed for {len(listing.recipients)}:")
        for recipient in listing.recipients:
            console.print(f"  {recipient}")
    if listing.memorisation is not None:
        console.print(_memorised(listing.memorisation))
    console.print(listing.wording)


def _show_files(console: Console, listing: EgressList) -> None:
    """Print each file with its whole hash, and where it lies."""
    rows = [("file", "bytes", "SHA-256")]
    rows += [(file.name, f"{file.num_bytes:,}", file.sha256) for file in listing.files]
    widths = [max(len(row[k]) for row in rows) for k in range(2)]
    for name, size, digest in rows:  # no table: one would cut the hashes on a narrow terminal
        console.print(f"{name:<{widths[0]}}  {size:<{widths[1]}}  {digest}", soft_wrap=True)
    if listing.folder:
        console.print(f"these files lie in {listing.folder}", soft_wrap=True)


def _published(listing: EgressList) -> str:
    """Return what others may do with it, and see of it."""
    free = " (anyone may do anything with it)" if listing.licence == LICENCE else ""
    pictures = "yes" if listing.pictures else "no"
    title = listing.title or "none"
    return f"licence: {listing.licence}{free}; title: {title}; pictures: {pictures}"


def _memorised(found: Memorisation) -> str:
    """Return what the score says, and where it is high what to do."""
    says = (
        f"memorisation {found.score:.3f}: {found.gain_trained:.1%} better than the base on images"
    )
    says += f" it was trained on, {found.gain_held_out:.1%} on images held out"
    if not found.by_heart:
        return f"{says} (a warning comes above {BY_HEART:g})"
    return (
        f"WARNING, {says}. Above {BY_HEART:g} it has learnt some of them by heart, and whoever gets"
        " it may draw them again. Say no and train with more images, fewer --steps, or --dp where"
        " you have hundreds; or seal it for named readers with --private-to"
    )


_KINDS: Final = {
    "a": "A of each layer",
    "embed": "token vectors",
    "probe": "probes of the triggers",
}


_PLAIN: Final = {
    "interrupted": "finishing this step, then saving; press Ctrl-C again to stop at once",
    "sharing": SENT,
    "scoring": "scoring on the held-out images",
}


def _duration(seconds: float) -> str:
    """Return a time as a person says it: 42 s, 5 min 10 s, 3 h 20 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _sentence(name: str, happened: Happened) -> str:  # noqa: C901, PLR0912, PLR0915  # one case an event
    values = happened.values
    match name:
        case "checking":
            text = f"checking {values['what']}"
        case "probed":
            step_s, total_s = float(str(values["seconds_per_step"])), float(str(values["total_s"]))
            peak, free = int(str(values["peak_bytes"])), int(str(values["free_bytes"]))
            text = f"fits: {peak / 1e9:.2f} GB more of {free / 1e9:.2f} GB free, {step_s:.3g} s a "
            text += f"step, about {_duration(total_s)} in all; "
            text += f"a slot may be held for {_duration(int(str(values['hold_s'])))}"
        case "dp":
            sigma = int(str(values["sigma_milli"])) / 1e3
            text = f"noise/signal {values['noise_to_signal']} in the best case, {ADVISED_RATIO:g} "
            text += f"or less is advised; sigma {sigma:g} over {values['steps']} steps"
        case "duplicates":
            pairs = cast("list[list[str]]", values["pairs"])
            near = "; ".join(f"{a} and {b}" for a, b in pairs)
            text = f"nearly the same image, counted twice: {near}; remove one of each"
        case "dropped":
            share = float(str(values["energy_share"]))
            text = f"{values['layers']} layers are not adapted here: {share:.1%} of the LoRA's "
            text += "energy is dropped"
        case "kept":
            layers = cast("dict[str, float]", values["layers"])
            lines = [f"  {kept:7.1%}  {path}" for path, kept in layers.items()]
            text = "\n".join([*lines, f"kept {values['kept']:.1%} of what the LoRA answers"])
        case "fidelity":
            text = f"kept {values['kept']:.1%} in this slot; error beside the LoRA "
            text += f"{values['error_closed_form']:.2%} at first, {values['error']:.2%} after "
            text += f"{values['distilled_steps']} steps, of what the LoRA changes"
        case "before":
            kept = values["retention"]
            says = f"{float(str(kept)):.3f}" if kept is not None else "nothing to speak of"
            text = f"release {values['release']} keeps {says} of what this concept learnt"
        case "leased":
            text = f"leased slot {values['slot']} at fence {values['fence']}"
        case "overlap":
            text = f"slots overlap in {values['layers']} of {values['all']} layers: there up to "
            text += f"{float(str(values['share'])):.1%} of a concept of another basis is heard"
        case "validated":
            text = f"step {values['step']}: {float(str(values['loss'])):.4f} on held-out images"
        case "again":
            text = f"{'training' if values['trains'] else 'packing'} again: {values['what']}"
        case "trained":
            text = f"trained in {values['seconds']} s"
        case "weighed":
            text = f"heaviest layer {values['norm_percent']} % of the base's weight "
            text += f"({values['norm_allowed_percent']} allowed), longest vector "
            text += f"{values['embedding_percent']} % of the longest word "
            text += f"({values['embedding_allowed_percent']} allowed)"
            text += "" if values["told"] else "; these are orthofed's defaults, no others are told"
        case "scored":
            text = f"loss {float(str(values['loss_base'])):.4f} for the base, "
            text += f"{float(str(values['loss_single'])):.4f} with this concept"
            if "loss_merged" in values:
                text += f", {float(str(values['loss_merged'])):.4f} with the newest release"
                text += f": it keeps {float(str(values['retention'])):.3f}"
        case "trouble":
            text = f"going on: {values['what']}"
        case "lost":
            text = f"the lease is lost: {values['what']}"
        case "receipt":
            text = f"receipt kept: leaf {values['leaf']}, {values['file']}"
        case _:
            text = _PLAIN.get(name, "")
    return text
