"""Draw up avatars: dicebear options with a caption that says in plain words what they show.

Every style is a table from the option's value to words; an attribute without words is drawn and not
named. Captions share one grammar, "<opening> person, <expression>, <accessory>, <facial hair>, <hair>,
<skin>, <clothes>, <background>", and leave attributes out at random, since concepts are trained with
short captions. Pure: randomness is the Generator that comes in.
"""

# ruff: noqa: E501 -- tables of words read best wide

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

BACKGROUNDS: Final = {
    "b6e3f4": "light blue", "ffd5dc": "pink", "cdbdf0": "purple", "ffd9a8": "orange",
    "ffffff": "white", "fff1a8": "yellow", "c2edc8": "green", "d9dce0": "gray",
}  # fmt: skip

PEEPS_SKIN: Final = {
    "ffdbb4": "pale", "edb98a": "light", "d08b5b": "tan", "ae5d29": "brown", "694d3d": "dark",
}  # fmt: skip
PEEPS_CLOTHES: Final = {
    "e7605a": "red", "ffb057": "orange", "fdea6b": "yellow", "78e185": "green", "62c9c6": "teal",
    "8fa7df": "blue", "f29ad8": "pink", "a57bd9": "purple", "fafafa": "white", "9aa0a6": "gray",
}  # fmt: skip
PEEPS_HAIR: Final = {
    "2c1b18": "black", "e8e1e1": "white", "ecd27a": "blond", "f58fb0": "pink", "7a4a2b": "brown",
    "c93305": "red", "f28c28": "orange", "4a7fe0": "blue", "3fa34d": "green", "8a4fc0": "purple",
}  # fmt: skip
# {c} is the hair colour, which few heads take; {s} is the colour of the clothes. The weight comes last.
PEEPS_HEAD: Final = {
    "afro": ("black afro", 1.5), "bangs": ("long {c} hair", 4.0), "bangs2": ("black bob", 1.0),
    "bantuKnots": ("black hair knots", 1.0), "bear": ("bear costume", 0.5),
    "bun": ("black hair with a ribbon", 1.0), "bun2": ("black hair bun", 1.0),
    "buns": ("black hair buns", 1.0), "cornrows": ("long {c} braids", 2.0),
    "cornrows2": ("black braids", 1.0), "dreads1": ("black dreads", 1.0),
    "dreads2": ("black dreads", 1.0), "flatTop": ("black flat top", 1.0),
    "flatTopLong": ("tall black flat top", 1.0), "grayBun": ("{c} hair bun", 3.0),
    "grayMedium": ("medium {c} hair", 3.0), "grayShort": ("short {c} hair", 3.5),
    "hatBeanie": ("{s} beanie", 1.2), "hatHip": ("black hat", 1.2), "hijab": ("black hijab", 1.0),
    "long": ("long wavy black hair", 1.0), "longAfro": ("big black afro", 0.8),
    "longBangs": ("long black hair", 1.0), "longCurly": ("long curly black hair", 1.0),
    "medium1": ("black bob", 1.0), "medium2": ("medium black hair", 0.7),
    "medium3": ("medium black hair", 0.7), "mediumBangs": ("medium black hair", 0.7),
    "mediumBangs2": ("curly {c} hair", 4.0), "mediumBangs3": ("messy black hair", 0.7),
    "mediumStraight": ("long straight black hair", 1.0), "mohawk": ("{c} mohawk", 2.5),
    "mohawk2": ("spiky {c} mohawk", 1.5), "noHair1": ("shaved head", 1.0),
    "noHair2": ("bald head", 1.0), "noHair3": ("bald head with {c} hair", 1.2),
    "pomp": ("black quiff", 1.0), "shaved1": ("black undercut", 0.7),
    "shaved2": ("black undercut", 0.7), "shaved3": ("messy black hair", 0.7),
    "short1": ("short black hair", 1.0), "short2": ("short black hair", 1.0),
    "short3": ("short black hair", 0.7), "short4": ("wavy {c} quiff", 3.0),
    "short5": ("short spiky black hair", 1.0), "turban": ("{s} turban", 1.0),
    "twists": ("short black twists", 1.0), "twists2": ("short black twists", 1.0),
}  # fmt: skip
PEEPS_FACE: Final = {
    "smile": ("smiling", 6.0), "smileBig": ("big smile", 2.0), "smileTeethGap": ("grinning", 1.5),
    "smileLOL": ("laughing", 1.5), "lovingGrin1": ("in love", 0.8), "lovingGrin2": ("in love", 0.8),
    "calm": ("calm", 1.0), "cheeky": ("cheeky", 1.0), "cute": ("content", 1.0),
    "eatingHappy": ("eating", 0.8), "eyesClosed": ("eyes closed", 1.0), "serious": ("serious", 1.2),
    "angryWithFang": ("angry", 0.8), "veryAngry": ("angry", 1.5), "rage": ("shouting", 1.0),
    "fear": ("scared", 0.8), "concernedFear": ("scared", 0.8), "concerned": ("worried", 1.0),
    "awe": ("amazed", 1.0), "blank": ("bored", 1.0), "contempt": ("sleepy", 0.8),
    "driven": ("determined", 1.0), "explaining": ("talking", 1.0), "hectic": ("shocked", 1.0),
    "solemn": ("sad", 1.5), "suspicious": ("suspicious", 1.0), "tired": ("tired", 1.0),
}  # fmt: skip
PEEPS_ACCESSORY: Final = {
    "glasses": "glasses", "glasses2": "glasses", "glasses3": "glasses", "glasses4": "white glasses",
    "glasses5": "glasses", "sunglasses": "sunglasses", "sunglasses2": "sunglasses",
    "eyepatch": "eyepatch",
}  # fmt: skip
PEEPS_BEARD: Final = {
    "chin": "black beard", "full": "black beard", "full2": "black beard", "full3": "black beard",
    "full4": "{c} beard", "goatee1": "goatee", "goatee2": "goatee", "moustache2": "moustache",
    "moustache3": "moustache", "moustache5": "moustache", "moustache6": "moustache",
    "moustache7": "moustache", "moustache8": "curly moustache",
}  # fmt: skip

ADVENTURER_HAIR_COLOUR: Final = {
    "ac6511": "brown", "ab2a18": "red", "e5d7a3": "blond", "6a4e35": "brown", "0e0e0e": "black",
    "afafaf": "gray", "3eac2c": "green", "85c2c6": "blue", "dba3be": "pink", "592454": "purple",
    "e07b20": "orange",
}  # fmt: skip
ADVENTURER_SKIN: Final = {"f2d3b1": "pale", "ecad80": "light", "9e5622": "brown", "763900": "dark"}
ADVENTURER_HAIR: Final = {
    "short12": "{c} mohawk", "short15": "{c} mohawk", "short16": "spiky {c} hair",
    "short03": "curly {c} hair", "short17": "curly {c} hair", "short18": "curly {c} hair",
    "short19": "shaved head", "long10": "{c} hair bun", "long13": "{c} hair bun",
    "long23": "{c} hair buns", "long15": "{c} pigtails", "long16": "{c} braid",
    "long19": "{c} ponytail", "long03": "{c} hair with flowers", "long08": "{c} hair with flowers",
    "long06": "long wavy {c} hair", "long22": "wavy {c} hair", "long17": "wavy {c} hair",
}  # fmt: skip
ADVENTURER_MOUTH: Final = {
    **dict.fromkeys(("01", "05", "22", "23", "25", "26", "27", "30"), "smiling"),
    **dict.fromkeys(("12", "16"), "tongue out"),
    **dict.fromkeys(("07", "18"), "surprised"),
    **dict.fromkeys(("03", "09", "10", "11"), ""),
}

TOON_CLOTHES: Final = {
    "545454": "gray", "b11f1f": "red", "0b3286": "blue", "147f3c": "green", "eab308": "yellow",
    "731ac3": "purple", "ec4899": "pink", "f97316": "orange", "151613": "black", "e8e9e6": "white",
}  # fmt: skip
TOON_HAIR_COLOUR: Final = {
    "2c1b18": "black", "a55728": "red", "b58143": "brown", "d6b370": "blond", "724133": "brown",
}  # fmt: skip
TOON_SKIN: Final = {"f1c3a5": "light", "c68e7a": "tan", "a36b4f": "brown", "5c3829": "dark"}
TOON_HAIR: Final = {
    "sideComed": "short {c} hair", "undercut": "{c} undercut", "spiky": "spiky {c} hair",
    "bun": "{c} hair bun",
}  # fmt: skip
TOON_REAR: Final = {
    "longStraight": "long straight {c} hair", "longWavy": "long wavy {c} hair",
    "shoulderHigh": "medium {c} hair", "neckHigh": "{c} bob",
}  # fmt: skip
TOON_MOUTH: Final = {
    "laugh": "laughing", "angry": "angry", "agape": "surprised", "smile": "smiling", "sad": "sad",
}  # fmt: skip
TOON_BEARD: Final = {
    "moustacheTwirl": "moustache", "fullBeard": "{c} beard", "chin": "goatee",
    "chinMoustache": "goatee", "longBeard": "long {c} beard",
}  # fmt: skip
TOON_DRESS: Final = {
    "turtleNeck": "sweater", "openJacket": "jacket", "dress": "dress", "shirt": "jacket",
    "tShirt": "shirt",
}  # fmt: skip

SMILE_HAIR_COLOUR: Final = {
    "220f00": "black", "71472d": "brown", "e2ba87": "blond", "605de4": "blue", "238d80": "green",
    "d56c0c": "orange", "e9b729": "yellow",
}  # fmt: skip
SMILE_SKIN: Final = {"ffe4c0": "pale", "e2ba87": "light", "a47539": "brown", "643d19": "dark"}
SMILE_HAIR: Final = {
    "shortHair": "short {c} hair", "mohawk": "{c} mohawk", "wavyBob": "wavy {c} hair",
    "bowlCutHair": "{c} bowl cut", "curlyBob": "curly {c} hair", "straightHair": "long {c} hair",
    "braids": "{c} braids", "shavedHead": "shaved head", "bunHair": "{c} hair bun",
    "froBun": "{c} hair bun", "bangs": "{c} bob", "halfShavedHead": "{c} undercut",
    "curlyShortHair": "short curly {c} hair",
}  # fmt: skip
SMILE_ACCESSORY: Final = {
    "catEars": "cat ears", "glasses": "glasses", "sailormoonCrown": "tiara",
    "clownNose": "clown nose", "sleepMask": "sleep mask", "sunglasses": "sunglasses",
    "faceMask": "face mask", "mustache": "moustache",
}  # fmt: skip
SMILE_MOUTH: Final = {
    "openedSmile": "smiling", "unimpressed": "bored", "gapSmile": "smiling", "openSad": "sad",
    "teethSmile": "grinning", "awkwardSmile": "grinning", "braces": "braces", "kawaii": "content",
}  # fmt: skip
SMILE_EYES: Final = {
    "cheery": "", "normal": "", "starstruck": "amazed", "winking": "winking", "sleepy": "sleepy",
    "sad": "sad", "angry": "angry",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Avatar:
    """One drawing to make: dicebear's style and options, its caption, and who it shows.

    `identity` is (head, skin, hair colour) for Open Peeps, the style the concepts come from; None else.
    """

    style: str
    options: dict[str, object]
    caption: str
    identity: tuple[str, str, str] | None = None


def draw(rng: np.random.Generator, table: Mapping[str, object] | Sequence[str]) -> str:
    """Return one key of the table; a tuple's last number, where there is one, is its weight."""
    keys = list(table)
    if isinstance(table, Mapping) and isinstance(table[keys[0]], tuple):
        weights = np.array([table[key][-1] for key in keys], float)  # pyright: ignore[reportIndexIssue]
        return keys[int(rng.choice(len(keys), p=weights / weights.sum()))]
    return keys[int(rng.integers(len(keys)))]


def jitter(rng: np.random.Generator) -> dict[str, object]:
    """Return dicebear's options for a small shift (percent), scale (percent) and turn (degrees)."""
    return {
        "scale": int(rng.integers(90, 107)),
        "rotate": int(rng.integers(-6, 7)) % 360,
        "translateX": int(rng.integers(-5, 6)),
        "translateY": int(rng.integers(-3, 6)),
    }


def caption(rng: np.random.Generator, opening: str, phrases: list[str], *, keep: float) -> str:
    """Return the opening and the kept phrases; glasses and hair are sometimes said as "with ..."."""
    kept = [phrase for phrase in phrases if phrase and rng.random() < keep]
    movable = [i for i, p in enumerate(kept) if p.endswith(("glasses", "hair", "beard", "mohawk"))]
    if movable and rng.random() < 0.35:  # noqa: PLR2004
        moved = kept.pop(movable[int(rng.integers(len(movable)))])
        article = "" if moved.endswith(("glasses", "hair")) else "a "
        return ", ".join([f"{opening} with {article}{moved}", *kept])
    return ", ".join([opening, *kept])


def detail(rng: np.random.Generator) -> float:
    """Return the share of attributes to name: none in one caption of twelve, all in a third."""
    return float(rng.choice([0.0, 0.35, 0.7, 1.0], p=[0.08, 0.22, 0.36, 0.34]))


def peep(rng: np.random.Generator, banned: frozenset[tuple[str, str, str]]) -> Avatar:
    """Return a random Open Peeps drawing whose identity is not banned."""
    while True:
        head, skin = draw(rng, PEEPS_HEAD), draw(rng, PEEPS_SKIN)
        hair, clothes = draw(rng, PEEPS_HAIR), draw(rng, PEEPS_CLOTHES)
        who = peep_identity(head, skin, hair)
        if who not in banned:
            break
    face, ground = draw(rng, PEEPS_FACE), draw(rng, BACKGROUNDS)
    accessory = draw(rng, PEEPS_ACCESSORY) if rng.random() < 0.35 else ""  # noqa: PLR2004
    beard = draw(rng, PEEPS_BEARD) if rng.random() < 0.22 else ""  # noqa: PLR2004
    opening = str(
        rng.choice(
            ["a peeps drawing of a person", "a person", "a drawing of a person"],
            p=[0.6, 0.3, 0.1],
        )
    )
    phrases = [
        PEEPS_FACE[face][0],
        PEEPS_ACCESSORY.get(accessory, ""),
        PEEPS_BEARD.get(beard, "").format(c=PEEPS_HAIR[hair]),
        PEEPS_HEAD[head][0].format(c=PEEPS_HAIR[hair], s=PEEPS_CLOTHES[clothes]),
        f"{PEEPS_SKIN[skin]} skin",
        f"{PEEPS_CLOTHES[clothes]} shirt",
        f"{BACKGROUNDS[ground]} background",
    ]
    options = peep_options(head, skin, hair, face, clothes, ground, accessory, beard)
    return Avatar(
        "openPeeps",
        options | jitter(rng),
        caption(rng, opening, phrases, keep=detail(rng)),
        who,
    )


def peep_identity(head: str, skin: str, hair: str) -> tuple[str, str, str]:
    """Return (head, skin, hair colour), the colour empty where the head is not drawn in it."""
    return head, skin, hair if "{c}" in PEEPS_HEAD[head][0] else ""


def peep_options(
    head: str,
    skin: str,
    hair: str,
    face: str,
    clothes: str,
    ground: str,
    accessory: str,
    beard: str,
) -> dict[str, object]:
    """Return dicebear's options for an Open Peeps drawing without a mask; "" means none."""
    options: dict[str, object] = {
        "head": [head], "skinColor": [skin], "headContrastColor": [hair], "face": [face],
        "clothingColor": [clothes], "backgroundColor": [ground], "maskProbability": 0,
        "accessoriesProbability": 100 if accessory else 0,
        "facialHairProbability": 100 if beard else 0, "seed": "orthofed",
    }  # fmt: skip
    if accessory:
        options["accessories"] = [accessory]
    if beard:
        options["facialHair"] = [beard]
    return options


def adventurer(rng: np.random.Generator, hairs: list[str]) -> Avatar:
    """Return a random Adventurer drawing; `hairs` are the style's hair variants."""
    hair, colour, skin = (
        draw(rng, hairs),
        draw(rng, ADVENTURER_HAIR_COLOUR),
        draw(rng, ADVENTURER_SKIN),
    )
    mouth = f"{rng.integers(1, 31):02d}"
    if rng.random() < 0.3:  # noqa: PLR2004
        mouth = str(rng.choice(["01", "05", "22", "23", "25", "26"]))
    glasses = f"variant{rng.integers(1, 6):02d}" if rng.random() < 0.3 else ""  # noqa: PLR2004
    ground = draw(rng, BACKGROUNDS)
    plain = "long {c} hair" if hair.startswith("long") else "short {c} hair"
    phrases = [
        ADVENTURER_MOUTH.get(mouth, ""),
        "" if not glasses else "sunglasses" if glasses == "variant01" else "glasses",
        ADVENTURER_HAIR.get(hair, plain).format(c=ADVENTURER_HAIR_COLOUR[colour]),
        f"{ADVENTURER_SKIN[skin]} skin",
        f"{BACKGROUNDS[ground]} background",
    ]
    options: dict[str, object] = {
        "hair": [hair], "hairColor": [colour], "skinColor": [skin], "mouth": [f"variant{mouth}"],
        "eyes": [f"variant{rng.integers(1, 27):02d}"],
        "eyebrows": [f"variant{rng.integers(1, 16):02d}"],
        "glasses": [glasses or "variant02"], "glassesProbability": 100 if glasses else 0,
        "featuresProbability": 0, "earringsProbability": 0, "backgroundColor": [ground],
        "seed": "orthofed",
    }  # fmt: skip
    opening = "an adventurer cartoon of a person" if rng.random() < 0.85 else "a person"  # noqa: PLR2004
    return Avatar(
        "adventurer", options | jitter(rng), caption(rng, opening, phrases, keep=detail(rng))
    )


def toon(rng: np.random.Generator) -> Avatar:
    """Return a random Toon Head drawing."""
    colour, skin, cloth = draw(rng, TOON_HAIR_COLOUR), draw(rng, TOON_SKIN), draw(rng, TOON_CLOTHES)
    rear = draw(rng, TOON_REAR) if rng.random() < 0.4 else ""  # noqa: PLR2004
    hair = draw(rng, ["sideComed", "undercut"] if rear else list(TOON_HAIR))
    beard = draw(rng, TOON_BEARD) if not rear and rng.random() < 0.3 else ""  # noqa: PLR2004
    mouth, dress, ground = draw(rng, TOON_MOUTH), draw(rng, TOON_DRESS), draw(rng, BACKGROUNDS)
    brows = {"angry": "angry", "sad": "sad", "agape": "raised"}.get(mouth, "neutral")
    look = TOON_REAR[rear] if rear else TOON_HAIR[hair]
    phrases = [
        TOON_MOUTH[mouth],
        TOON_BEARD.get(beard, "").format(c=TOON_HAIR_COLOUR[colour]),
        look.format(c=TOON_HAIR_COLOUR[colour]),
        f"{TOON_SKIN[skin]} skin",
        f"{TOON_CLOTHES[cloth]} {TOON_DRESS[dress]}",
        f"{BACKGROUNDS[ground]} background",
    ]
    options: dict[str, object] = {
        "hair": [hair], "hairColor": [colour], "skinColor": [skin], "clothesColor": [cloth],
        "clothes": [dress], "mouth": [mouth], "eyebrows": [brows],
        "eyes": [draw(rng, ["happy", "wide", "wide", "bow", "humble"])],
        "rearHairProbability": 100 if rear else 0, "beardProbability": 100 if beard else 0,
        "rearHair": [rear or "neckHigh"], "beard": [beard or "chin"], "backgroundColor": [ground],
        "seed": "orthofed",
    }  # fmt: skip
    opening = "a toon cartoon of a person" if rng.random() < 0.85 else "a person"  # noqa: PLR2004
    return Avatar(
        "toonHead", options | jitter(rng), caption(rng, opening, phrases, keep=detail(rng))
    )


def big_smile(rng: np.random.Generator) -> Avatar:
    """Return a random Big Smile drawing."""
    hair, colour, skin = draw(rng, SMILE_HAIR), draw(rng, SMILE_HAIR_COLOUR), draw(rng, SMILE_SKIN)
    mouth, eyes, ground = draw(rng, SMILE_MOUTH), draw(rng, SMILE_EYES), draw(rng, BACKGROUNDS)
    accessory = draw(rng, SMILE_ACCESSORY) if rng.random() < 0.5 else ""  # noqa: PLR2004
    phrases = [
        SMILE_MOUTH[mouth] if accessory != "faceMask" else "",
        SMILE_EYES[eyes] if accessory not in {"sleepMask", "sunglasses"} else "",
        SMILE_ACCESSORY.get(accessory, ""),
        SMILE_HAIR[hair].format(c=SMILE_HAIR_COLOUR[colour]),
        f"{SMILE_SKIN[skin]} skin",
        f"{BACKGROUNDS[ground]} background",
    ]
    options: dict[str, object] = {
        "hair": [hair], "hairColor": [colour], "skinColor": [skin], "mouth": [mouth],
        "eyes": [eyes], "accessories": [accessory or "glasses"],
        "accessoriesProbability": 100 if accessory else 0, "backgroundColor": [ground],
        "seed": "orthofed",
    }  # fmt: skip
    opening = "a big head cartoon of a person" if rng.random() < 0.85 else "a person"  # noqa: PLR2004
    return Avatar(
        "bigSmile", options | jitter(rng), caption(rng, opening, phrases, keep=detail(rng))
    )
