"""The command `orthofed client withdraw`: the question in permitted words, text or JSON out.

Nothing slow is imported before it runs. Not here: what a withdrawal does (withdrawal.py).
"""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .command_line import ConceptName, HomeOption, Json, Patience

if TYPE_CHECKING:
    from .withdrawal import Contribution

WITHDRAW_EXAMPLE: Final = "Example: orthofed client withdraw anna-k7"


def withdraw(
    concept: ConceptName,
    home: HomeOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Withdraw without asking.")] = False,
    as_json: Json = False,
    patience_s: Patience = 120,
) -> None:
    """Take your contribution out of the next releases. Run again to go on after a break."""
    from .asking import check_somebody_answers
    from .home import Home
    from .withdrawal import withdraw as carry_out

    check_somebody_answers(yes=yes, as_json=as_json)
    ask = _accept if yes else _ask
    done = carry_out(Home.at(home), concept, ask=ask, patience_s=patience_s)
    if as_json:
        facts = {
            "schema": "orthofed.withdraw/1",
            "concept": done.contribution.concept,
            "slot": done.contribution.slot,
            "leaf": done.contribution.leaf,
            "withdrawal_leaf": done.leaf,
            "receipt_sha256": done.sha256,
            "receipt_file": str(done.receipt),
        }
        print(json.dumps(facts))
        return
    print(f"{done.contribution.concept} is withdrawn: leaf {done.leaf} of the ledger, receipt kept")


def _accept(found: "Contribution") -> bool:
    _explain(found)
    return True


def _ask(found: "Contribution") -> bool:
    from .asking import says_yes

    _explain(found)
    return says_yes(f"Withdraw {found.concept}, for good?")


def _explain(found: "Contribution") -> None:
    from ..core.promises import AFTER_WITHDRAWAL, COPIES_REMAIN

    print(f"{found.concept}: slot {found.slot}, leaf {found.leaf} of the ledger", file=sys.stderr)
    print(f"{AFTER_WITHDRAWAL} {COPIES_REMAIN}", file=sys.stderr)
    print("The ledger keeps the signed entry, with names and hashes.", file=sys.stderr)
    print("The names stay yours: the concept can be taught anew.", file=sys.stderr)
