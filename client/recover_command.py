"""The command `orthofed client recover`: a home from nothing but its master key.

Nothing slow is imported before it runs. Not here: how it is done (recovery.py).
"""

import json
from dataclasses import asdict
from typing import Final

from .command_line import HomeOption, Json, Patience

RECOVER_EXAMPLE: Final = "Example: orthofed client recover"


def recover(
    home: HomeOption = None,
    as_json: Json = False,
    patience_s: Patience = 120,
) -> None:
    """Find every contribution of this home's master keys again, so that it can be withdrawn."""
    from .home import Home
    from .recovery import recover as find

    found = find(Home.at(home), patience_s=patience_s)
    if as_json:
        facts = [asdict(each) for each in found]
        print(json.dumps({"schema": "orthofed.recover/1", "contributions": facts}))
        return
    for each in found:
        new = "found" if each.is_new else "known"
        print(f"{each.concept}  {new}, slot {each.slot}, leaf {each.leaf}, {each.state}")
    print(f"{len(found)} contributions of the master keys here")
