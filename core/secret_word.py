"""A secret that people copy and paste as one word: an invite, a concept's share.

    PREFIX + base64url(CJ{...})

Law: ``read_word`` gives back the body of ``written_word``, and the word has one spelling. Whoever
reads the word has what it gives, so an error says how long a bad one is and never repeats it (T27).
Source: security.md 3. Not here: what the body holds (core/invite.py, client/share_text.py).
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from .canonical import decode, decode_base64, encode, encode_base64
from .errors import InputError, VerificationFailed

MOST_CHARACTERS: Final = 16 << 10
"""The longest word that is read."""
_T = TypeVar("_T")


def written_word(prefix: str, body: Mapping[str, object]) -> str:
    """Return the one spelling of ``body`` as a word."""
    return prefix + encode_base64(encode(body))


def read_word(
    text: str, prefix: str, read: Callable[[object], _T], *, bad: Callable[[str], InputError]
) -> _T:
    """Return what ``read`` makes of the body of a word that a person pasted.

    Raises InputError, which ``bad`` makes of what is wrong: another prefix, too long, or a body
    that ``read`` or the canonical form refuses.
    """
    word = text.strip()
    if len(word) > MOST_CHARACTERS or not word.startswith(prefix):  # T5: size before parsing
        raise bad(f"of {len(word)} characters")
    try:
        return read(decode(decode_base64(word.removeprefix(prefix))))
    except VerificationFailed as error:
        raise bad("that is damaged") from error
