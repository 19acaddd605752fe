"""``orthofed coordinator audit-log``: what the operators did, and who."""

import datetime as dt
import json
from typing import Annotated

import typer

from .command_line import Folder, Json, show

EXAMPLE = "Example: orthofed coordinator audit-log fed --last 20"


def audit_log(
    directory: Folder,
    last: Annotated[int, typer.Option(min=0, help="How many acts; 0: all.")] = 20,
    as_json: Json = False,
) -> None:
    """List the operators' acts, the newest last; exit code 4 if a line was tampered with."""
    from .audit_log import entries
    from .folder import DataFolder

    found = list(entries(DataFolder.open(directory).audit_log))
    said = {entry.of: entry.said for entry in found if entry.of}
    acts = [entry for entry in found if not entry.of][-last:]
    value = [
        {
            "n": act.n,
            "t": act.t,
            "who": act.who,
            "op": act.op,
            "args": act.args,
            "said": said.get(act.n, "cut"),
        }
        for act in acts
    ]
    lines = [
        f"{dt.datetime.fromtimestamp(act.t, dt.UTC):%Y-%m-%d %H:%M:%SZ}  {act.who}  {act.op}"
        f" {json.dumps(act.args)}  {said.get(act.n, 'cut')}"
        for act in acts
    ]
    text = "\n".join(lines) or "nobody has done anything yet"
    show({"schema": "orthofed.coordinator.audit-log/1", "acts": value}, text, as_json)
