"""Why the operator keeps something out, in words that its owner reads in ``client status``.

Law: a reason is checked where it is typed, by the rule by which the owner's side reads it
(proto/checks.py); one that is stored is one that arrives. Line ends of any system become ours.
"""

from typing import Final

from ..core.errors import InputError
from ..proto import checks

MOST: Final = 1_000
"""Characters of a reason; the wire takes 1,024."""


def reason(text: str, *, least: int = 1, most: int = MOST) -> str:
    r"""Return ``text`` without spaces around it, its lines ended by \n.

    Raises InputError: too short, too long, or with a character that does not print.
    """
    told = text.strip().replace("\r\n", "\n").replace("\r", "\n")
    if not least <= len(told) <= most:
        raise _bad(f"a reason of {len(told)} characters", f"its owner reads it: {least} to {most}")
    if strange := checks.strange(told):
        raise _bad(
            f"a reason with the character U+{ord(strange):04X}",
            "its owner's terminal prints it, so it has printable characters only",
        )
    return told


def _bad(what: str, why: str) -> InputError:
    return InputError(
        what,
        why=why,
        fix="say in one plain sentence what is wrong",
        code="bad-reason",
    )
