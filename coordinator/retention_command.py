"""``orthofed coordinator retention``: which concept suffers in a release, and from which."""

from typing import Annotated, Any

import typer

from .command_line import MOST_NUMBER, Folder, Json, desk_of, show

EXAMPLE = "Example: orthofed coordinator retention fed --release 3"
_HEADER = "concept                          retention  base     single   merged   pictures  member"


def retention(
    directory: Folder,
    release: Annotated[
        int, typer.Option(max=MOST_NUMBER, help="Which release; default the newest.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Show what a release keeps of each concept, by its owner's figures, the worst first.

    Under each one, by admission's estimate, up to three others that do most on its trigger.
    """
    with desk_of(directory) as (_, desk):
        found = desk.ask("retention", {"release": release, "by_whom": True})
    lines = [f"release {found['release']}", _HEADER]
    for each in found["concepts"]:
        lines += [_line(each), *_by_whom(each)]
    low = sum(each["suffers"] for each in found["concepts"])
    open_ = sum(each["measured"] is None for each in found["concepts"])
    lines.append(
        f"{low} under {found['kept_percent']} %, {open_} not measured;"
        " orthofed coordinator order DIR score asks an owner"
    )
    value = {"schema": "orthofed.coordinator.retention/1", **found}
    show(value, "\n".join(lines), as_json)


def _line(each: dict[str, Any]) -> str:
    said = each["measured"]
    if said is None:
        return f"{each['concept']:<32} not measured {'':42}{each['member'][:16]}"
    losses = (said[f"{name}_millionths"] / 1e6 for name in ("base", "single", "merged"))
    kept = "nothing learnt" if each["retention"] is None else f"{each['retention']:<9.3f}"
    mark = "  SUFFERS" if each["suffers"] else ""
    numbers = "  ".join(f"{loss:.5f}" for loss in losses)
    return (
        f"{each['concept']:<32} {kept}  {numbers}  {said['pictures']:<8}"
        f"  {each['member'][:16]}{mark}"
    )


def _by_whom(each: dict[str, Any]) -> list[str]:
    """Return the line of those that weigh most on it; none where admission found nothing."""
    said = ", ".join(f"{by['concept']} {by['percent']:+.1f} %" for by in each["disturbed_by"])
    return [f"    on its trigger, estimated: {said}"] if said else []
