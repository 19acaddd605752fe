"""A coordinator that takes whatever has the right form, for tests of other things.

Their contributions are random numbers, or concepts of four training steps, which are all alike.
"""

from pathlib import Path

from orthofed.coordinator.policy import Policy
from orthofed.core.bounds import MOST

ANYTHING = Policy(
    norm_percent=100,
    loudness_percent=MOST,
    embedding_percent=MOST,
    retention_percent=MOST,
    retention_sum_percent=MOST,
    copy_percent=MOST,
    budget_percent=MOST,
)


def take_anything(folder: Path) -> None:
    """Write it into the settings of a founded folder, before it is served."""
    settings = folder / "coordinator.toml"
    settings.write_text(settings.read_text().partition("[admission]")[0] + ANYTHING.to_toml())
