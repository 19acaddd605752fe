"""What a contribution and each other one do to each other's triggers, and how alike they are.

Law: every pair is measured once, when the later one is committed, and kept with its figures, so
that a release only adds numbers up (together.py). Accepted, pending and quarantined ones are
measured alike: whatever the operator approves later has its numbers. Rejected and superseded ones
are looked at for likeness alone, a concept's own earlier ones not at all. Source: security.md 8
(retention), T14. Cost: O(layers (m + n) r) a pair, and one read of the text-reading layers of every
other blob, unless `Company` still has it. Not here: what the numbers mean (judge.py); private
slots, whose bytes nobody here can read.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..core.crosstalk import Heard, floor_of, response, share, text_readers
from ..core.document import parse
from ..core.layout import ContributionLayout
from ..core.quantise import dequantise
from . import admission, contribution_rows
from .contribution_rows import ContributionState
from .house import House
from .lease_rows import Lease

_MOST_BYTES = 128 << 20
_SEEN: tuple[ContributionState, ...] = (
    *("accepted", "pending", "quarantined", "rejected", "superseded"),
)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another contribution beside the measured one; shares and likeness in hundredths.

    ``to_it``: of what it does on its own trigger, the share that the measured one does there too;
    negative cancels; of the floor where it does next to nothing (core/crosstalk.py). ``from_it``:
    the same the other way round. ``alike``: the larger cosine of both A and of both learned
    vectors. ``is_heard``: the spec has layers that read text.
    """

    leaf: int
    concept: str
    state: ContributionState
    to_it: float
    from_it: float
    alike: float
    is_heard: bool = True


@dataclass(frozen=True, eq=False)  # no slots: a cached property needs a place
class Voice:
    """What is compared of one contribution; ``vectors``: all learned vectors, in a row."""

    concept: str
    heard: Heard
    vectors: np.ndarray

    @cached_property
    def lengths(self) -> tuple[float, float]:
        """The lengths of A, all layers together, and of the learned vectors."""
        squares = sum(float(np.vdot(a, a)) for a in self.heard.a.values())
        return math.sqrt(squares), float(np.linalg.norm(self.vectors))

    @classmethod
    def read(cls, path: Path, layout: ContributionLayout, lease: Lease) -> "Voice":
        """Return it from a blob whose hash was checked when it came."""
        with path.open("rb") as file:
            exponents = admission.read_exponents(file, layout)

            def values(name: str) -> np.ndarray:
                return dequantise(admission.read(file, layout, name, exponents[name]))

            names = [info.name for info in layout.content]
            a = {layer.path: values(f"a.{layer.path}") for layer in text_readers(layout.spec)}
            probes = [values(name) for name in names if name.startswith("probe.")]
            vectors = [values(name).ravel() for name in names if name.startswith("embed.")]
        heard = Heard(lease.home, a, np.stack(probes))
        return cls(lease.concept, heard, np.concatenate(vectors))

    @property
    def num_bytes(self) -> int:
        """What it takes in memory."""
        return self.vectors.nbytes + sum(a.nbytes for a in self.heard.a.values())


class Company:
    """Every contribution that is there, as far as memory holds; threads may share it."""

    def __init__(self, house: House) -> None:
        """Start with nothing in memory."""
        self._house = house
        self._voices: OrderedDict[int, Voice] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def neighbours(self, own: Voice, *, besides: int = 0) -> tuple[Neighbour, ...]:
        """Return how ``own`` stands to all but those of the concept that begins at ``besides``.

        Whoever owns a part of it: the parts of one concept are meant to be alike.
        """
        spec = self._house.facts.spec
        here, is_heard = response(spec, own.heard, own.heard.probes), bool(own.heard.a)
        others = list[tuple[int, ContributionState, Voice, np.ndarray]]()
        for leaf, state, first in self._house.store.run(contribution_rows.states):
            other = self._voice(leaf) if first != besides and state in _SEEN else None
            if other is not None:
                there = response(spec, other.heard, other.heard.probes) if is_heard else here
                others.append((leaf, state, other, there))
        floor = floor_of([here, *(x for _, state, _, x in others if state == "accepted")])
        found = list[Neighbour]()
        for leaf, state, other, there in others:
            pair = (0.0, 0.0)
            if is_heard:
                to_it = share(there, response(spec, own.heard, other.heard.probes), floor=floor)
                from_it = share(here, response(spec, other.heard, own.heard.probes), floor=floor)
                pair = _worst(to_it), _worst(from_it)
            alike = _alike(own, other)
            found.append(Neighbour(leaf, other.concept, state, *pair, alike, is_heard))
        return tuple(found)

    def keep(self, leaf: int, voice: Voice) -> None:
        """Have in memory what was read for its own Commit: the next one needs it."""
        with self._lock:
            before = self._voices.pop(leaf, None)  # another thread was faster
            self._voices[leaf] = voice
            self._bytes += voice.num_bytes - (0 if before is None else before.num_bytes)
            while self._bytes > _MOST_BYTES and len(self._voices) > 1:
                self._bytes -= self._voices.popitem(last=False)[1].num_bytes

    def _voice(self, leaf: int) -> Voice | None:
        """Return one contribution's; None for a private one, or one that was swept meanwhile."""
        with self._lock:
            if leaf in self._voices:
                self._voices.move_to_end(leaf)
                return self._voices[leaf]
        voice = read_voice(self._house, leaf)
        if voice is not None:
            self.keep(leaf, voice)
        return voice


def read_voice(house: House, leaf: int) -> Voice | None:
    """Return a committed contribution's; None for a private one, or one whose blob is gone."""
    found = house.store.run(lambda db: contribution_rows.readable(db, leaf))
    if found is None or parse(found[1].document, kind="contribution").body["form"] != "public":
        return None
    lease, upload = found
    try:
        return Voice.read(house.folder.blob(upload.blob), house.layout(lease.vectors), lease)
    except FileNotFoundError:
        return None


def _worst(shares: np.ndarray) -> float:
    """Return the share on the trigger where it is largest, in hundredths, with its sign."""
    return round(100 * float(shares[np.argmax(np.abs(shares))]), 2)


def _alike(one: Voice, other: Voice) -> float:
    """Return the larger cosine, in hundredths: a copy in another slot has the same A."""
    of_a, of_vectors = (mine * its for mine, its in zip(one.lengths, other.lengths, strict=True))
    cosines = [_cosine((one.vectors,), (other.vectors,), of_vectors)]
    if one.heard.a:
        cosines.append(_cosine((*one.heard.a.values(),), (*other.heard.a.values(),), of_a))
    return round(100 * max(cosines), 2)


def _cosine(one: Sequence[np.ndarray], other: Sequence[np.ndarray], size: float) -> float:
    """Return the sum of the products over ``size``, that of the lengths; 0 for other shapes."""
    if not size or [x.shape for x in one] != [x.shape for x in other]:
        return 0.0
    return sum(float(np.vdot(x, y)) for x, y in zip(one, other, strict=True)) / size
