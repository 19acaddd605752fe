"""Says which concept of this home holds the one live lease, where a further one is refused.

The coordinator knows a lease by slot and fence and names neither to anybody; the home knows what it
leased. Not here: the rule (coordinator/leases.py, T1).
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from ..core.errors import Refused
from .home import Home
from .state import load

_LIVE: Final = ("leased", "trained", "packed", "approved")


@contextmanager
def other_lease_named(home: Home, concept: str) -> Generator[None]:
    """Word the refusal of a second lease by the one concept beside ``concept`` that has a slot."""
    try:
        yield
    except Refused as refused:
        if refused.code != "quota-used" or "live lease" not in refused.what:
            raise
        runs = (load(folder) for folder in home.runs())
        held = [run.concept for run in runs if run is not None and run.phase in _LIVE]
        others = [each for each in held if each != concept]
        if len(others) != 1:
            raise
        raise Refused(
            f"{refused.what}: {others[0]} holds it",
            why=refused.why,
            fix=f"finish it with orthofed client train --concept {others[0]} and its options, or"
            f" free its slot with orthofed client give-back {others[0]}",
            code=refused.code,
        ) from refused
