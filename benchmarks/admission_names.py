"""Look-alikes of triggers: 10,000 of 50, and whether 1,000 honest ones stay apart (T23)."""

import random

from orthofed.core.errors import InputError, Refused
from orthofed.core.names import check_trigger, collide, skeleton, slug

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_ASCII = {
    "o": "0",
    "0": "o",
    "l": "1i",
    "i": "1l",
    "1": "li",
    "z": "2",
    "2": "z",
    "s": "5",
    "5": "s",
    "b": "8",
    "8": "b",
    "g": "9",
    "9": "g",
    "m": ("rn",),
    "w": ("vv",),
    "d": ("cl",),
}
_CYRILLIC = dict(zip("aceiojpsxyhdqw", "асеіојрѕхуһԁԛԝ", strict=True))  # noqa: RUF001  # the point
_GREEK = dict(zip("aeinoptuvx", "αεινορτυνχ", strict=True))  # as above
_LATIN = dict(zip("aeiouncs", "àéîöûñçš", strict=True))


def _wide(letter: str) -> str:
    return chr(ord(letter) + 0xFEE0)


def _bold(letter: str) -> str:
    return chr(0x1D41A + ord(letter) - ord("a")) if letter in _LETTERS else letter


def _fake(trigger: str, chance: random.Random) -> str:
    """Return the trigger with one to three letters that look the same, and perhaps a hyphen."""
    letters = list(trigger)
    for place in chance.sample(range(len(letters)), k=chance.randint(1, 3)):
        letter = letters[place]
        tables = (_ASCII, _CYRILLIC, _GREEK, _LATIN)
        choices = [c for table in tables for c in table.get(letter, "")]
        choices += [] if letter == "-" else [_wide(letter), _bold(letter), letter.upper()]
        letters[place] = chance.choice(choices or ["", "\u2010"])
    if chance.random() < 0.2:
        letters.insert(chance.randint(1, len(letters)), chance.choice(["-", "\u200b", "\u00ad"]))
    return "".join(letters)


def look_alikes(fakes: int = 10_000) -> dict[str, object]:
    """Return how many were refused, collided, or got through; and honest ones that collide."""
    chance = random.Random(7)  # noqa: S311  # test data
    honest = sorted(
        {"".join(chance.choices(_LETTERS, k=6)) + f"-k{chance.randint(2, 9)}" for _ in range(50)}
    )
    refused = taken = 0
    through: list[str] = []
    made = 0
    while made < fakes:
        trigger = honest[made % len(honest)]
        fake = _fake(trigger, chance)
        if fake == trigger:
            continue
        made += 1
        try:
            check_trigger(slug(fake), taken=honest, reserved=())
        except InputError:
            refused += 1
        except Refused:
            taken += 1
        else:
            through.append(fake)
    names = {"".join(chance.choices(_LETTERS, k=8)) for _ in range(1_000)}
    apart = len({skeleton(name) for name in names})
    pairs = sum(collide(a, b) for a, b in zip(sorted(names), sorted(names)[1:], strict=False))
    return {
        "look_alikes": fakes,
        "refused_as_no_name": refused,
        "refused_as_taken": taken,
        "through": len(through),
        "some_through": through[:5],
        "honest_names": len(names),
        "honest_collisions": len(names) - apart + pairs,
    }


if __name__ == "__main__":
    print(look_alikes())
