"""Which words of the base's vocabulary no trigger may be.

A trigger that is one token of the base would change the meaning of an existing word
(security.md 7). Only whole words count (``fox</w>``), and only those that a slug could spell.
Law: the answer is sorted and without repeats, whatever the order of the vocabulary.
"""

import re
from collections.abc import Iterable

_WORD = re.compile(r"([a-z0-9](?:-?[a-z0-9]){2,30})</w>")
_MAX_LENGTH = 31


def reserved_words(vocab: Iterable[str]) -> tuple[str, ...]:
    """Return the vocabulary's whole words that match the slug grammar, sorted.

    >>> reserved_words(["fox</w>", "fo", "a</w>", "cat</w>", "!</w>"])
    ('cat', 'fox')
    """
    words = {match[1] for token in vocab if (match := _WORD.fullmatch(token)) is not None}
    return tuple(sorted(word for word in words if len(word) <= _MAX_LENGTH))
