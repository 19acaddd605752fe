"""``orthofed coordinator login-link``: a link that lets its reader in to the operator's page."""

from .command_line import Folder, Json, desk_of, show

EXAMPLE = "Example: orthofed coordinator login-link fed"


def login_link(directory: Folder, as_json: Json = False) -> None:
    """Print a link to the operator's page; it works once, within ten minutes."""
    with desk_of(directory) as (_, desk):
        made = desk.ask("login-link", {})
    value = {"schema": "orthofed.coordinator.login-link/1", **made}
    show(value, str(made["url"]), as_json)
