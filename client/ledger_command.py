"""``orthofed ledger``: shows the leaves of a federation's ledger, proves one, checks a proof.

PLACE is a link, the address of a web server, the home of a member, or a folder that
`orthofed pull` made; the last needs no network. Every leaf that is printed was led to the signed
checkpoint (ledger_reader.py).
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from .command_line import Json, Patience

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

Place = Annotated[
    str,
    typer.Argument(
        metavar="PLACE", help="A link, https://HOST/PATH#LOG, a home, or a folder of orthofed pull."
    ),
]
HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Where heads of a link are remembered.")
]


@app.command(epilog="Example: orthofed ledger show release-1 --from 0 --count 20")
def show(
    place: Place,
    start: Annotated[
        int | None, typer.Option("--from", min=0, help="First leaf; default: the last ones.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="How many leaves.")] = 20,
    home: HomeOption = None,
    as_json: Json = False,
    patience_s: Patience = 60,
) -> None:
    """Show what the ledger says, leaf by leaf, each proven."""
    from .ledger_reader import open_ledger

    with open_ledger(place, home=home, patience_s=patience_s) as reader:
        head = reader.view.head
        first = max(0, head.size - count) if start is None else start
        rows = [_row(index, body) for index, body in reader.leaves(first, count)]
    if as_json:
        facts = {
            "schema": "orthofed.ledger/1",
            "log": head.log,
            "size": head.size,
            "root": head.root,
            "t": head.t,
            "release": head.release,
            "leaves": rows,
        }
        print(json.dumps(facts))
        return
    print(f"log id  {head.log}")
    print(f"leaves  {head.size}, root {head.root}")
    print(f"{'leaf':>7}  {'kind':<12}  {'slot':>4}  {'client':<12}  says")
    for row in rows:
        slot, client = row.get("slot", ""), str(row.get("client", ""))[:12]
        print(f"{row['leaf']:>7}  {row['kind']:<12}  {slot!s:>4}  {client:<12}  {_says(row)}")


@app.command(epilog="Example: orthofed ledger prove 3 release-1 -o leaf-3.proof")
def prove(
    leaf: Annotated[int, typer.Argument(min=0, metavar="LEAF", help="Which leaf, from 0.")],
    place: Place,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file to write.")] = None,
    home: HomeOption = None,
    as_json: Json = False,
    patience_s: Patience = 60,
) -> None:
    """Write the proof of one leaf (C2SP tlog-proof); whoever has the log id can check it."""
    from .home import PUBLIC, write_whole
    from .ledger_reader import open_ledger

    with open_ledger(place, home=home, patience_s=patience_s) as reader:
        proof, head = reader.prove(leaf), reader.view.head
    if out is not None:
        write_whole(out, proof, mode=PUBLIC)
    if as_json:
        facts = {"leaf": leaf, "size": head.size, "root": head.root, "proof": proof.decode("utf-8")}
        print(json.dumps({"schema": "orthofed.proof/1", **facts}))
    elif out is None:
        sys.stdout.write(proof.decode("utf-8"))
    else:
        print(f"leaf {leaf} is in the ledger of {head.size} leaves; the proof is {out}")


@app.command(epilog="Example: orthofed ledger check leaf-3.proof release-1")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A proof, a receipt, a fork proof.")],
    place: Place,
    home: HomeOption = None,
    as_json: Json = False,
    patience_s: Patience = 60,
) -> None:
    """Check a proof of a leaf against the ledger at PLACE, or a fork proof by itself."""
    from .fork_proof import ForkProof
    from .ledger_reader import log_of, open_ledger

    with file.open("rb") as opened:
        data = opened.read((1 << 20) + 1)
    if data.startswith(b"{"):
        proof, log = ForkProof.from_bytes(data), log_of(place)
        old, new = proof.check(log)
        former = proof.is_by_former_key(log)
        facts: dict[str, Any] = {
            "forked": True,
            "old": old.size,
            "new": new.size,
            "old_by_former_key": former,
        }
        text = (
            f"FORKED: the ledger's key signed {old.size} leaves, and then {new.size} leaves"
            " that do not begin with them"
        )
        if former:
            text += (
                "\nThe first were signed by a ledger key that was rotated away since: if that key"
                " was stolen, it was the thief who signed them."
            )
    else:
        with open_ledger(place, home=home, patience_s=patience_s) as reader:
            found = reader.check_proof(data)
        row = _row(found.index, found.leaf_body)
        facts = {"forked": False, "size": found.checkpoint.size, **row}
        text = f"leaf {found.index} of {found.checkpoint.size}: {row['kind']} {_says(row)}".rstrip()
    print(json.dumps({"schema": "orthofed.check/1", **facts}) if as_json else text)


def _row(index: int, body: bytes) -> dict[str, Any]:
    """Return what the table shows of one leaf; one of a later version is shown by its kind."""
    from ..core.errors import VerificationFailed
    from ..core.leaf import parse_leaf

    try:
        leaf: dict[str, Any] = parse_leaf(body)
    except VerificationFailed:
        return {"leaf": index, "kind": _kind(body)}
    told = cast("dict[str, Any]", leaf["doc"]["body"]) if "doc" in leaf else leaf
    known = ("slot", "client", "triggers", "n", "manifest", "spec", "concept", "state")
    row = {name: told[name] for name in known if name in told}
    if leaf["kind"] not in ("spec", "release", "keyring") and "leaf" in told:
        row["of"] = told["leaf"]
    return {"leaf": index, "kind": str(leaf["kind"]), **row}


def _kind(body: bytes) -> str:
    """Return the name that a leaf of a later version gives itself, or `?`."""
    from ..core.shown import shown

    try:
        leaf: object = json.loads(body)
    except (ValueError, RecursionError):
        return "?"
    kind = cast("dict[str, object]", leaf).get("kind") if isinstance(leaf, dict) else None
    return shown(kind, 20) if isinstance(kind, str) else "?"


def _says(row: dict[str, Any]) -> str:
    parts = [
        str(row["n"]) if "n" in row else "",
        f"of leaf {row['of']}" if "of" in row else "",
        " ".join(map(str, triggers)) if isinstance(triggers := row.get("triggers"), list) else "",
        str(row.get("state", "")),
        str(row.get("spec", row.get("manifest", "")))[:16],
    ]
    return "  ".join(part for part in parts if part)
