"""TOML text as a table: what the standard library reads, with one kind of error.

Law: text in, table or ValueError out, however deep a stranger nested it; reading the file and
saying whose settings they are is the caller's.
"""

import tomllib
from typing import Any


def parse_toml(text: str) -> dict[str, Any]:
    """Return the table of ``text``; every way in which it is no TOML is a ValueError.

    A byte order mark, as some editors write it, is no part of the first key.

    >>> parse_toml("steps = 3")
    {'steps': 3}
    """
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except RecursionError as error:
        raise ValueError("tables or lists nested too deep") from error
