"""``orthofed coordinator revoke``: a member key leases, renews and uploads nothing more."""

from typing import Annotated, Any

import typer

from .command_line import Folder, Json, desk_of, show

EXAMPLE = "Example: orthofed coordinator revoke fed 1f0c44ab --reject"


def revoke(
    directory: Folder,
    member: Annotated[
        str,
        typer.Argument(
            help="Its key, or the client key of one of its leases; the first 8 digits will do."
        ),
    ],
    why: Annotated[str, typer.Option("--why", help="What its owner is told.")] = "",
    reject: Annotated[
        bool, typer.Option("--reject", help="Keep its contributions out of later releases too.")
    ] = False,
    close_invite: Annotated[
        bool, typer.Option("--close-invite", help="Its invite lets nobody in any more.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put a member out for good: its leases end; its owner can still ask and withdraw."""
    from .reason import reason
    from .revocation import MOST_WHY

    told = reason(why, least=0, most=MOST_WHY)
    args = {"member": member, "why": told, "reject": reject, "close_invite": close_invite}
    with desk_of(directory) as (_, desk):
        done = desk.ask("revoke", args)
    show({"schema": "orthofed.coordinator.revoke/1", **done}, "\n".join(_lines(done)), as_json)


def _lines(done: dict[str, Any]) -> list[str]:
    again = "was revoked before" if done["was"] == "revoked" else "is revoked"
    lines = [f"member {done['member']} {again}"]
    if done["ended"]:
        lines.append("its lease ended: slot " + ", ".join(map(str, done["ended"])))
    if done["rejected"]:
        lines.append("rejected: " + ", ".join(map(str, done["rejected"])))
    if done["kept"]:
        kept = ", ".join(map(str, done["kept"]))
        lines.append(
            f"its contributions stay: {kept}; the same command with --reject takes them out"
        )
    if done["invite_closed"]:
        lines.append(f"its invite is closed, it had {done['invite_uses']} uses left")
    elif done["invite_uses"]:
        lines.append(f"its invite lets in {done['invite_uses']} more; --close-invite ends that")
    return lines
