"""``orthofed coordinator``: every command of the operator, in the order in which help lists them.

Errors are OrthoFedErrors, which __main__ prints. How a command reaches a running coordinator:
command_line.py. Nothing slow is imported before a command runs.
"""

from typing import Annotated

import typer

from . import (
    approve_command,
    audit_log_command,
    backup_command,
    contributions_command,
    fleet_command,
    fork_command,
    init_command,
    keyring_command,
    login_command,
    members_command,
    order_command,
    publish_command,
    reject_command,
    release_command,
    restore_command,
    retention_command,
    revoke_command,
    serve_command,
)
from .command_line import Folder, Json, desk_of, show

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

_ADMISSION = {
    "gates": "by the gates of this process alone",
    "worker": "by its gates, and pending until `orthofed admit` has measured it on the base",
}


app.command(epilog=init_command.EXAMPLE)(init_command.init)


@app.command(epilog="Example: orthofed coordinator invite fed --uses 5 --days 7")
def invite(
    directory: Folder,
    uses: Annotated[int, typer.Option(help="How many members it lets in.")] = 1,
    days: Annotated[int, typer.Option(help="How many days it lasts.")] = 7,
    operator: Annotated[
        bool, typer.Option("--operator", help="Its members may use the operator's own slots.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print an invite: a secret word that lets data owners join."""
    with desk_of(directory) as (_, desk):
        made = desk.ask("invite", {"uses": uses, "days": days, "operator": operator})
    show({"schema": "orthofed.coordinator.invite/1", **made}, made["invite"], as_json)


@app.command(epilog="Example: orthofed coordinator link fed")
def link(directory: Folder, as_json: Json = False) -> None:
    """Print the federation's public address, which `orthofed pull` takes."""
    with desk_of(directory) as (_, desk):
        made = desk.ask("link", {})
    show({"schema": "orthofed.coordinator.link/1", **made}, made["link"], as_json)


@app.command(epilog="Example: orthofed coordinator status fed --json")
def status(directory: Folder, as_json: Json = False) -> None:
    """Show slots, contributions, ledger and newest release."""
    from .running_leases import lease_line

    with desk_of(directory) as (_, desk):
        found = desk.ask("status", {})
    slots, contributions = found["slots"], found["contributions"]
    overlap = found["disjoint_slots"] < found["capacity"]
    lines = [
        f"federation {found['name']} ({found['fed'][:16]}) at {found['address']}",
        f"slots {found['capacity']}: " + ", ".join(f"{n} {phase}" for phase, n in slots.items()),
        *([f"  the first {found['disjoint_slots']} share nothing"] * overlap),
        *(f"  {lease_line(each)}" for each in found["leases"]),
        "contributions: "
        + (", ".join(f"{n} {state}" for state, n in contributions.items()) or "none"),
        "members: " + ", ".join(f"{n} {how}" for how, n in found["members"].items()),
        f"admission: {_ADMISSION[found['admission']]}",
        f"ledger: {found['ledger_size']} leaves",
        f"newest release: {found['newest_release'] or 'none'}",
        *(["  one more is planned and not out: run release"] * found["plan_open"]),
        f"free disk: {found['free_bytes'] / 1e9:.1f} GB above the reserve",
    ]
    show(found, "\n".join(lines), as_json)


app.command(epilog=release_command.EXAMPLE)(release_command.release)
app.command(epilog=backup_command.EXAMPLE)(backup_command.backup)
app.command(epilog=restore_command.EXAMPLE)(restore_command.restore)
app.command(epilog=fork_command.EXAMPLE)(fork_command.fork)
app.command(epilog=contributions_command.EXAMPLE)(contributions_command.contributions)
app.command(epilog=fleet_command.EXAMPLE)(fleet_command.fleet)
app.command(epilog=approve_command.EXAMPLE)(approve_command.approve)
app.command(epilog=audit_log_command.EXAMPLE)(audit_log_command.audit_log)
app.command("login-link", epilog=login_command.EXAMPLE)(login_command.login_link)
app.command(epilog=keyring_command.ROTATE_EXAMPLE)(keyring_command.rotate)
app.add_typer(keyring_command.app, name="keyring", help="Keyrings: show, root, propose, sign.")
app.command(epilog=publish_command.EXAMPLE)(publish_command.publish)
app.command(epilog=reject_command.EXAMPLE)(reject_command.reject)
app.command(epilog=members_command.EXAMPLE)(members_command.members)
app.command(epilog=revoke_command.EXAMPLE)(revoke_command.revoke)
app.command(epilog=serve_command.EXAMPLE)(serve_command.serve)
app.command(epilog=order_command.EXAMPLE)(order_command.order)
app.command("round", epilog=order_command.ROUND_EXAMPLE)(order_command.round_)
app.command(epilog=order_command.LIST_EXAMPLE)(order_command.orders)
app.command("cancel-order", epilog=order_command.CANCEL_EXAMPLE)(order_command.cancel_order)
app.command(epilog=retention_command.EXAMPLE)(retention_command.retention)
