"""The command `orthofed client rotate`: a new member key for this home, text or JSON out.

Nothing slow is imported before it runs. Not here: how it is done (rotation.py).
"""

import json
from typing import Final

from .command_line import HomeOption, Json, Patience

ROTATE_EXAMPLE: Final = "Example: orthofed client rotate"


def rotate(
    home: HomeOption = None,
    as_json: Json = False,
    patience_s: Patience = 120,
) -> None:
    """Draw a new key for this home and let it take the old one's place. Again after a break."""
    from .home import Home
    from .rotation import rotate as carry_out

    done = carry_out(Home.at(home), patience_s=patience_s)
    if as_json:
        facts = {
            "schema": "orthofed.rotate/1",
            "old_member": done.old,
            "member": done.new,
            "epoch": done.epoch,
            "file": str(done.file),
        }
        print(json.dumps(facts))
        return
    print(f"member  {done.new}")
    print(f"before  {done.old}")
    print(f"keep a copy of {done.file}, and of the older ones beside it: what was contributed")
    print("under an old key is withdrawn by that key alone")
