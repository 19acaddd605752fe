"""``orthofed coordinator serve``: the process of one federation, until it is told to stop."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from .command_line import Folder, Json, Log, say, show

if TYPE_CHECKING:
    from .premises import OpenPage

EXAMPLE = "Example: orthofed coordinator serve fed --listen 0.0.0.0:7070"


def serve(
    directory: Folder,
    listen: Annotated[str, typer.Option(help="HOST:PORT; port 0 takes any free one.")] = "",
    metrics: Annotated[
        str, typer.Option(help="HOST:PORT of /metrics; default what coordinator.toml says.")
    ] = "",
    web: Annotated[
        str, typer.Option(help="HOST:PORT of the page; default what coordinator.toml says.")
    ] = "",
    web_url: Annotated[
        str, typer.Option(help="The page's public address, https://..., behind a proxy.")
    ] = "",
    log: Log = "text",
    as_json: Json = False,
) -> None:
    """Serve the federation until SIGTERM or Ctrl-C."""
    # Before numpy is imported. Calls run in many threads already, and admission's matrices are
    # narrow: with OpenBLAS's own threads a Commit of 4 MiB took .2 s of two busy cores, not .005.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from ..fleet.journal import to_stderr
    from .daemon import Listening, run
    from .folder import DataFolder

    settings = DataFolder.open(directory).settings()
    where = web or settings.web

    def ready(now: Listening) -> None:
        value = {
            "schema": "orthofed.coordinator.serve/1",
            "address": now.address,
            "listening": now.listening,
            "link": now.link,
        }
        lines = [f"listening on {now.listening}"]
        if now.address != now.listening:
            lines.append(f"reached at {now.address}")
        lines.append(now.link)
        if now.metrics:
            value["metrics"] = now.metrics
            lines.append(f"metrics on {now.metrics}")
        if now.page:
            value["page"] = now.page
            lines.append(f"page on {now.page}")
        show(value, "\n".join(lines), as_json)
        if now.is_recovering:
            say("finishing a release that was interrupted")

    to_stderr(log)
    open_page: OpenPage | None = None
    if where:
        from ..web.opening import opener  # an extra: `orthofed[web]`

        open_page = opener(where, web_url or settings.web_url)
    run(directory, listen=listen, metrics=metrics, open_page=open_page, ready=ready)
