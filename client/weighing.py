"""Whether the federation would take what is packed, looked at before anything is sent.

The gates that need the bytes and the base alone, with the coordinator's own arithmetic
(core/sizes.py): a broken form or a heavy layer is refused here, with the reason and the advice that
the coordinator would give; what would go into quarantine is a warning beside the list of what
leaves, and the owner decides. Bounds are those that the coordinator tells; those that ship where it
does not, or where consumers look and not the coordinator (a private contribution). Cost: the norm
of each adapted weight, once a run. Not here: gates that need the others' contributions.
"""

from dataclasses import dataclass
from pathlib import Path

from ..core.bounds import Bounds
from ..core.layout import ContributionLayout, check_header, check_size
from ..core.sizes import Sizes, long_vector, over_budget, sizes_of
from .base_folder import BaseFolder


@dataclass(frozen=True, slots=True)
class Weighing:
    """What was weighed, by which bounds; ``is_told``: the coordinator named them."""

    sizes: Sizes
    bounds: Bounds
    is_told: bool

    @classmethod
    def of(
        cls, blob: bytes, layout: ContributionLayout, base: Path, *, told: Bounds | None
    ) -> "Weighing":
        """Return the weighing of a packed blob beside the base in ``base``.

        Raises ContributionRejected: the coordinator would refuse it. Raises InputError: the folder
        is not the spec's base.
        """
        bounds = Bounds() if told is None else told
        check_size(layout, len(blob))
        check_header(layout, blob[: len(layout.header)])
        sizes = sizes_of(
            layout,
            lambda offset, length: blob[offset : offset + length],
            norms=BaseFolder(base).measures(layout.spec),
            norm_percent=bounds.norm_percent,
        )
        return cls(sizes, bounds, told is not None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the owner: why it may wait for the operator, or hold a release."""
        found = (
            ("quarantine: ", long_vector(self.sizes, self.bounds)),
            ("a held release: ", over_budget(self.sizes, self.bounds)),
        )
        return tuple(f"{ends}{why}" for ends, why in found if why)

    def values(self) -> dict[str, object]:
        """Return the figures as one line of JSON holds them."""
        return {
            "norm_percent": self.sizes.norm_percent,
            "norm_allowed_percent": self.bounds.norm_percent,
            "embedding_percent": self.sizes.embedding_percent,
            "embedding_allowed_percent": self.bounds.embedding_percent,
            "told": self.is_told,
            "warnings": list(self.warnings),
        }
