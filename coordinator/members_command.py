"""``orthofed coordinator members``: who joined, what they hold, and who was put out."""

from typing import Any

from .command_line import Folder, Json, desk_of, show

EXAMPLE = "Example: orthofed coordinator members fed"


def members(directory: Folder, as_json: Json = False) -> None:
    """List every member key with its leases and contributions, the newest last."""
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
    return f"{each['member'][:16]}  " + "; ".join(words)
