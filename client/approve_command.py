"""``orthofed client approve``: the owner's yes to what a daemon has packed and may not send alone.

The list is that of the egress gate, made of the very bytes on the disk; the figures that the daemon
computed stand beside it. Law: the yes is the session's own event, saved before anything is sent,
and bound to those bytes (session.py, state.py). Source: product.md 5, egress gate.
"""

import json
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .command_line import ConceptName, HomeOption, Json

if TYPE_CHECKING:
    from .home import Home
    from .session import Session

APPROVE_EXAMPLE: Final = "Example: orthofed client approve anna-k7"


def approve(
    concept: ConceptName,
    home: HomeOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Show the list and do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Show every byte that would leave, and say yes to it; the daemon then sends it."""
    from .asking import check_somebody_answers
    from .home import Home

    check_somebody_answers(yes=yes, as_json=as_json)
    session = _approved(Home.at(home), concept, yes=yes)
    if as_json:
        facts = {"schema": "orthofed.approve/1", "concept": session.concept}
        print(json.dumps({**facts, "phase": session.phase, "manifest_sha256": session.document}))
        return
    print(f"{session.concept} is {session.phase}: the daemon, or client train, may send it")


def _approved(home: "Home", concept: str, *, yes: bool) -> "Session":
    """Ask, and return the session with the owner's yes.

    Raises InputError: nothing is packed, or it was not scored, so nobody knows what it learnt.
    """
    from dataclasses import replace

    from ..core.errors import InputError
    from ..core.memorisation import Memorisation
    from ..core.spec import FederationSpec
    from . import session as flow
    from .asked import is_import
    from .egress import gate
    from .owner_scores import OwnerScores
    from .packed_contribution import PackedContribution
    from .seen_heads import SeenHeads
    from .state import load, save
    from .train_view import TrainView

    with home.lock():
        log, folder = home.membership().log, home.run(concept)
        session = load(folder)
        if session is None or session.phase not in {"packed", "approved"}:
            raise InputError(
                f"{concept} is {session.phase if session else 'not here'}, not packed",
                why="what leaves can be shown once it is trained and packed",
                fix="orthofed client status shows how far each concept is",
                code="nothing-to-approve",
            )
        spec = FederationSpec.from_bytes((home.folder / "spec.json").read_bytes())
        listing = PackedContribution(folder, spec, log).listing(session)
        scores = OwnerScores(folder, SeenHeads(home.folder)).kept()
        if "memorisation" in scores:
            found = Memorisation(scores["gain_trained"], scores["gain_held_out"])
            listing = replace(listing, memorisation=found)
        elif not is_import(folder, session):
            raise InputError(
                f"{concept} is packed and was not scored on its held-out images",
                why="the scoring failed or was cut off, so nobody knows what it learnt",
                fix="run orthofed client train again: it scores what is packed, or says what to"
                " train otherwise",
                code="not-scored",
            )
        with TrainView() as view:
            gate(listing, ask=view.accept if yes else view.ask)
        session, _ = flow.step(session, flow.Approved())
        save(folder, session)
        return session
