"""What a pull cost and what it spared: bytes of files, without those that prove the ledger."""

from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """Bytes that were wanted, and that the other side gave; also those that were thrown away."""

    wanted_bytes: int = 0
    fetched_bytes: int = 0

    @property
    def saved_bytes(self) -> int:
        """How many bytes fewer came than were wanted: they were at home, or were made there."""
        return max(0, self.wanted_bytes - self.fetched_bytes)
