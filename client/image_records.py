"""The owner's images as records of a DP training: each with a gradient of its own.

A record is an image with its caption, its mask and all its copies (augment.py). Drawn once, it
takes one of the copies, one timestep and one noise, and none of that hangs on another record.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .adapter import Adapter
from .batches import Batch
from .captioned import Captioned
from .dp_draws import DpDraws
from .passes import Passes
from .per_image import PerImage
from .tokens import LearnedTokens


@dataclass(slots=True)
class ImageRecords:
    """The records of one run; ``losses`` are those of the images drawn since it was emptied."""

    passes: Passes
    adapter: Adapter
    tokens: LearnedTokens
    images: Sequence[Captioned]
    draws: DpDraws
    losses: list[float] = field(default_factory=list[float])

    @property
    def count(self) -> int:
        """How many images there are."""
        return len(self.images)

    def gradients(self, chosen: Sequence[int]) -> Iterator[list[Tensor]]:
        """Yield the gradients of the images ``chosen``, `batch` at a time, one shape a pass."""
        for images, batch in self.drawn(chosen):
            each = PerImage(self.passes.base, self.adapter, self.tokens, len(images))
            with each.attached():
                losses = self.passes.image_losses(batch, each.encode)
                yield each.gradients(losses)
            self.losses += losses.detach().cpu().tolist()

    def drawn(self, chosen: Sequence[int]) -> Iterator[tuple[list[int], Batch]]:
        """Yield passes over the images ``chosen``, each with the images that are its rows."""
        random = torch.Generator().manual_seed(self.draws.seed())
        for bucket, rows in self._rows(chosen, random).items():
            for at in range(0, len(rows), self.passes.settings.batch):
                some = rows[at : at + self.passes.settings.batch]
                places = [row for _, row in some]
                batch = self.passes.material.batches.drawn(bucket, places, random)
                yield [image for image, _ in some], batch

    def _rows(
        self, chosen: Sequence[int], random: torch.Generator
    ) -> dict[int, list[tuple[int, int]]]:
        """Return images with the rows to take of each bucket: of every image one of its copies."""
        sizes = [item.size for item in self.images]
        counts, buckets = Counter(sizes), list(dict.fromkeys(sizes))
        seen, places = Counter[tuple[int, int]](), list[int]()
        for size in sizes:  # images of one size lie in their order; behind all of them, the copies
            places.append(seen[size])
            seen[size] += 1
        rows = dict[int, list[tuple[int, int]]]()
        for image in chosen:
            size = sizes[image]
            bucket, count = buckets.index(size), counts[size]
            copies = len(self.passes.material.batches.buckets[bucket].latents) // count
            copy = int(torch.randint(copies, (), generator=random))
            rows.setdefault(bucket, []).append((image, copy * count + places[image]))
        return rows
