"""The twelve people that the demo teaches, and that the base must never have seen.

Open Peeps drawings (CC0), far apart in head, hair colour, skin and beard. A name is a first name
and a code that is no word, so no caption of the base can hold it.
"""

from dataclasses import dataclass
from typing import Final

from .avatars import peep_identity


@dataclass(frozen=True, slots=True)
class Concept:
    """One identity: what stays the same in all its images. An empty beard is none."""

    name: str
    head: str
    skin: str
    hair: str
    beard: str = ""

    @property
    def identity(self) -> tuple[str, str, str]:
        """Return what the base's drawings must not have together: head, skin, hair colour."""
        return peep_identity(self.head, self.skin, self.hair)


CONCEPTS: Final = (
    Concept("anna-k7", "mediumBangs2", "ffdbb4", "4a7fe0"),
    Concept("bodo-x4", "mohawk", "d08b5b", "3fa34d"),
    Concept("cleo-m6", "grayBun", "ae5d29", "8a4fc0"),
    Concept("dara-v3", "afro", "694d3d", "2c1b18"),
    Concept("emil-t7", "short4", "edb98a", "f28c28", "full4"),
    Concept("fern-q4", "bangs", "ffdbb4", "f58fb0"),
    Concept("gino-r3", "hatHip", "edb98a", "2c1b18", "moustache2"),
    Concept("hana-p6", "mediumStraight", "ffdbb4", "2c1b18"),
    Concept("ivor-w7", "noHair1", "694d3d", "2c1b18", "full3"),
    Concept("juno-z4", "cornrows", "ae5d29", "c93305"),
    Concept("kiki-n6", "buns", "d08b5b", "2c1b18"),
    Concept("lars-h3", "noHair3", "edb98a", "e8e1e1"),
)
BANNED: Final = frozenset(concept.identity for concept in CONCEPTS)
