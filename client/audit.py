"""Who contributed which share of a LoRA or a checkpoint, and what of it is nobody's.

For each adapted layer the change M is taken apart by the slots that a release leased
(core/extraction.py), one layer at a time. Laws: the shares add up to 1 with what is outside; a slot
*matches* when in every layer ||A_found - lambda A_sent|| is within the rounding floor of the file's
type (core/change.py), A_sent being the integers that its client signed; whatever else stands in the
file, a module that nobody adapts or a tensor without a meaning, is named and counts as outside.
Source: method.md 5; T4, T11, T15. Cost: core/extraction.py's a layer. Not here: reading files.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ..core.change import Change
from ..core.extraction import LayerParts, extract
from ..core.merging import Part
from ..core.spec import FederationSpec, Layer

Verdict = Literal["matches", "another weight", "differs", "absent", "not compared"]


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

    ``share`` of the whole energy; ``lambda_found`` None without the contribution; ``error`` and
    ``floor`` relative to what was sent, in the layer where they are worst, ``layer``.
    """

    leased: Leased
    verdict: Verdict
    share: float
    lambda_found: float | None = None
    error: float = 0.0
    floor: float = 0.0
    layer: str = ""


@dataclass(frozen=True, slots=True)
class Outside:
    """What no leased slot holds. Shares are of the whole energy.

    ``floor``: the share that rounding alone can leave; ``layer``: where it is exceeded most, empty
    where nowhere; ``free``: what lies in slots that nobody leased.
    """

    share: float
    free: float
    floor: float
    layer: str


@dataclass(frozen=True, slots=True)
class Findings:
    """All that an audit found. ``foreign``: modules that the federation does not adapt, by share.

    ``strange``: what is not understood, by name.
    """

    slots: tuple[SlotFinding, ...]
    outside: Outside
    foreign: tuple[tuple[str, float], ...]
    strange: tuple[str, ...]
    energy: float
    layers: int

    @property
    def clean(self) -> bool:
        """Whether every part of the file is a contribution's, as the release says."""
        fine = ("matches", "absent", "not compared")
        return (
            not self.outside.layer
            and not self.foreign
            and not self.strange
            and all(found.verdict in fine for found in self.slots)
        )


@dataclass(slots=True)
class _Sum:
    """What the layers so far hold of one slot; squared norms but for ``worst``."""

    energy: float = 0.0
    found: float = 0.0
    floor: float = 0.0
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
    _layers: int = 0
    _outside: float = 0.0
    _free: float = 0.0
    _floor: float = 0.0
    _worst: tuple[float, str] = (1.0, "")
    _foreign: dict[str, float] = field(default_factory=dict[str, float])
    _strange: list[str] = field(default_factory=list[str])

    def add(self, layer: Layer, change: Change) -> None:
        """Take one layer's change apart."""
        slots = [each.slot for each in self.leased]
        found = extract(self.spec, layer, change, leased=slots)
        self._layers += 1
        self._energy += found.energy
        self._outside += found.outside
        self._free += found.free
        self._floor += found.floor**2
        excess = _over(math.sqrt(found.outside), found.floor)
        if excess > self._worst[0]:
            self._worst = (excess, layer.path)
        for each in self.leased:
            self._slot(each, layer, found)

    def add_foreign(self, modules: Iterable[tuple[str, float]]) -> None:
        """Count modules that are not the federation's, each with its energy."""
        for name, energy in modules:
            self._foreign[name] = energy
            self._energy += energy
            self._outside += energy

    def add_strange(self, names: Iterable[str]) -> None:
        """Name what is not understood."""
        self._strange += names

    def findings(self) -> Findings:
        """Return what was found."""
        whole = self._energy or 1.0
        return Findings(
            slots=tuple(self._finding(each, whole) for each in self.leased),
            outside=Outside(
                self._outside / whole, self._free / whole, self._floor / whole, self._worst[1]
            ),
            foreign=tuple(
                sorted(
                    ((name, energy / whole) for name, energy in self._foreign.items()),
                    key=lambda each: -each[1],
                )
            ),
            strange=tuple(self._strange),
            energy=self._energy,
            layers=self._layers,
        )

    def _slot(self, leased: Leased, layer: Layer, found: LayerParts) -> None:
        mine, total = found.slots[leased.slot], self._sums.setdefault(leased.slot, _Sum())
        total.energy += mine.energy
        total.found += float(np.sum(mine.a**2))
        total.floor += mine.floor**2
        part = self.parts.get(leased.slot)
        if part is None:
            return
        sent = part.sent(layer)
        total.dot += float(np.sum(mine.a * sent))
        total.sent += float(np.sum(sent**2))
        error = float(np.linalg.norm(mine.a - sent * (leased.lambda_1024 / 1024)))
        excess = _over(error, mine.floor)
        if excess > total.worst:
            size = float(np.linalg.norm(sent)) * leased.lambda_1024 / 1024 or 1.0
            total.worst, total.layer = excess, layer.path
            total.error, total.allowed = error / size, mine.floor / size

    def _finding(self, leased: Leased, whole: float) -> SlotFinding:
        total = self._sums.get(leased.slot, _Sum())
        plain = SlotFinding(leased, "not compared", total.energy / whole)
        if total.found <= total.floor:
            return replace(plain, verdict="absent")
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


def _over(size: float, floor: float) -> float:
    """Return a norm in units of its floor."""
    if floor:
        return size / floor
    return math.inf if size else 0.0
