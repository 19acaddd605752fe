"""Whether a command that asks its owner first has somebody to ask."""

import sys

from ..core.errors import InputError


def check_somebody_answers(*, yes: bool, as_json: bool) -> None:
    """Return if the owner said ``--yes`` or sits at this terminal and reads text.

    Raises InputError (option-missing): whoever runs this cannot be asked, and nothing was done.
    """
    if yes or (not as_json and sys.stdin.isatty()):
        return
    raise InputError(
        "--yes is missing",
        why="there is nobody to ask on this terminal",
        fix="run the same command with --yes",
        code="option-missing",
    )
