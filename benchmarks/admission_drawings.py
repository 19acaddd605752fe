"""Draw the concepts of the held-out set: people and things that no threshold was chosen on.

    python benchmarks/admission_drawings.py --federations 8     # 12 concepts each, seconds
    python benchmarks/admission_drawings.py --seed 4243         # others than were looked at before

Each federation has five Open Peeps, two Adventurers, two Toon Heads, a Big Smile and two animals of
emoji that the base has no name for; none of the twelve that ship. What stays the same in a
concept's images is drawn at random, the rest varies; an owner has 5 to 16 images. Needs node and
resvg_py, as assets/pictures.py does. Deterministic.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from orthofed.assets import avatars, emoji, pictures
from orthofed.assets.concepts import BANNED

SEED = 4242
STYLES = ("peep",) * 5 + ("adventurer",) * 2 + ("toon",) * 2 + ("smile",) + ("animal",) * 2
ANIMALS = {
    "otter": "dog", "sloth": "bear", "peacock": "bird", "skunk": "cat", "badger": "dog",
    "beaver": "bear", "mammoth": "elephant", "dodo": "bird", "llama": "sheep", "gorilla": "monkey",
    "orangutan": "monkey", "raccoon": "cat", "rhinoceros": "elephant", "hippopotamus": "cow",
    "crocodile": "lizard", "swan": "bird", "rooster": "chicken", "squid": "octopus",
}  # fmt: skip
"""Animals that the base was not taught, and the class noun that an owner would give."""
_HELD = {
    "adventurer": ("hair", "hairColor", "skinColor", "eyes", "eyebrows"),
    "toon": ("hair", "hairColor", "skinColor", "rearHair", "rearHairProbability", "beard"),
    "smile": ("hair", "hairColor", "skinColor"),
}
"""What makes a person of each style the same one in all its images."""
_SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo yu za".split()  # noqa: SIM905


def name_of(rng: np.random.Generator) -> str:
    """Return a trigger such as somebody makes up: two or three syllables and a code."""
    word = "".join(rng.choice(_SYLLABLES, size=int(rng.integers(2, 4))))
    return f"{word}-{rng.choice(list('hkmnpqrtvx'))}{rng.integers(2, 10)}"


def people(
    style: str, rng: np.random.Generator, hairs: list[str], count: int
) -> list[avatars.Avatar]:
    """Return ``count`` drawings of one person, all else drawn anew each time."""
    makers = {
        "peep": lambda: avatars.peep(rng, BANNED),
        "adventurer": lambda: avatars.adventurer(rng, hairs),
        "toon": lambda: avatars.toon(rng),
        "smile": lambda: avatars.big_smile(rng),
    }
    first = makers[style]()
    done = []
    for _ in range(count):
        other = makers[style]()
        if style == "peep":
            held = {k: first.options[k] for k in ("head", "skinColor", "headContrastColor")}
            beard = {k: v for k, v in first.options.items() if k.startswith("facialHair")}
            options = {k: v for k, v in other.options.items() if not k.startswith("facialHair")}
            options |= held | beard
        else:
            options = other.options | {
                k: first.options[k] for k in _HELD[style] if k in first.options
            }
        done.append(replace(other, options=options, caption=_caption(other.caption)))
    return done


def _caption(text: str) -> str:
    """Return the caption with the trigger's place, and only what varies: ground and clothes."""
    opening, *rest = text.split(", ")
    opening = opening.partition(" with ")[0].replace("person", "{}")
    return ", ".join([opening, *(p for p in rest if p.endswith(("background", "shirt")))])


def animal(name: str, rng: np.random.Generator, work: Path, count: int) -> list[tuple[str, str]]:
    """Return SVG and caption of ``count`` pictures of one animal, one vendor's drawing."""
    found = json.loads(
        (pictures.install(work) / "node_modules/@iconify-json/noto/icons.json").read_text()
    )
    plain = {"left": 0, "top": 0, "width": found["width"], "height": found["height"]}
    icon = plain | found["icons"][name]
    drawn = [emoji.picture(rng, name, icon) for _ in range(count)]
    return [(svg, text.replace(f"an {name}", "a {}").replace(name, "{}")) for svg, text in drawn]


def draw(number: int, folder: Path, work: Path, animals: list[str], *, seed: int) -> None:
    """Write the twelve folders of one federation, and what is known of them."""
    hairs = pictures.adventurer_hairs(work)
    about = []
    for slot, style in enumerate(STYLES):
        rng = np.random.default_rng([seed, number, slot])
        name, count = name_of(rng), int(rng.integers(5, 17))
        place = folder / f"{slot:02d}-{name}"
        place.mkdir(parents=True, exist_ok=True)
        noun = "person"
        if style == "animal":
            beast = animals.pop()
            noun = ANIMALS[beast]
            drawn = animal(beast, rng, work, count)
        else:
            they = people(style, rng, hairs, count)
            drawn = [
                (svg, each.caption)
                for svg, each in zip(pictures.avatar_svgs(work, they), they, strict=True)
            ]
        for i, (svg, text) in enumerate(drawn):
            Image.fromarray(pictures.rasterise(svg)).save(place / f"{i:02d}.png", optimize=True)
            (place / f"{i:02d}.txt").write_text(text + "\n")
        about.append({"name": name, "slot": slot, "style": style, "noun": noun, "images": count})
    (folder / "concepts.json").write_text(json.dumps(about, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="draw the held-out concepts")
    parser.add_argument("--federations", type=int, default=8)
    parser.add_argument("--into", type=Path, default=Path("build/held-out/drawings"))
    parser.add_argument("--work", type=Path, default=Path("build/held-out/npm"))
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    seed = options.seed
    animals = [str(x) for x in np.random.default_rng(seed).permutation(sorted(ANIMALS))]
    for number in range(1, options.federations + 1):
        draw(number, options.into / str(number), options.work, animals, seed=seed)
        print(f"federation {number} drawn", file=sys.stderr)


if __name__ == "__main__":
    main()
