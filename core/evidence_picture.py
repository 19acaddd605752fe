"""The pictures that the admission worker draws of a contribution that waits, and their names.

    <row>-<column>    row: one of three prompts, column: the base | the newest release | both

Laws: all pictures start from the same noise, so what differs in a row is the contribution's doing;
prompts are the concept's own trigger and two that are public, the same for everybody. A file is
pixels alone (sample_picture.py), at most ``MOST_BYTES`` (T5). Nobody but the operator sees them:
the contribution is in no release, and its owner may not have let it be shown (T25).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .errors import VerificationFailed
from .sample_picture import check_picture

MOST_SIDE: Final = 256
MOST_BYTES: Final = 256 << 10
ROWS: Final = {"trigger": "", "person": "a woman", "place": "a house by the sea"}
"""What is drawn, by row; the first is the concept's own triggers."""
COLUMNS: Final = {
    "base": "the base alone",
    "without": "the newest release without it",
    "with": "the newest release with it",
}
"""With what, by column; before the first release ``without`` is left out, ``with`` is it alone."""


@dataclass(frozen=True, slots=True)
class Place:
    """One picture of the table."""

    row: str
    column: str

    @property
    def name(self) -> str:
        """Return its name, which is that of its file too."""
        return f"{self.row}-{self.column}"


def places(*, has_release: bool) -> tuple[Place, ...]:
    """Return every picture of a contribution, row by row.

    >>> [each.name for each in places(has_release=False)][:3]
    ['trigger-base', 'trigger-with', 'person-base']
    """
    columns = [each for each in COLUMNS if has_release or each != "without"]
    return tuple(Place(row, column) for row in ROWS for column in columns)


def prompt_of(row: str, prompt: str, triggers: Sequence[str]) -> str:
    """Return the prompt of a row: the spec's ``prompt``, which asks in the style of the base.

    >>> prompt_of("trigger", "a photo of {}", ["anna-k7"])
    'a photo of anna-k7'
    >>> prompt_of("place", "a photo of {}", ["anna-k7"])
    'a photo of a house by the sea'
    """
    return prompt.replace("{}", ROWS[row] or " ".join(triggers))


def check_evidence(data: bytes) -> None:
    """Check one picture. Raises VerificationFailed ``bad-picture``."""
    if len(data) > MOST_BYTES:  # T5: size before parsing
        raise VerificationFailed(
            f"a picture of {len(data)} bytes",
            why=f"of a contribution at most {MOST_BYTES} bytes a picture are kept",
            fix="use the orthofed admit of this version, which draws smaller ones",
            code="bad-picture",
        )
    check_picture(data)
