"""The ledger as a list, and one leaf with its proof, from facts alone.

Law: the proof on the page is what the browser is given to check: the leaf's bytes, its place, the
path and the root, each as text that a person can read; the page does not say whether it holds, the
script in it does, and `orthofed ledger check` on a machine that the coordinator does not run.
"""

import base64
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core.leaf import parse_leaf
from .public_facts import Federation, Leaf, LedgerState, Proof
from .wording import legible

PAGE = 50
"""Leaves on one page."""
_KINDS = ("spec", "keyring", "lease", "contribution", "admission", "withdrawal", "release")
_SHORT = 12


@dataclass(frozen=True, slots=True)
class Row:
    """One leaf in the list."""

    index: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class LedgerView:
    """A page of leaves, the newest first."""

    size: int
    root: str
    rows: tuple[Row, ...]
    newer: int | None
    older: int | None
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class LeafView:
    """One leaf and all that proves its place."""

    index: int
    kind: str
    text: str
    body: str
    pretty: str
    size: int
    root: str
    path: tuple[str, ...]
    note: str
    key: str
    previous: int | None
    following: int | None
    command: str


def page_bounds(size: int, at: int | None) -> tuple[int, int]:
    """Return which leaves a page shows, from and before; ``at``: the newest wanted, None: all's.

    >>> page_bounds(120, None), page_bounds(120, 60), page_bounds(3, 99)
    ((70, 120), (11, 61), (0, 3))
    """
    end = size if at is None else min(max(at + 1, 1), size)
    return max(0, end - PAGE), end


def ledger(state: LedgerState, leaves: Sequence[Leaf]) -> LedgerView:
    """Return a page of the list."""
    first = leaves[0].index if leaves else 0
    last = leaves[-1].index if leaves else 0
    rows = tuple(Row(leaf.index, leaf.kind, _told(leaf)) for leaf in reversed(leaves))
    return LedgerView(
        size=state.size,
        root=state.root,
        rows=rows,
        newer=min(last + PAGE, state.size - 1) if last < state.size - 1 else None,
        older=first - 1 if first > 0 else None,
        first=first,
        last=last,
    )


def leaf(federation: Federation, proof: Proof) -> LeafView:
    """Return the page of one leaf."""
    found, state = proof.leaf, proof.state
    index = found.index
    link = shlex.quote(federation.link)
    return LeafView(
        index=index,
        kind=found.kind,
        text=_told(found),
        body=base64.b64encode(found.body).decode("ascii"),
        pretty=json.dumps(parse_leaf(found.body), indent=2, sort_keys=True),
        size=state.size,
        root=state.root,
        path=proof.path,
        note=state.note,
        key=state.ledger_key,
        previous=index - 1 if index else None,
        following=index + 1 if index + 1 < state.size else None,
        command=f"orthofed ledger prove -o leaf-{index}.proof {index} {link}"
        f" && orthofed ledger check leaf-{index}.proof {link}",
    )


def _told(leaf: Leaf) -> str:
    """Return in one line what a leaf says."""
    body: dict[str, Any] = parse_leaf(leaf.body)
    said: dict[str, Any] = body["doc"]["body"] if "doc" in body else body
    match leaf.kind:
        case "spec":
            text = f"the federation {said['spec'][:_SHORT]}"
        case "keyring":
            text = f"keyring {said['n']}"
        case "lease":
            names = ", ".join(said["triggers"])
            seat = f", beside slot {said['block']}" if "block" in said else ""
            text = f"slot {said['slot']}{seat} to {said['client'][:_SHORT]} for {names}"
        case "contribution":
            replaced = said.get("replaces")
            share = said.get("share")
            place = f", one more owner beside slot {share['slot']}" if share else ""
            place += f" in place of contribution {replaced['leaf']}" if replaced else ""
            text = f"{said['concept']} in slot {said['slot']} by {said['client'][:_SHORT]}{place}"
        case "admission":
            text = f"contribution {said['leaf']} is {said['verdict']}: {said['why']}"
        case "withdrawal":
            text = f"contribution {said['leaf']} is withdrawn by its owner"
        case _:
            text = f"release {said['n']}, manifest {said['manifest'][:_SHORT]}"
    return legible(text)
