"""Who contributed which share of a LoRA or a checkpoint, and what of it is nobody's.

For each adapted layer the change M is taken apart by the slots that a release leased
(core/extraction.py), one layer at a time. Laws: the shares add up to 1 with what is outside; a slot
*matches* when in every layer ||A_found - lambda A_sent|| is within the rounding floor of the file's
type (core/change.py), A_sent being the integers that its client signed; whatever else stands in the
file, a module that nobody adapts or a tensor without a meaning, is named and counts as outside.
Where slots of several bases cannot be told apart (core/extraction.py), nothing is said of any of
them: with all contributions at hand the layer is compared with their sum, else it is left open.
Source: method.md 5; T4, T11, T15. Cost: core/extraction.py's a layer. Not here: reading files.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ..core.change import Change
from ..core.extraction import LayerParts, extract, summed
from ..core.merging import Part
from ..core.spec import FederationSpec, Layer
from .audit_sums import Sums, Together, over

Verdict = Literal[
    "matches", "another weight", "differs", "absent", "not compared", "in the sum", "cannot be told"
]
"""``in the sum``: told apart in no layer, and what was sent adds up to the file in all of them."""


@dataclass(frozen=True, slots=True)
class Leased:
    """One slot of the release that a file is audited against.

    ``leaf``, ``client``: of its concept's first owner; ``parts``: leaf and lambda of each owner's.
    """

    slot: int
    leaf: int
    concept: str
    client: str
    lambda_1024: int
    parts: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class SlotFinding:
    """What the file holds of one slot.

    ``share`` of the energy of all layers where slots are told apart, None in no layer;
    ``lambda_found`` None without the contribution; ``error`` and ``floor`` relative to what was
    sent, in the layer where they are worst, ``layer``.
    """

    leased: Leased
    verdict: Verdict
    share: float | None
    lambda_found: float | None = None
    error: float = 0.0
    floor: float = 0.0
    layer: str = ""


@dataclass(frozen=True, slots=True)
class Outside:
    """What no leased slot holds. Shares are of the energy of layers where slots are told apart.

    ``floor``: the share that rounding alone can leave; ``layer``: where it is exceeded most, empty
    where nowhere; ``free``: what lies in slots that nobody leased, None where these overlap.
    """

    share: float
    free: float | None
    floor: float
    layer: str


@dataclass(frozen=True, slots=True)
class Findings:
    """All that an audit found. ``foreign``: modules that the federation does not adapt, by share.

    ``strange``: what is not understood, by name. ``overlap``: whether the slots are of several
    bases; a share then says what a slot adds to the energy beside the others, also below 0.
    """

    slots: tuple[SlotFinding, ...]
    outside: Outside
    foreign: tuple[tuple[str, float], ...]
    strange: tuple[str, ...]
    energy: float
    layers: int
    together: Together
    overlap: bool

    @property
    def refuted(self) -> bool:
        """Whether some of the file is not what the release says."""
        return bool(
            self.outside.layer
            or self.foreign
            or self.strange
            or self.together.layer
            or any(found.verdict in {"another weight", "differs"} for found in self.slots)
        )

    @property
    def told(self) -> bool:
        """Whether every part of the file was compared with what the release says of it."""
        open_ = any(found.verdict in {"cannot be told", "not compared"} for found in self.slots)
        return not self.together.untold and not open_

    @property
    def shares_only(self) -> bool:
        """Whether all that is open is what a contribution that is not here would tell.

        Nothing lies outside of leased slots then, and nobody looked at what is in some of them.
        """
        hidden = any(found.verdict == "cannot be told" for found in self.slots)
        return not (self.refuted or self.told or self.together.untold or hidden)

    @property
    def clean(self) -> bool:
        """Whether every part of the file is a contribution's, as the release says."""
        return self.told and not self.refuted


@dataclass(slots=True)
class _Sum:
    """What the layers so far hold of one slot; squared norms but for ``worst``."""

    energy: float = 0.0
    found: float = 0.0
    floor: float = 0.0
    plain: float = 0.0  # the floor as it would be without any other slot
    dot: float = 0.0
    sent: float = 0.0
    worst: float = -1.0
    error: float = 0.0
    allowed: float = 0.0
    layer: str = ""


@dataclass(slots=True)
class Audit:
    """An audit under way: ``add`` each layer's change, then ``findings``.

    ``parts``: the contributions that are at hand, by slot.
    """

    spec: FederationSpec
    leased: tuple[Leased, ...]
    parts: Mapping[int, Part]
    _sums: dict[int, _Sum] = field(default_factory=dict[int, _Sum])
    _energy: float = 0.0
    _apart: float = 0.0
    _layers: int = 0
    _outside: float = 0.0
    _free: float | None = 0.0
    _floor: float = 0.0
    _overlap: bool = False
    _sums_only: Sums = field(default_factory=Sums)
    _worst: tuple[float, str] = (1.0, "")
    _foreign: dict[str, float] = field(default_factory=dict[str, float])
    _strange: list[str] = field(default_factory=list[str])

    def add(self, layer: Layer, change: Change) -> None:
        """Take one layer's change apart."""
        slots = [each.slot for each in self.leased]
        self._overlap |= len({self.spec.epoch(layer, slot) for slot in slots}) > 1
        found = extract(self.spec, layer, change, leased=slots)
        self._layers += 1
        self._energy += found.energy
        if not found.apart:
            sent = {
                each.slot: self.parts[each.slot].sent(layer) * (each.lambda_1024 / 1024)
                for each in self.leased
                if each.slot in self.parts
            }
            whole = len(sent) == len(self.leased)
            self._sums_only.add(layer, summed(self.spec, layer, change, sent) if whole else None)
            return
        self._apart += found.energy
        self._outside += found.outside
        self._free = None if found.free is None else (self._free or 0.0) + found.free
        self._floor += found.floor**2
        excess = over(math.sqrt(found.outside), found.floor)
        if excess > self._worst[0]:
            self._worst = (excess, layer.path)
        for each in self.leased:
            self._slot(each, layer, found)

    def add_foreign(self, modules: Iterable[tuple[str, float]]) -> None:
        """Count modules that are not the federation's, each with its energy."""
        for name, energy in modules:
            self._foreign[name] = energy
            self._energy += energy
            self._apart += energy
            self._outside += energy

    def add_strange(self, names: Iterable[str]) -> None:
        """Name what is not understood."""
        self._strange += names

    def findings(self) -> Findings:
        """Return what was found."""
        whole = self._apart or 1.0
        free = None if self._free is None else self._free / whole
        return Findings(
            slots=tuple(self._finding(each, whole) for each in self.leased),
            outside=Outside(self._outside / whole, free, self._floor / whole, self._worst[1]),
            foreign=tuple(
                sorted(
                    ((name, energy / whole) for name, energy in self._foreign.items()),
                    key=lambda each: -each[1],
                )
            ),
            strange=tuple(self._strange),
            energy=self._energy,
            layers=self._layers,
            together=self._sums_only.together,
            overlap=self._overlap,
        )

    def _slot(self, leased: Leased, layer: Layer, found: LayerParts) -> None:
        mine, total = found.slots[leased.slot], self._sums.setdefault(leased.slot, _Sum())
        total.energy += mine.energy
        total.found += float(np.sum(mine.a**2))
        total.floor += mine.floor**2
        total.plain += (mine.floor / mine.enlarged) ** 2
        part = self.parts.get(leased.slot)
        if part is None:
            return
        sent = part.sent(layer)
        total.dot += float(np.sum(mine.a * sent))
        total.sent += float(np.sum(sent**2))
        error = float(np.linalg.norm(mine.a - sent * (leased.lambda_1024 / 1024)))
        excess = over(error, mine.floor)
        if excess > total.worst:
            size = float(np.linalg.norm(sent)) * leased.lambda_1024 / 1024 or 1.0
            total.worst, total.layer = excess, layer.path
            total.error, total.allowed = error / size, mine.floor / size

    def _finding(self, leased: Leased, whole: float) -> SlotFinding:
        total = self._sums.get(leased.slot)
        if total is None:
            found = SlotFinding(leased, self._sums_only.said(leased.slot), None)
        else:
            found = self._found(leased, total, whole)
        against = self._sums_only.against(leased.slot, absent=found.verdict == "absent")
        if against and found.verdict != "cannot be told":
            return replace(found, verdict="differs", error=1.0, floor=0.0, layer=against)
        return found

    def _found(self, leased: Leased, total: _Sum, whole: float) -> SlotFinding:
        """Return what the layers say where slots are told apart."""
        plain = SlotFinding(leased, "not compared", total.energy / whole)
        if total.found <= total.floor:  # overlap makes noise loud enough to drown a concept
            verdict = "absent" if total.found <= total.plain else "cannot be told"
            return replace(plain, verdict=verdict)
        if leased.slot not in self.parts:
            return plain
        share = total.dot / total.sent if total.sent else 0.0
        # With the weight found instead of the one said; squared norms, so no more than 1e-8 exact.
        shape = max(total.found - share * total.dot, 0.0)
        # One layer that is off moves the weight of all by less than rounding does: no other weight.
        off = abs(share - leased.lambda_1024 / 1024) * math.sqrt(total.sent)
        verdict: Verdict = "differs"
        if total.worst <= 1.0:
            verdict = "matches"
        elif shape <= total.floor + 1e-14 * total.found and off > math.sqrt(total.floor):
            verdict = "another weight"
        return replace(
            plain,
            verdict=verdict,
            lambda_found=share,
            error=total.error,
            floor=total.allowed,
            layer=total.layer,
        )
