"""``orthofed coordinator order``, ``round``, ``orders``, ``cancel-order``: asking members."""

import datetime as dt
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..core.errors import InputError
from .command_line import MOST_NUMBER, Folder, Json, desk_of, show

EXAMPLE = "Example: orthofed coordinator order fed train --member 1f0c44ab --concept anna"
ROUND_EXAMPLE = "Example: orthofed coordinator round fed --concept anna"
LIST_EXAMPLE = "Example: orthofed coordinator orders fed"
CANCEL_EXAMPLE = "Example: orthofed coordinator cancel-order fed 5d41402a"


def order(
    directory: Folder,
    kind: Annotated[
        Literal["train", "score", "withdraw"], typer.Argument(help="What is to be done.")
    ],
    member: Annotated[
        str | None, typer.Option(help="The first 8 digits, or more, of its key.")
    ] = None,
    concept: Annotated[str | None, typer.Option(help="The concept's name.")] = None,
    everybody: Annotated[
        bool, typer.Option("--all", help="score: every concept of the newest release.")
    ] = False,
    release: Annotated[
        int, typer.Option(max=MOST_NUMBER, help="score: in which release; default the newest.")
    ] = 0,
    days: Annotated[int, typer.Option(help="Days until the order lapses, 1 to 365.")] = 30,
    as_json: Json = False,
) -> None:
    """Ask a member to train, score or withdraw a concept; its owner's client decides."""
    named = (member is not None, concept is not None, release > 0)
    if everybody:
        _check_all(kind, beside=any(named))
        _score_all(directory, days, as_json)
        return
    if not all(named[:2]):
        raise InputError(
            f"an order to {kind} without --member or without --concept",
            why="an order asks one member for one concept",
            fix="give both; for every concept of the newest release: score --all",
            code="bad-order",
        )
    args = {
        "kind": kind,
        "member": member,
        "concept": concept,
        "release": release,
        "days": days,
    }
    with desk_of(directory) as (_, desk):
        done = desk.ask("order", args)
    given, new = done["order"], done["new"]
    text = f"{'order' if new else 'open already: order'} {given['id']}\n{_line(given)}"
    show({"schema": "orthofed.coordinator.order/1", "new": new, **given}, text, as_json)


def _check_all(kind: str, *, beside: bool) -> None:
    if kind != "score" or beside:
        raise InputError(
            "--all beside --member, --concept or --release" if beside else f"{kind} --all",
            why="--all orders a score of every concept in the newest release",
            fix="leave --all away, or give it alone: orthofed coordinator order DIR score --all",
            code="bad-order",
        )


def _score_all(directory: Path, days: int, as_json: bool) -> None:
    with desk_of(directory) as (_, desk):
        done = desk.ask("score-all", {"days": days})
    orders, out = done["orders"], done["left_out"]
    new = sum(each["new"] for each in orders)
    lines = [f"release {done['release']}: {new} new orders, {len(orders) - new} open already"]
    lines += map(_line, orders)
    lines += [f"left out: {each['concept']}, {each['what']}" for each in out]
    show({"schema": "orthofed.coordinator.order-all/1", **done}, "\n".join(lines), as_json)


def round_(
    directory: Folder,
    concept: Annotated[str, typer.Option(help="The name of a concept with several owners.")],
    days: Annotated[int, typer.Option(help="Days until the orders lapse, 1 to 365.")] = 30,
    as_json: Json = False,
) -> None:
    """Ask every owner of a shared concept to train on from their average in the newest release."""
    with desk_of(directory) as (_, desk):
        given = desk.ask("round", {"concept": concept, "days": days})["orders"]
    value = {"schema": "orthofed.coordinator.round/1", "orders": given}
    show(value, "\n".join(map(_line, given)), as_json)


def orders(directory: Folder, as_json: Json = False) -> None:
    """List every order with what became of it, the newest last."""
    with desk_of(directory) as (_, desk):
        found = desk.ask("orders", {})["orders"]
    value = {"schema": "orthofed.coordinator.orders/1", "orders": found}
    show(value, "\n".join(map(_line, found)) or "nothing was ordered yet", as_json)


def cancel_order(
    directory: Folder,
    order_id: Annotated[
        str, typer.Argument(metavar="ID", help="The order's id; the first 8 digits will do.")
    ],
    as_json: Json = False,
) -> None:
    """Take back an order that nobody has carried out yet."""
    with desk_of(directory) as (_, desk):
        taken = desk.ask("cancel-order", {"id": order_id})
    value = {"schema": "orthofed.coordinator.cancel-order/1", **taken}
    show(value, _line(taken), as_json)


def _line(each: dict[str, Any]) -> str:
    day = dt.datetime.fromtimestamp(each["made"], dt.UTC).date()
    release = f", release {each['release']}" if each["release"] else ""
    done = f" by leaf {each['leaf']}" if each["leaf"] is not None else ""
    said = each.get("said")
    heard = ""
    if said is not None:
        words = [said["state"], *([said["code"]] if said["code"] else [])]
        heard = f"; its node says {' '.join(words)}, step {said['step']}"
    what = f"{each['kind']} {each['concept']}{release}"
    whose = f"member {each['member'][:16]}, {day}"
    return f"{each['id'][:16]}  {each['state']}{done}: {what}; {whose}{heard}"
