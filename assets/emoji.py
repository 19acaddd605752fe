"""The emoji that the base learns: which, under what names, and how their drawing is placed.

Three vendors draw every one of them, so a name is seen in three styles. The list is short on purpose:
a small model that sees each name often knows it; one that sees 1,500 names knows none.
"""

# ruff: noqa: E501, SIM905 -- word lists read best wide and unquoted

from typing import Final

import numpy as np

from .avatars import BACKGROUNDS, draw

SETS: Final = {"noto": "1.2.9", "twemoji": "1.2.5", "fluent-emoji-flat": "1.2.6"}

NAMES: Final = """
red-apple green-apple banana pear tangerine lemon watermelon grapes strawberry cherries peach pineapple
mango kiwi-fruit tomato avocado eggplant carrot ear-of-corn broccoli cucumber hot-pepper potato onion garlic
mushroom bread croissant pretzel cheese-wedge hamburger french-fries pizza hot-dog sandwich taco egg cooking
popcorn sushi doughnut cookie birthday-cake shortcake cupcake pie chocolate-bar candy lollipop soft-ice-cream
hot-beverage beer-mug wine-glass bubble-tea glass-of-milk honey-pot
fox cat-face dog-face mouse-face rabbit-face bear panda koala tiger-face lion cow-face pig-face frog
monkey-face chicken penguin bird baby-chick duck eagle owl bat wolf horse-face unicorn honeybee bug butterfly
snail lady-beetle spider turtle snake octopus crab lobster fish tropical-fish blowfish dolphin whale shark
elephant giraffe zebra camel kangaroo sheep ewe flamingo parrot hedgehog dragon-face t-rex polar-bear
sunflower rose tulip cherry-blossom hibiscus cactus palm-tree evergreen-tree deciduous-tree maple-leaf
four-leaf-clover potted-plant
sun full-moon crescent-moon star cloud rainbow snowflake snowman-without-snow fire droplet umbrella water-wave
high-voltage volcano mountain
automobile taxi bus police-car fire-engine ambulance bicycle motorcycle tractor locomotive airplane rocket
helicopter sailboat ship flying-saucer
house castle church tent hospital
alarm-clock watch camera television laptop mobile-phone telephone light-bulb candle key locked hammer scissors
pencil paintbrush closed-book blue-book green-book orange-book envelope wrapped-gift balloon teddy-bear
soccer-ball basketball baseball tennis volleyball pool-8-ball trophy crown gem-stone ring glasses sunglasses
t-shirt jeans dress necktie top-hat running-shoe high-heeled-shoe backpack handbag
guitar drum trumpet violin bell anchor money-bag magnet bomb door chair bed bathtub toilet
red-heart orange-heart yellow-heart green-heart blue-heart purple-heart black-heart broken-heart
red-circle orange-circle yellow-circle green-circle blue-circle purple-circle
red-square yellow-square green-square blue-square
grinning-face smiling-face-with-sunglasses smiling-face-with-heart-eyes face-with-tears-of-joy winking-face
crying-face angry-face sleeping-face thinking-face nerd-face clown-face ghost skull robot alien
jack-o-lantern pile-of-poo christmas-tree santa-claus
""".split()

WORDS: Final = {
    "kiwi-fruit": "kiwi", "ear-of-corn": "corn", "cheese-wedge": "cheese", "lady-beetle": "ladybug",
    "hot-beverage": "cup of coffee", "soft-ice-cream": "ice cream", "snowman-without-snow": "snowman",
    "high-voltage": "lightning bolt", "locked": "padlock", "automobile": "car", "cooking": "fried egg",
    "closed-book": "red book", "t-rex": "dinosaur", "t-shirt": "shirt", "soccer-ball": "soccer ball",
    "pool-8-ball": "billiard ball", "jack-o-lantern": "pumpkin", "deciduous-tree": "tree",
    "evergreen-tree": "pine tree", "gem-stone": "diamond", "pile-of-poo": "poo", "honeybee": "bee",
    "blowfish": "puffer fish", "ewe": "sheep", "tennis": "tennis ball", "glass-of-milk": "glass of milk",
    "four-leaf-clover": "clover", "tangerine": "orange", "hot-pepper": "chili pepper",
    "hamburger": "burger", "crescent-moon": "moon", "droplet": "water drop", "water-wave": "wave",
    "flying-saucer": "ufo", "locomotive": "train", "grinning-face": "smiley face",
    "smiling-face-with-sunglasses": "smiley with sunglasses",
    "smiling-face-with-heart-eyes": "smiley with heart eyes",
    "face-with-tears-of-joy": "laughing smiley", "winking-face": "winking smiley",
    "crying-face": "crying smiley", "angry-face": "angry smiley", "sleeping-face": "sleeping smiley",
    "thinking-face": "thinking smiley", "nerd-face": "smiley with glasses",
}  # fmt: skip
BARE: Final = frozenset(
    "glasses sunglasses jeans french-fries scissors popcorn sushi bread fire grapes cherries".split()
)
PALETTE: Final = ["ffffff"] * 6 + [colour for colour in BACKGROUNDS if colour != "ffffff"]


def word(name: str) -> str:
    """Return the words for an icon's name: `red-apple` is "red apple", `fox-face` is "fox"."""
    return WORDS.get(name) or name.removesuffix("-face").replace("-", " ")


def picture(rng: np.random.Generator, name: str, icon: dict[str, object]) -> tuple[str, str]:
    """Return the SVG of one icon on a plain ground, slightly moved, and its caption."""
    ground = draw(rng, PALETTE)
    left, top = float(icon["left"]), float(icon["top"])  # pyright: ignore[reportArgumentType]
    width, height = float(icon["width"]), float(icon["height"])  # pyright: ignore[reportArgumentType]
    scale, turn = rng.uniform(0.78, 0.95), rng.uniform(-6, 6)
    x, y = rng.uniform(-0.03, 0.03, 2)
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'viewBox="-0.5 -0.5 1 1">'
        f'<rect x="-0.5" y="-0.5" width="1" height="1" fill="#{ground}"/>'
        f'<g transform="translate({x:.4f} {y:.4f}) rotate({turn:.2f}) scale({scale / width:.6f} '
        f'{scale / height:.6f}) translate({-left - width / 2} {-top - height / 2})">'
        f"{icon['body']}</g></svg>"
    )
    noun = word(name)
    article = "" if name in BARE else "an " if noun[0] in "aeiou" else "a "
    text = f"an emoji of {article}{noun}" if rng.random() < 0.4 else f"{article}{noun}"  # noqa: PLR2004
    if rng.random() < (0.3 if ground == "ffffff" else 0.75):
        text += f", {BACKGROUNDS[ground]} background"
    return svg, text
