"""``orthofed coordinator contributions``: what came in, how it stands, and the figures."""

from typing import Any

from .command_line import Folder, Json, desk_of, show

EXAMPLE = "Example: orthofed coordinator contributions fed"


def contributions(directory: Folder, as_json: Json = False) -> None:
    """List every contribution with what admission measured, the quarantined ones first."""
    with desk_of(directory) as (_, desk):
        found = desk.ask("contributions", {})["contributions"]
    value = {"schema": "orthofed.coordinator.contributions/1", "contributions": found}
    rows = sorted(found, key=lambda each: each["state"] != "quarantined")
    lines = [line for each in rows for line in _lines(each)]
    show(value, "\n".join(lines) or "no contribution yet", as_json)


def _lines(each: dict[str, Any]) -> list[str]:
    triggers = ", ".join(each["triggers"])
    seat = f" beside slot {each['beside']}" if each["beside"] >= 0 else ""
    place = f"{'seat' if seat else 'slot'} {each['slot']}{seat}"
    name = f"{each['concept']} ({triggers}), {place}, member {each['member'][:16]}"
    name += f", in place of {each['replaces']}" if each["replaces"] else ""
    name += ", REVOKED" if each["revoked"] else ""
    plain = {k: v for k, v in each["figures"].items() if not isinstance(v, (dict, list))}
    figures = ", ".join(f"{key} {value}" for key, value in plain.items())
    lines = [f"{each['leaf']:>5}  {each['state']:<11}  {name}"]
    lines += [f"       {figures}"] if figures else []
    return lines + ([f"       {each['why']}"] if each["why"] else [])
