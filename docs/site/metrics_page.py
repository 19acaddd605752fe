"""Reference of the coordinator's metrics: every series of ``/metrics``, its kind, labels and words.

Law: read from the registry of a coordinator that is founded for it, so what is not scraped is not
listed. Cost: a federation on the base that ships, in a temporary folder; about a second.
"""

import datetime as dt
import tempfile
from collections.abc import Iterator
from pathlib import Path

from commands_page import cell, escaped
from prometheus_client import Metric

from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.folder import DataFolder, Settings
from orthofed.coordinator.founding import Choices, found
from orthofed.coordinator.fs import Fs
from orthofed.coordinator.house import House
from orthofed.coordinator.meter import Meter
from orthofed.coordinator.metrics_page import MetricsPage
from orthofed.coordinator.tls import server_tls

ROOT = Path(__file__).parents[2]
ADDRESS = "reference/metrics.md"
_SHOWN = 6


def metrics_page() -> dict[str, str]:
    """Return the Markdown of the page by its address."""
    return {ADDRESS: "\n".join(_lines(_scraped()))}


def _scraped() -> list[Metric]:
    clock, fs, meter = SystemClock(), Fs(), Meter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "fed"
        settings = Settings(base=ROOT / "assets" / "pocket-base", reserve_mib=0)
        found(folder, Choices(name="fed", rank=8), settings, clock=clock, fs=fs, say=lambda _: None)
        now = dt.datetime.now(dt.UTC)
        server_tls(folder / "keys", settings.hostnames, fs=fs, now=now)
        with House(DataFolder.open(folder), fs=fs, clock=clock) as house:
            page = MetricsPage("127.0.0.1:0", meter, house)
            try:
                return list(meter.registry.collect())
            finally:
                page.close()


def _lines(metrics: list[Metric]) -> Iterator[str]:
    yield from ("# Metrics", "")
    yield (
        "Every series of the page that `metrics` in `coordinator.toml` opens;"
        " [how to watch it](../monitoring.md). None has a label that a caller could choose."
    )
    yield from ("", "| series | kind | labels | meaning |", "| --- | --- | --- | --- |")
    ours = [metric for metric in metrics if metric.name.startswith("orthofed_")]
    others = [metric for metric in metrics if metric not in ours]
    for metric in sorted(ours, key=lambda metric: metric.name) + others:
        total = "_total" if metric.type == "counter" else ""
        labels = "<br>".join(_labels(metric))
        said = cell(metric.documentation)
        yield f"| `{metric.name}{total}` | {metric.type} | {labels} | {said} |"
    yield ""


def _labels(metric: Metric) -> Iterator[str]:
    """Yield each label with the values that it has from the start."""
    values: dict[str, list[str]] = {}
    for sample in metric.samples:
        for name, value in sample.labels.items():
            if name != "le" and value not in values.setdefault(name, []):
                values[name].append(value)
    for name, each in values.items():
        shown = ", ".join(f"`{escaped(value)}`" for value in each[:_SHOWN])
        yield f"`{name}`: {shown}{', …' if len(each) > _SHOWN else ''}"
