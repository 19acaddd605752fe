"""``orthofed coordinator members``: who joined, what they hold, whose node is there, who is out."""

from typing import Any

from .command_line import Folder, Json, desk_of, show

EXAMPLE = "Example: orthofed coordinator members fed"


def members(directory: Folder, as_json: Json = False) -> None:
    """List every member key with its leases, contributions and Flower node, the newest last."""
    with desk_of(directory) as (_, desk):
        found = desk.ask("members", {})["members"]
    value = {"schema": "orthofed.coordinator.members/1", "members": found}
    show(value, "\n".join(map(_line, found)) or "nobody has joined yet", as_json)


def _line(each: dict[str, Any]) -> str:
    counts = [f"{num} {state}" for state, num in each["contributions"].items()]
    counts += [f"{each['leased']} leased"] if each["leased"] else []
    words = [", ".join(counts) or "nothing yet"]
    words += ["operator's own"] if each["operator"] else []
    replaced = ", ".join(key[:16] for key in each["replaced"])
    words += [f"replaced {replaced}"] if replaced else []
    words += [f"REVOKED {each['why']}".strip()] if each["state"] == "revoked" else []
    return f"{each['member'][:16]}  " + "; ".join([*words, *_node(each)])


def _node(each: dict[str, Any]) -> list[str]:
    """Return when its Flower node was there; nothing for a member without one."""
    if not each["node"]:
        return []
    seen_s = each["node_seen_s"]
    return ["node not seen since the start" if seen_s is None else f"node seen {seen_s} s ago"]
