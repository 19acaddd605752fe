"""The command `orthofed client give-back`. Nothing slow is imported before it runs."""

import json
from typing import Final

from .command_line import ConceptName, HomeOption, Json, Patience

GIVE_BACK_EXAMPLE: Final = "Example: orthofed client give-back anna-k7"


def give_back(
    concept: ConceptName,
    home: HomeOption = None,
    as_json: Json = False,
    patience_s: Patience = 120,
) -> None:
    """Free the slot of a concept that you will not send; its training stays at home."""
    from .giving_back import give_back as carry_out
    from .home import Home

    done = carry_out(Home.at(home), concept, patience_s=patience_s)
    if as_json:
        facts = {"schema": "orthofed.give-back/1", "concept": done.concept}
        print(json.dumps({**facts, "slot": done.slot, "fence": done.fence}))
        return
    print(f"slot {done.slot} of {done.concept} is given back; what was trained stays at home")
