"""Names that people type: concepts, triggers, titles; and which of them look alike.

A slug is NFKC, case-folded, NFKC again, and then ``[a-z0-9](-?[a-z0-9]){2,30}`` of at most 31
characters. Its skeleton is what the eye reads, letter by letter: hyphens fall away, ``0>o 1>l i>l
2>z 5>s 8>b 9>g``, and what looks like two letters becomes the two, ``m>rn w>vv d>cl``. So the
skeleton of a text is those of its parts, one after the other: ``vw``, ``wv`` and ``vvv`` have one,
where merging from the left made ``wv`` of the last. Law: two triggers of one federation never share
a skeleton, and none is a whole-part prefix of another (T23, I6); so nobody can take a name that
reads like another's. A change of the rule is a new format of the database (migrations.py).
Source: security.md 7. Not here: the unique index that decides a race (coordinator/store.py).
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from .errors import InputError, Refused

_SLUG = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,30}")
_SLUG_CHARACTERS: Final = 31
_TYPED_CHARACTERS: Final = 128
_LOOK_ALIKES: Final = str.maketrans("01i2589", "ollzsbg", "-") | str.maketrans(
    {"m": "rn", "w": "vv", "d": "cl"}
)
_TITLE_CHARACTERS: Final = 80
_NO_SCRIPT: Final = frozenset({"COMBINING", "FEMININE", "MASCULINE", "MICRO", "MODIFIER"})
_WIDTHS: Final = frozenset({"FULLWIDTH", "HALFWIDTH"})
_EAST_ASIAN: Final = frozenset({"BOPOMOFO", "CJK", "HANGUL", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC"})

RESERVED: Final = ("embedding", "lora")
"""Words with a meaning in the prompts of every program that loads our files."""
DEVICES: Final = frozenset(
    {"aux", "con", "nul", "prn"}
    | {f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789"}
)
"""File names that some systems take for a device, with any extension."""


def slug(text: str) -> str:
    """Return ``text`` as a slug.

    >>> slug("Anna-K7")
    'anna-k7'

    Raises InputError ``bad-name``, with a name to try where one is near.
    """
    folded = ""
    if len(text) <= _TYPED_CHARACTERS:  # T5: size before normalising
        folded = _normal(_normal(text).casefold())
    if len(folded) <= _SLUG_CHARACTERS and _SLUG.fullmatch(folded):
        return folded
    hint = _hint(folded)
    raise InputError(
        f"a name of {len(text)} characters that is no slug",
        why="names are 3 to 31 letters a-z, digits and single hyphens between them",
        fix=f"try {hint}" if hint else "choose another name, such as anna-k7",
        code="bad-name",
    )


def skeleton(slug: str) -> str:
    """Return what the eye reads in a slug; equal skeletons are one name.

    >>> skeleton("c0rn-1") == skeleton("coml")
    True
    """
    return slug.translate(_LOOK_ALIKES)


_RESERVED_SKELETONS: Final = frozenset(map(skeleton, RESERVED))


def prefixes(slug: str) -> tuple[str, ...]:
    """Return the skeletons of all whole-part prefixes of a slug, the slug itself last.

    >>> prefixes("ben-cat")
    ('ben', 'bencat')
    """
    parts = slug.split("-")
    return tuple(skeleton("-".join(parts[: n + 1])) for n in range(len(parts)))


def collide(one: str, other: str) -> bool:
    """Return whether two slugs look alike, or one is a whole-part prefix of the other.

    >>> collide("cat", "cat-2"), collide("cat", "cats")
    (True, False)
    """
    return skeleton(one) in prefixes(other) or skeleton(other) in prefixes(one)


def near(slug: str) -> tuple[tuple[str, ...], str]:
    """Return where to look for slugs that collide: skeletons, and what more of them begin with.

    So that nobody has to look at all.

    >>> near("ben-cat")
    (('ben', 'bencat'), 'bencat')
    """
    return prefixes(slug), skeleton(slug)


def check_trigger(trigger: str, *, taken: Iterable[str], reserved: Iterable[str]) -> None:
    """Check that a slug may be leased as a trigger.

    ``taken``: the slugs of every trigger ever leased, withdrawn ones too; their skeletons serve
    where a slug is not known, but say nothing about parts. ``reserved``: the spec's words, each
    one token of the base vocabulary.

    Raises InputError ``bad-name``: no slug. Raises Refused ``name-taken``.
    """
    if slug(trigger) != trigger:
        raise InputError(
            "a trigger in another spelling than its slug",
            why="one trigger has one spelling",
            fix=f"write {slug(trigger)}",
            code="bad-name",
        )
    read = skeleton(trigger)
    if trigger in DEVICES or read in _RESERVED_SKELETONS:
        raise _taken(trigger, "prompt parsers or file systems give it a meaning of its own")
    if trigger in reserved:
        raise _taken(trigger, "the base model already knows it as a word")
    # T23: for ever, also after a withdrawal.
    if any(collide(trigger, other) for other in taken):
        raise _taken(trigger, "it reads like a trigger of this federation, or extends one")


def check_title(title: str) -> str:
    """Return ``title`` in normal form C if it is fit to be shown.

    At most 80 code points; no control, format, bidirectional, private-use or unassigned character;
    one script besides Common (Han, kana, bopomofo and hangul count as one, as they are written
    together).

    Raises InputError ``bad-title``.
    """
    if len(title) > _TITLE_CHARACTERS * 4:  # T5: size before normalising
        raise _bad_title(f"a title of {len(title)} characters")
    normal = unicodedata.normalize("NFC", title)
    if not normal.strip() or len(normal) > _TITLE_CHARACTERS:
        raise _bad_title(f"a title of {len(normal)} characters")
    categories = {unicodedata.category(character) for character in normal}
    if any(c.startswith("C") or c in {"Zl", "Zp"} for c in categories):
        raise _bad_title("a title with a character that shows nothing, or changes what is shown")
    scripts = {script for character in normal if (script := _script(character))}
    if len(scripts) > 1:
        raise _bad_title(f"a title in {len(scripts)} scripts")
    return normal


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _hint(folded: str) -> str:
    """Return a slug near ``folded``, or nothing."""
    plain = unicodedata.normalize("NFKD", folded).encode("ascii", "ignore").decode("ascii")
    near = re.sub(r"[^a-z0-9]+", "-", plain)[:_SLUG_CHARACTERS].strip("-")
    return near if _SLUG.fullmatch(near) else ""


def _script(character: str) -> str:
    """Return the script of a letter by its Unicode name, or nothing for Common.

    The standard library has no table of scripts; an unknown first word counts as a script of its
    own, so a doubt refuses.
    """
    if unicodedata.category(character)[0] not in "LM":
        return ""
    words = unicodedata.name(character, "UNKNOWN").split("-")[0].split()
    first = words[1] if words[0] in _WIDTHS and len(words) > 1 else words[0]
    if first in _NO_SCRIPT:
        return ""
    return "CJK" if first in _EAST_ASIAN else first


def _taken(trigger: str, why: str) -> Refused:
    return Refused(
        f"the trigger {trigger} is not free",
        why=why,
        fix="choose another trigger; a digit after a hyphen helps, such as anna-k7",
        code="name-taken",
    )


def _bad_title(what: str) -> InputError:
    return InputError(
        what,
        why=f"a title is shown as text: 1 to {_TITLE_CHARACTERS} visible characters, one script",
        fix="shorten or retype the title",
        code="bad-title",
    )
