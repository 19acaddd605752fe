"""One word that calls a concept, and the tokens that it is for a text encoder.

A trigger ``anna-k7`` with two vectors is two tokens, ``anna-k7`` and ``anna-k7_1`` (diffusers'
spelling, formats.md 5.1). What they mean is learnt in tokens.py; nothing here loads torch.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger word and how many vectors it has (1 to 8)."""

    name: str
    vectors: int = 2

    @property
    def words(self) -> tuple[str, ...]:
        """The tokens: the name, then the name with _1, _2 and so on."""
        return (self.name, *(f"{self.name}_{k}" for k in range(1, self.vectors)))
