"""Makes adventurers/: `python -m study.build_adventurers --work DIR` in benchmarks/.

A second set of twelve people, in another style, so that no conclusion of the study rests on Open
Peeps alone. Sixteen drawings each in dicebear's Adventurer, laid out and captioned as
assets/pocket-concepts are. Nobody among them is in the pictures that the base was taught, nor among
the people of the identity embedder: both draw at random, and who they drew is drawn anew here and
compared. Needs node, npm and resvg_py as assets/build_base.py does. Deterministic.
"""

import argparse
from pathlib import Path

import numpy as np

from orthofed.assets import avatars, pictures
from orthofed.assets.concepts import BANNED

from .build_identity import invented

NUM_IMAGES = 16
FOLDER = Path(__file__).with_name("adventurers")
_BASES_SEED = 2026
PEOPLE = {
    "mia-b3": ("short12", "85c2c6", "f2d3b1"),
    "noel-t5": ("long13", "dba3be", "763900"),
    "olga-r8": ("long16", "3eac2c", "763900"),
    "pino-v2": ("short16", "ab2a18", "9e5622"),
    "quinn-d6": ("short03", "592454", "f2d3b1"),
    "rosa-k9": ("long06", "e5d7a3", "763900"),
    "sven-m1": ("long08", "afafaf", "ecad80"),
    "tara-w4": ("long19", "0e0e0e", "9e5622"),
    "ugo-h7": ("long23", "e07b20", "f2d3b1"),
    "vera-c5": ("short14", "ab2a18", "ecad80"),
    "wim-z8": ("long10", "85c2c6", "9e5622"),
    "yara-f2": ("short01", "3eac2c", "f2d3b1"),
}
"""Hair, its colour and the skin: what stays the same in all images of a person."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("../build/identity"))
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    known = {*map(who, _taught(work)), *map(who, _embedded(work))}
    assert not known & {*PEOPLE.values()}, "one of them is known to the base or to the judge"
    for number, (name, person) in enumerate(PEOPLE.items()):
        looks = _looks(work, person, np.random.default_rng([_BASES_SEED, 6, number]))
        pictures.lay_out(work, FOLDER / name, looks)


def who(avatar: avatars.Avatar) -> tuple[str, ...]:
    """Return hair, colour and skin of an Adventurer drawing."""
    options = avatar.options
    return tuple(str(options[key][0]) for key in ("hair", "hairColor", "skinColor"))  # pyright: ignore[reportIndexIssue]


def _taught(work: Path) -> list[avatars.Avatar]:
    rng = np.random.default_rng([_BASES_SEED, 1])
    people = pictures.peeps_and_adventurers(work, BANNED, rng)
    return [each for each in people if each.style == "adventurer"]


def _embedded(work: Path) -> list[avatars.Avatar]:
    return [looks[0] for looks in invented(work) if looks[0].style == "adventurer"]


def _looks(
    work: Path, person: tuple[str, str, str], rng: np.random.Generator
) -> list[avatars.Avatar]:
    """Return the drawings of one person: other faces, glasses and grounds, a caption of these."""
    hair, colour, skin = person
    hairs, looks = pictures.adventurer_hairs(work), []
    for _ in range(NUM_IMAGES):
        drawn = avatars.adventurer(rng, hairs).options
        drawn |= {"hair": [hair], "hairColor": [colour], "skinColor": [skin]}
        mouth = str(drawn["mouth"][0]).removeprefix("variant")  # pyright: ignore[reportIndexIssue]
        glasses = str(drawn["glasses"][0]) if drawn["glassesProbability"] else ""  # pyright: ignore[reportIndexIssue]
        worn = "" if not glasses else "sunglasses" if glasses == "variant01" else "glasses"
        ground = avatars.BACKGROUNDS[str(drawn["backgroundColor"][0])]  # pyright: ignore[reportIndexIssue]
        said = [avatars.ADVENTURER_MOUTH.get(mouth, ""), worn, f"{ground} background"]
        text = ", ".join(["an adventurer cartoon of a {}", *filter(None, said)])
        looks.append(avatars.Avatar("adventurer", drawn, text))
    return looks


if __name__ == "__main__":
    main()
