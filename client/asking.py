"""The question that a command asks its owner first, and whether there is somebody to ask.

Law: only a written yes is one; an empty line, another word or the end of the input is a no.
Questions go to stderr, since stdout is for results.
"""

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


def says_yes(question: str) -> bool:
    """Ask on this terminal, and return whether the owner says yes."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
