"""What a network is told beside the noisy latents: n rows that are chosen and joined together.

    text      (n, length, width)    features of the prompts, always there
    pooled    (n, p)                one vector a prompt, where the family has one (SDXL)
    time_ids  (n, 6)                sizes and crop of the image, where the family asks (SDXL)

Law: whatever picks or joins rows does it to all three, so a row never meets another row's sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Conditioning:
    """The conditions of n latents, row by row."""

    text: Tensor
    pooled: Tensor | None = None
    time_ids: Tensor | None = None

    def __len__(self) -> int:
        """Return n."""
        return len(self.text)

    def __getitem__(self, rows: slice | Tensor | list[int]) -> "Conditioning":
        """Return the conditions of some rows, in the order asked for; a row may come twice."""
        if not isinstance(rows, slice):
            rows = torch.as_tensor(rows, device=self.text.device)
        return Conditioning(
            self.text[rows],
            None if self.pooled is None else self.pooled[rows],
            None if self.time_ids is None else self.time_ids[rows],
        )

    def to(self, device: torch.device) -> "Conditioning":
        """Return the same rows on ``device``."""
        pooled = None if self.pooled is None else self.pooled.to(device)
        times = None if self.time_ids is None else self.time_ids.to(device)
        return Conditioning(self.text.to(device), pooled, times)

    @staticmethod
    def cat(parts: Sequence["Conditioning"]) -> "Conditioning":
        """Return the rows of all ``parts``, which are of one family, one after the other."""
        pooled = [part.pooled for part in parts if part.pooled is not None]
        time_ids = [part.time_ids for part in parts if part.time_ids is not None]
        return Conditioning(
            torch.cat([part.text for part in parts]),
            torch.cat(pooled) if pooled else None,
            torch.cat(time_ids) if time_ids else None,
        )
