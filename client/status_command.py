"""``orthofed client status``: the federation, each concept, and the daemon if one runs.

What is saved here is always shown (status.py); a running daemon says itself what it waits for.
"""

import json
from typing import Final

from ..core.shown import shown
from .command_line import HomeOption, Json

STATUS_EXAMPLE: Final = "Example: orthofed client status"
_MOST_WHY: Final = 2_000  # an escape takes up to ten characters


def status(
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Show the federation of this home, how far each concept is, and what its daemon waits for."""
    from .daemon_command import daemon_lines, running_daemon
    from .home import Home
    from .status import status_of

    place = Home.at(home)
    found, daemon = status_of(place), running_daemon(place)
    if as_json:
        print(json.dumps({"schema": "orthofed.status/1", **found, "daemon": daemon}))
        return
    print(f"address  {found['address']}")
    print(f"spec     {found['fed']}")
    print(f"log id   {found['log']}")
    print(f"member   {found['member']}")
    for run in found["concepts"]:
        slot = f"slot {run['slot']}" if run["slot"] >= 0 else "no slot"
        said = f", with the coordinator: {run['state']}" if run["state"] else ""
        said += f", receipt {run['promise']}" if run["promise"] else ""
        said += ", receipt of the withdrawal kept" if run["withdrawal"] else ""
        print(f"{run['concept']}  {run['phase']}, {slot}{said}")
        if run["why"]:
            for line in run["why"].split("\n"):
                print(f"    {shown(line, _MOST_WHY)}")
        if run["dp"]:
            print(f"    you claim {run['dp']}")
    for line in daemon_lines(daemon) if daemon else ("daemon   none runs",):
        print(line)
