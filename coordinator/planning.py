"""``orthofed plan``: how many concepts fit and what one weighs, before anything exists.

From a base model's folder (headers only, no weight is read) or from the published configs alone
(core/published.py). The same rules make the spec (core/slots.py), so what is planned here is what
``coordinator init`` founds with the same options. Units: bytes; MB is 10^6 of them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..core.basis import Family
from ..core.epochs import check_epochs
from ..core.layer import Layer
from ..core.quiet import heard, with_quiet_columns
from ..core.slots import plan_ranks, upload_bytes
from ..core.spec import BaseModel, FederationSpec, check_widths
from ..core.targets import Targets
from .base import BaseFolder
from .columns import measured
from .kept import kept_as_dicts, kept_lines
from .overlap_price import OverlapPrice, after

_F16_BYTES = 2


@dataclass(frozen=True, slots=True)
class Planned:
    """The layers that ``targets`` adapts, the rank of each width, the number of slots.

    ``heard``: by width, the energy that a quiet slot's columns see, any column 1; empty: not asked.
    """

    targets: Targets
    layers: tuple[Layer, ...]
    ranks: dict[int, int]
    slots: int
    heard: dict[int, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        layers: Sequence[Layer],
        *,
        targets: Targets,
        rank: int | None,
        capacity: int | None,
        basis: Family = "hadamard",
        epochs: int = 1,
    ) -> "Planned":
        """Return the plan for ``layers``; rank and capacity as `plan_ranks` takes them.

        Raises SpecError: they do not fit, or the basis does not take a width or so many epochs.
        """
        check_epochs(epochs, basis, layers)
        ranks, slots = plan_ranks(layers, rank=rank, slots=capacity, epochs=epochs)
        check_widths(basis, layers)
        return cls(targets, tuple(layers), ranks, slots)

    def listened(self, base: BaseFolder, prompts: list[str]) -> "Planned":
        """Return the plan with what quiet slots hear while the base draws ``prompts``.

        The signs and the order of columns are those of one seed, a founded federation's are of
        another: the mean over a layer's columns is much the same. Raises OrthoFedError: no torch.
        """
        spec = FederationSpec(
            name="planned",
            base=BaseModel("other", "planned", "local", "0" * 64, "LicenseRef-unknown"),
            basis="hadamard",
            seed=bytes(32),
            ranks=tuple(sorted(self.ranks.items())),
            layers=tuple(sorted(self.layers)),
            encoders=base.encoders(),
            capacity=self.slots,
        )
        energies = measured(spec, base.root, prompts)
        return replace(self, heard=heard(with_quiet_columns(spec, energies), energies))

    @property
    def upload_bytes(self) -> int:
        """What one contribution sends: its A, without vectors and header (some kB)."""
        return upload_bytes(self.layers, self.ranks)

    @property
    def concept_bytes(self) -> int:
        """What one concept's own LoRA weighs: both sides, 16 bits, one rank in all layers."""
        rank = max(self.ranks.values())
        return _F16_BYTES * rank * sum(layer.out + layer.width for layer in self.layers)

    @property
    def price(self) -> OverlapPrice | None:
        """What concepts cost each other; None: nothing, since all slots are disjoint."""
        if all(self.slots <= width // rank for width, rank in self.ranks.items()):
            return None
        return OverlapPrice.of(self.layers, self.ranks, slots=self.slots)

    def as_dict(self) -> dict[str, object]:
        """Return what ``--json`` prints."""
        price = self.price
        return {
            "schema": "orthofed.plan/1",
            "targets": self.targets,
            "layers": len(self.layers),
            "components": self._components(),
            "widths": [
                {
                    "width": m,
                    "layers": count,
                    "rank": self.ranks[m],
                    "slots": m // self.ranks[m],
                    **({"heard": round(self.heard[m], 4)} if self.heard else {}),
                }
                for m, count in self._widths()
            ],
            "slots": self.slots,
            "upload_bytes": self.upload_bytes,
            "concept_lora_bytes": self.concept_bytes,
            **({"overlap": price.as_dict()} if price else {}),
            "kept": kept_as_dicts(),
        }

    def text(self) -> str:
        """Return what is printed for people: a row a width, then the sums."""
        rows = [
            f"{m:>6} {count:>7} {self.ranks[m]:>5} {m // self.ranks[m]:>6}"
            + (f" {self.heard[m]:>6.2f}" if self.heard else "")
            for m, count in self._widths()
        ]
        price = self.price
        is_full = self.slots == min(width // rank for width, rank in self.ranks.items())
        parts = ", ".join(f"{n} {name}" for name, n in self._components().items())
        return "\n".join(
            [
                " width  layers  rank  slots" + ("  heard" if self.heard else ""),
                *rows,
                "",
                f"layers  {len(self.layers):<7}  {parts}",
                f"slots   {self.slots:<7}  one concept each; "
                + ("they overlap" if price else "the narrowest layers decide"),
                f"upload  {self.upload_bytes / 1e6:<4.1f} MB  a concept, once",
                f"LoRA    {self.concept_bytes / 1e6:<4.1f} MB  a concept in a release, F16",
                *(
                    ["heard   a slot's columns, in inputs' energy; any column hears 1"]
                    * bool(self.heard)
                ),
                *(["", *price.lines()] if price else []),
                *([after(self.ranks)] if is_full and not self.heard else []),
                "",
                *kept_lines(),
            ]
        )

    def _widths(self) -> list[tuple[int, int]]:
        return sorted(Counter(layer.width for layer in self.layers).items())

    def _components(self) -> dict[str, int]:
        """Return the number of layers by component, the UNet first."""
        counts = Counter(layer.path.partition(".")[0] for layer in self.layers)
        return dict(sorted(counts.items(), key=lambda item: (item[0] != "unet", item[0])))
