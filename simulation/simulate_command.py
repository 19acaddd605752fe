"""``orthofed simulate``: a federation of hundreds on one machine, before you invite anybody."""

import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..core.errors import InputError

EXAMPLE = "Example: orthofed simulate --clients 20 --bad 0.1 --json"


def simulate(  # noqa: PLR0913, PLR0917  # a scenario has this many sides
    clients: Annotated[int | None, typer.Option(help="How many; default 100.")] = None,
    scenario: Annotated[
        Path | None, typer.Option(help="TOML file; options below stand above it.")
    ] = None,
    engine: Annotated[
        Literal["local", "flower"],
        typer.Option(help="Who runs the clients: own processes, or Flower's simulation (Ray)."),
    ] = "local",
    seed: Annotated[int | None, typer.Option(help="Everything follows from it; default 0.")] = None,
    arrivals_s: Annotated[
        float | None, typer.Option(help="Mean seconds between two arrivals; default 0: at once.")
    ] = None,
    faults: Annotated[
        float | None, typer.Option(help="Share that is killed in training and comes back.")
    ] = None,
    leaves: Annotated[float | None, typer.Option(help="Share that is killed for good.")] = None,
    slow: Annotated[float | None, typer.Option(help="Share that trains ten times as long.")] = None,
    bad: Annotated[float | None, typer.Option(help="Share that sends what it must not.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Of the local engine.")] = 2,
    keep: Annotated[
        Path | None, typer.Option(help="Folder for all that is made; default: none is kept.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run a real coordinator with simulated clients, and say what was lost: nothing, or exit 1.

    Clients join, lease, train a toy, pack, upload over TLS as real ones do. The model is a toy of
    plain matrices, so its retention says how the method scales, and nothing about images.
    """
    from .run import simulate as run
    from .scenario import Scenario

    wanted = Scenario.read(
        scenario,
        clients=clients,
        seed=seed,
        arrivals_s=arrivals_s,
        returns=faults,
        leaves=leaves,
        slow=slow,
        bad=bad,
    )
    with ExitStack() as stack:
        if keep is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orthofed-")))
        else:
            folder = _new(keep)
        found = run(folder, wanted, engine=engine, processes=processes, say=_say)
    print(json.dumps(found) if as_json else _text(found), flush=True)
    if found["lost"] or found["bad_taken"] or found["findings"]:
        raise typer.Exit(1)


def _new(folder: Path) -> Path:
    is_file = folder.exists() and not folder.is_dir()
    if is_file or (folder.exists() and any(folder.iterdir())):
        raise InputError(
            f"{folder} is {'no folder' if is_file else 'not empty'}",
            why="a simulation makes every file of its folder",
            fix="give a new folder with --keep",
            code="folder-not-empty",
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # homes hold keys, if only toys'
    return folder.resolve()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _text(found: dict[str, Any]) -> str:
    lease, receipt = found["lease_wait_s"], found["receipt_wait_s"]
    refusals = ", ".join(f"{n} {code}" for code, n in sorted(found["refusals"].items()))
    fates = ", ".join(f"{n} {fate}" for fate, n in sorted(found["fates"].items()))
    states = ", ".join(f"{n} {state}" for state, n in sorted(found["states"].items()))
    lines = [
        f"{found['clients']} clients: {fates}",
        f"{found['leased']} leases",
        f"{found['contributions']} contributions acknowledged, {len(found['lost'])} lost: {states}",
        f"refused: {refusals or 'nobody'}",
        f"from arrival to lease: {_spoken(lease)}",
        f"from arrival to receipt: {_spoken(receipt)}",
        f"{found['upload_bytes']:,} bytes sent, {found['ledger_leaves']} ledger leaves",
        f"{found['seconds']} s in all, {found.get('coordinator_cpu_s', 0)} s of the coordinator's",
    ]
    for each in found["releases"]:
        kept = each["retention"]
        lines.append(
            f"release {each['n']}: {each['concepts']} concepts, {each['seconds']} s,"
            f" {each['bytes']:,} bytes; the toy keeps {kept.get('median', 0)} in the middle,"
            f" {kept.get('worst', 0)} at worst"
        )
    lines += _curve(found["costs"])
    lines += [f"damaged: {each['file']} {each['what']}" for each in found["findings"]]
    return "\n".join(lines)


def _curve(costs: list[dict[str, float]]) -> list[str]:
    """Return the cost curve as a table."""
    if not costs:
        return []
    head = f"{'concepts':>8}  {'sent, kB':>9}  {'LoRA, kB':>9}  {'kept':>7}  {'at worst':>8}"
    return [
        head,
        *(
            f"{each['concepts']:>8}  {each['upload_bytes'] / 1e3:>9,.0f}"
            f"  {each['lora_bytes'] / 1e3:>9,.0f}  {each.get('median', 0):>7.3f}"
            f"  {each.get('worst', 0):>8.3f}"
            for each in costs
        ),
    ]


def _spoken(spread: dict[str, float]) -> str:
    if not spread:
        return "nobody"
    return f"{spread['median']} s in the middle, {spread['p99']} s for 99 of 100"
