"""The two sets of people that the study teaches, and what their pictures are asked for by.

    peeps         the twelve of the demo, Open Peeps; 5 to 16 images each
    adventurers   twelve of another style, Adventurer (build_adventurers.py); 16 images each

The base knows both styles, and nobody of either set. `{}` is where a concept's words go.
"""

from dataclasses import dataclass
from pathlib import Path

_ASSETS = Path(__file__).parent.parent.parent / "assets"


@dataclass(frozen=True, slots=True)
class PeopleSet:
    """``folder``: one folder a person. ``drawing``: how the base calls such a picture."""

    folder: Path
    drawing: str
    looks: tuple[str, ...]

    @property
    def prompts(self) -> tuple[str, ...]:
        """What pictures are judged by: looks that are no part of anybody."""
        drawn = tuple(f"{self.drawing} of {{}}, {look}" for look in self.looks)
        return (*drawn[:4], "a picture of {}", *drawn[4:])


SETS = {
    "peeps": PeopleSet(
        _ASSETS / "pocket-concepts",
        "a peeps drawing",
        (
            "smiling, green shirt",
            "angry, red shirt, yellow background",
            "sunglasses, pink background",
            "calm, blue shirt, white background",
            "laughing, orange shirt, purple background",
        ),
    ),
    "adventurers": PeopleSet(
        Path(__file__).with_name("adventurers"),
        "an adventurer cartoon",
        (
            "smiling, green background",
            "tongue out, yellow background",
            "sunglasses, pink background",
            "surprised, white background",
            "glasses, purple background",
        ),
    ),
}
