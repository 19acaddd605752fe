"""``orthofed coordinator publish``: a folder that any web server can give out."""

from pathlib import Path
from typing import Annotated

import typer

from .command_line import Folder, Json, show

EXAMPLE = "Example: orthofed coordinator publish fed /srv/www/fed"


def publish(
    directory: Folder,
    out: Annotated[Path, typer.Argument(help="Folder to write; new, empty, or of an earlier run.")],
    as_json: Json = False,
) -> None:
    """Write or update a folder of all public files, for mirrors; run again after each release."""
    from .folder import DataFolder
    from .fs import Fs
    from .published_tree import PublishedTree

    folder = DataFolder.open(directory)
    fs = Fs(reserve_bytes=folder.settings().reserve_mib << 20)
    done = PublishedTree(folder, out.absolute(), fs=fs).write()
    facts = {
        "schema": "orthofed.publish/1",
        "folder": str(out),
        "log": done.log,
        "release": done.release,
        "size": done.size,
        "files": len(done.names),
        "written": done.written,
        "written_bytes": done.written_bytes,
        "removed": done.removed,
    }
    text = (
        f"release {done.release} and {done.size} leaves in {out}: {len(done.names)} files,"
        f" {done.written} new ({done.written_bytes:,} bytes), {done.removed} removed\n"
        f"pull from it by https://HOST/PATH#{done.log}"
    )
    show(facts, text, as_json)
