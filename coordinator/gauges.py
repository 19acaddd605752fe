"""What a scrape of ``/metrics`` asks of the coordinator: slots, contributions, ledger, disk, dates.

Law: read at each scrape and never kept, so it is as true as ``status``; nothing here names a
person, a concept or an address. Not here: calls (meter.py), the page (metrics_page.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ..proto.wire import OrderKind
from .backup import last_backup_s
from .counts import PHASES, STATES, Counts, counts
from .house import House
from .node_ages import LATELY_S, node_ages
from .tls import certificate_until_s


@dataclass(frozen=True, slots=True)
class Gauges(Collector):
    """The collector of one coordinator."""

    house: House

    def collect(self) -> Iterator[Metric]:
        """Yield every gauge with its value of this moment."""
        found, house = counts(self.house), self.house
        yield from _by_state(found)
        yield _one("ledger_leaves", "Leaves of the ledger.", found.leaves)
        yield _one("open_uploads", "Uploads that began and have no receipt.", found.open_uploads)
        yield _one("newest_release", "Number of the newest release; 0: none.", found.newest_release)
        yield _one(
            "release_timestamp_seconds",
            "When the newest release was planned; 0: none is.",
            found.released_s,
        )
        yield _one(
            "release_plan_open", "1 while a release is planned and not out.", int(found.plan_open)
        )
        yield _one(
            "nodes_seen",
            f"Flower nodes of members that were there in the last {LATELY_S} seconds.",
            sum(age is not None and age <= LATELY_S for age in node_ages(house).values()),
        )
        folder = house.folder
        yield _one(
            "free_bytes",
            "Bytes free on the disk above the reserve; uploads are refused at 0 or less.",
            house.fs.free_bytes(folder.root),
        )
        yield _one(
            "backup_timestamp_seconds",
            "When the last whole backup was made; 0: none was.",
            last_backup_s(folder),
        )
        yield _one(
            "certificate_until_timestamp_seconds",
            "When the server's certificate ends; each start renews it in time.",
            certificate_until_s(folder.keys),
        )
        yield _one(
            "keyring_until_timestamp_seconds",
            "When the newest keyring ends; after it nothing that it signs is taken.",
            house.facts.ring.until,
        )


def _by_state(found: Counts) -> Iterator[Metric]:
    slots = _labelled("slots", "Slots by phase.", "phase")
    for phase in PHASES:
        slots.add_metric([phase], found.slots[phase])
    contributions = _labelled("contributions", "Contributions by state.", "state")
    for state in STATES:
        contributions.add_metric([state], found.contributions.get(state, 0))
    members = _labelled("members", "Members: standing, or revoked.", "state")
    members.add_metric(["standing"], found.standing)
    members.add_metric(["revoked"], found.revoked)
    orders = _labelled("open_orders", "Orders that wait for a member, by kind.", "kind")
    for kind in get_args(OrderKind):
        orders.add_metric([kind], found.orders.get(kind, 0))
    yield from (slots, contributions, members, orders)


def _labelled(name: str, text: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"orthofed_{name}", text, labels=[label])


def _one(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"orthofed_{name}", text, value=value)
