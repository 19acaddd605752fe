"""How long ago each member's Flower node was there, for the operator: ``members`` and ``/metrics``.

Laws: the nodes of members that stand, by their newest node keys, and no others; what the bridge
saw is a hint (sightings.py), forgotten at a restart, and nothing follows from it. Source: flower.md
4 (L8).
"""

from . import node_keys
from .house import House

LATELY_S = 120
"""A client's fleet ends a node that was not seen for so long, and starts it again."""


def node_ages(house: House) -> dict[str, int | None]:
    """Return the seconds since each member's node was seen, from 1; None: not since the start.

    A member that sent no node key is not in it.
    """
    keys = house.store.run(node_keys.nodes_to_be)
    now_s = house.clock.monotonic_s()
    return {key.member: house.sightings.node_age_s(key.node, now_s) or None for key in keys}
